"""A real Prometheus on loopback that scrapes the Ray of one session, and its HTTP API."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNPACKED = Path(sys.prefix) / "prometheus" / "usr" / "bin"  # by `make test-all`


def binary() -> str | None:
    return shutil.which("prometheus") or shutil.which("prometheus", path=str(UNPACKED))


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series that a query finds now."""
        asked = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        return [(each["metric"], float(each["value"][1])) for each in found["data"]["result"]]

    def until(self, query: str, wanted: Any, seconds: float = 60) -> Any:
        """Return the answer to a query as soon as `wanted` accepts it, or the last one."""
        end = time.monotonic() + seconds
        while not wanted(found := self.ask(query)) and time.monotonic() < end:
            time.sleep(0.2)
        return found


@contextmanager
def scraping(session: Path, root: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus with the configuration that Ray wrote, scraping every second.

    Args:
        session: the folder of a Ray session.
        root: an empty folder for its database.
    """
    written = (session / "metrics" / "prometheus" / "prometheus.yml").read_text()
    assert "scrape_interval: 10s" in written
    root.mkdir(parents=True)
    config = root / "prometheus.yml"
    config.write_text(written.replace(": 10s", ": 1s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*free.getsockname())
    command = [
        str(binary()),
        f"--config.file={config}",
        f"--storage.tsdb.path={root / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command)
    try:
        for _ in range(300):
            assert process.poll() is None, "Prometheus ended"
            with suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready"):
                break
            time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)
