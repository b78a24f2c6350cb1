"""Ray and an S3 server on nodes that share no folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faulty_proxy
from faulty_proxy import Proxy
from nodes import PYTHON, Job, Node, until

RAY = str(Path(PYTHON).with_name("ray"))
MOTO = str(Path(PYTHON).with_name("moto_server"))
RAY_PORT, MOTO_PORT, PROXY_PORT = 6379, 9000, 9001
STARTS_S = 90.0  # Ray on a busy machine with two cores
NOTICED_S = 60.0  # until a dead node is known to be dead
_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB
# A head that misses a node after 6 s, not after 30. The token is what Ray's own users have.
_RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
_ALIVE = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="error")
found = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
print("alive:", json.dumps(found))
"""
_MAKE_BUCKET = """
import sys
from pyarrow import fs
files, _ = fs.FileSystem.from_uri(sys.argv[1] + "&allow_bucket_creation=true")
files.create_dir(sys.argv[2])
"""


class RayNodes:
    """A Ray cluster, one node of a network at a time."""

    def __init__(self, head: Node, *, head_cpus: int = 1) -> None:
        self.head = head
        self._token = secrets.token_hex(32)
        own = ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
        self._start(head, *own, cpus=head_cpus)

    def join(self, *nodes: Node) -> None:
        """Start Ray on these nodes too, all at the same time."""
        with ThreadPoolExecutor() as pool:
            address = f"--address={self.head.address}:{RAY_PORT}"
            list(pool.map(lambda node: self._start(node, address), nodes))

    def alive(self) -> list[str]:
        """Return the addresses of the nodes that the head counts as living."""
        return sorted(told(self.head.python(_ALIVE), "alive:"))

    def wait_for(self, *nodes: Node) -> None:
        """Wait until exactly these nodes live, as far as the head knows."""
        wanted = sorted(node.address for node in nodes)
        until(lambda: self.alive() == wanted, NOTICED_S, f"the head knows {wanted} alone")

    def _start(self, node: Node, *words: str, cpus: int = 1) -> None:
        token = node.path("/root/.ray/auth_token")
        token.parent.mkdir()
        token.write_text(self._token)
        token.chmod(0o600)
        node.env |= _RAY
        own = [f"--node-ip-address={node.address}", f"--num-cpus={cpus}"]
        less = [f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"]
        node.run([RAY, "start", *words, *own, *less], seconds=STARTS_S)


def told(output: str, mark: str) -> Any:
    """Return the JSON behind a mark in a command's output, where Ray's warnings are too."""
    (line,) = (line for line in output.splitlines() if line.startswith(mark))
    return json.loads(line.removeprefix(mark))


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """moto's S3 server behind a proxy, on a node of its own."""

    node: Node
    server: Job
    proxy: Proxy

    def uri(self, path: str, *, direct: bool = False) -> str:
        """Return the URI of `path`, BUCKET/KEY, with endpoint and credentials.

        Args:
            path: a bucket, and what is in it.
            direct: leave the proxy out.
        """
        endpoint = f"{self.node.address}%3A{MOTO_PORT if direct else PROXY_PORT}"
        return f"s3://key:secret@{path}?endpoint_override={endpoint}&scheme=http&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        """Create an empty bucket."""
        self.node.python(_MAKE_BUCKET, self.uri(name, direct=True), name)


@contextmanager
def s3_on(node: Node) -> Iterator[S3]:
    """Run an S3 server and its proxy on a node."""
    node.put(faulty_proxy.FILE, "/srv/proxy.py")
    upstream = f"{node.address}:{MOTO_PORT}"
    with node.start([MOTO, "-H", node.address, "-p", str(MOTO_PORT)]) as server:
        until(lambda: "Running on" in server.output(), STARTS_S, "moto_server listens")
        words = node.command([PYTHON, "/srv/proxy.py"])
        listen = f"{node.address}:{PROXY_PORT}"
        with Proxy.started(upstream, listen=listen, words=words, env=node.env) as proxy:
            yield S3(node=node, server=server, proxy=proxy)
