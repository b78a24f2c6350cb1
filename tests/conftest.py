"""What all tests share: a cache of their own, hostile paths, hypothesis without a clock."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from fgaug.cli import app

# no deadline: shared machines stall; no database: tests leave nothing in the clone
settings.register_profile("fgaug", deadline=None, database=None)
settings.load_profile("fgaug")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep decoded pixels out of the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGAUG_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Yield the URL of a real S3 server on loopback."""
    from moto.server import ThreadedMotoServer  # late: a second of imports for few tests

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of a new bucket; the environment has the server and the credentials."""
    from pyarrow.fs import FileSystem

    known = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "not-to-be-shown",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    made, _ = FileSystem.from_uri(f"s3://{bucket}?allow_bucket_creation=true")
    made.create_dir(bucket)
    return f"s3://{bucket}"


@pytest.fixture
def secret_bucket(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of a new bucket with server and credentials in it, which nothing else has.

    Requests that fail are not repeated for long.
    """
    from fgaug.core import store

    monkeypatch.setattr(store, "PATIENCE_S", 0.5)
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"):
        monkeypatch.delenv(f"AWS_{name}")
    server = s3_server.removeprefix("http://").replace(":", "%3A")
    options = f"endpoint_override={server}&scheme=http&region=us-east-1"
    return f"s3://key:secret@{bucket.removeprefix('s3://')}?{options}"


@pytest.fixture
def odd_root(tmp_path: Path) -> Path:
    """Return a folder whose path has blanks, quotes, brackets, a percent sign and an umlaut."""
    root = tmp_path / 'it\'s a "tëst" [1] 100% #x ?y'
    root.mkdir()
    return root


@pytest.fixture
def fgaug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fgaug", *map(str, arguments)])
        monkeypatch.delenv("FGAUG_DEBUG", raising=False)
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
