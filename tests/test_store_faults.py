"""An object store whose requests are lost, refused or cut: what is there is whole."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import Faults, Proxy
from moto.server import ThreadedMotoServer

from fgaug.core import store as stores
from fgaug.core.store import ObjectStore, read
from fgaug.errors import BankError

FAULTY = Faults(fail=0.1, cut=0.15, seed=7)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with Proxy.started(server) as running:
        yield running


@pytest.fixture
def store(proxy: Proxy, server: str, request: pytest.FixtureRequest) -> ObjectStore:
    """Return a store in a bucket of its own, reached through the proxy."""
    bucket = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    where = f"?endpoint_override=127.0.0.1%3A{proxy.port}&scheme=http&region=us-east-1"
    made = ObjectStore(f"s3://key:secret@{bucket}/{where}&allow_bucket_creation=true", BankError)
    made._files.create_dir(bucket)
    return ObjectStore(f"s3://key:secret@{bucket}/run{where}", BankError)


def content(number: int, size: int = 30_000) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (size // 32)


def test_each_request_is_repeated_until_it_is_done(
    store: ObjectStore, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.set(FAULTY)
    names = {f"trials/{number}/row.json": content(number) for number in range(40)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.write, names, names.values()))
        found = list(pool.map(lambda name: read(store, name, BankError).to_pybytes(), names))
        list(pool.map(lambda name: store.download(name, tmp_path / name), names))
        assert all(pool.map(store.has, names))
    assert found == list(names.values())
    assert {name: (tmp_path / name).read_bytes() for name in names} == names
    assert store.sizes("trials") == {name: len(data) for name, data in sorted(names.items())}
    counts = proxy.counts()
    assert min(counts[fate] for fate in ("fail", "before", "request", "answer")) >= 3
    for name in list(names)[:10]:
        store.remove(name)
    assert len(store.sizes("trials")) == 30


def test_a_small_object_takes_one_request(store: ObjectStore, proxy: Proxy) -> None:
    store.write("small", b"whole")
    store.write("largest", bytes((8 << 20) - 1))
    counts = proxy.counts()
    assert (counts["PUT"], counts["POST"]) == (2 + 1, 0)  # and the bucket
    store.write("large", bytes(8 << 20))
    assert proxy.counts()["POST"] == 2  # begins and ends an upload in parts


def test_it_waits_while_the_store_is_away(store: ObjectStore, proxy: Proxy) -> None:
    proxy.off()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(store.write, "one", b"whole")
        time.sleep(1)
        assert not writing.done()
        proxy.on()
        writing.result(30)
    assert read(store, "one", BankError).to_pybytes() == b"whole"


def test_it_gives_up_with_one_message(
    store: ObjectStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PATIENCE_S", 1.0)
    proxy.off()
    with pytest.raises(BankError, match=r"/run/one cannot be reached .*Check the address") as told:
        store.write("one", b"whole")
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)
    proxy.on()
    with pytest.raises(FileNotFoundError):
        store.open("one")


def test_an_object_is_never_half_there(
    store: ObjectStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request of the second write is cut somewhere: the first or the second is there.

    pyarrow, left to itself, puts an empty object in the place of one that it uploads in parts.
    """
    monkeypatch.setattr(stores, "PATIENCE_S", 1.0)
    first, second = content(1, 25_000_000), content(2, 25_000_000)
    store.write("one", first)
    proxy.set(Faults(cut=1, seed=1))
    with pytest.raises(BankError, match="cannot be reached"):
        store.write("one", second)
    proxy.set(Faults())
    assert read(store, "one", BankError).to_pybytes() in (first, second)
    store.write("one", second)
    assert read(store, "one", BankError).to_pybytes() == second


def test_a_signal_within_a_write_leaves_no_empty_object(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers raise in the main thread, here between the opening of a stream and its write."""
    files = store._files
    opened = threading.Event()

    class Interrupted:
        def open_output_stream(self, path: str) -> Any:
            stream = files.open_output_stream(path)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            opened.set()
            return stream

    monkeypatch.setattr(store, "_files", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        store.write("one", b"whole")
    monkeypatch.undo()
    assert opened.wait(5)
    for thread in threading.enumerate():
        if thread.name == "fgaug-write":
            thread.join(10)
    assert read(store, "one", BankError).to_pybytes() == b"whole"


def test_a_file_is_never_half_fetched(
    store: ObjectStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "PATIENCE_S", 1.0)
    store.write("one", content(1, 3_000_000))
    proxy.set(Faults(cut=1, seed=1))
    with pytest.raises(BankError, match="cannot be reached"):
        store.download("one", tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
