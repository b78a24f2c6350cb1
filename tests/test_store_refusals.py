"""What is said if a store refuses: no access, nothing may be written, a clock that is off."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import Faults, Proxy
from small_grid import phantom_dataset, write_grid

from fgaug.core import store
from fgaug.core.store import Store, open_store
from fgaug.errors import StoreError


class Refusing(BaseHTTPRequestHandler):
    """Answers every request as S3 refuses one; answers to HEAD have no body."""

    protocol_version = "HTTP/1.1"
    code = "AccessDenied"

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        text = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(403)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    """A server on loopback that refuses everything, as the environment's store."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    handler = type("Refusing", (Refusing,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler
        server.shutdown()
        thread.join()


def test_no_credentials(refusing: type[Refusing], tmp_path: Path, fgaug: Any) -> None:
    phantom_dataset(tmp_path)
    code, _, err = fgaug("search", write_grid(tmp_path), "--out", "s3://bucket/x")
    assert code == 2
    assert "s3://bucket/x" in err
    assert "Access is denied: give credentials" in err
    assert "AWS_ACCESS_KEY_ID" in err


def test_a_clock_that_is_off(refusing: type[Refusing], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused HEAD does not say why, so both causes are named."""
    refusing.code = "RequestTimeTooSkewed"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    opened = open_store("s3://bucket/x", StoreError)
    with pytest.raises(StoreError, match=f"clock of {platform.node()} is too far from the store"):
        opened.entries("")
    with pytest.raises(
        StoreError, match=f"credentials.*, and check the clock of {platform.node()}"
    ):
        opened.read("file")


@pytest.fixture
def read_only(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with a file in it that lets nobody write."""
    open_store(f"{bucket}/x", StoreError).write("kept", b"as it was")
    with Proxy.started(s3_server.removeprefix("http://")) as proxy:
        proxy.set(Faults(refused=("PUT", "POST", "DELETE")))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setattr(store, "PATIENCE_S", 0.5)
        yield bucket


def test_a_bucket_that_lets_nobody_write(read_only: str, tmp_path: Path, fgaug: Any) -> None:
    """The search ends before it trains; what is there stays."""
    phantom_dataset(tmp_path)
    code, _, err = fgaug("search", write_grid(tmp_path), "--out", f"{read_only}/x")
    assert code == 2
    assert f"{read_only}/x/locks/search.lock cannot be reached" in err
    assert "give credentials that may read and write there" in err
    stored: Store = open_store(f"{read_only}/x", StoreError)
    assert set(stored.entries("")) == {"kept"}
    assert not (tmp_path / "bank").exists()
