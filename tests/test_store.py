"""Banks on object storage, against a real S3 server on loopback; and who may write when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer
from small_bank import STUB_SPEC as SPEC
from small_bank import STUBS
from small_grid import grid, phantom_dataset

import fgaug
from fgaug.bank import (
    BankSpec,
    BankWriter,
    Demand,
    Scorer,
    lock,
    open_bank,
    open_store,
    read_manifest,
    read_scores,
    unscored,
    write_scores,
)
from fgaug.bank.store import Store, read
from fgaug.core import cluster, lease
from fgaug.core.paths import BankNames, without_secrets
from fgaug.core.store import ObjectStore
from fgaug.errors import BankError
from fgaug.grid.load import parse_space
from fgaug.study import search
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe
from gan_worker.generators.stub import StubGenerator
from gan_worker.generators.stylegan2 import load_generator

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "tiny.pkl"


def demand(first: int, last: int) -> Demand:
    z_seeds = np.arange(first, last + 1)
    return Demand.of((label, psi, z_seeds) for label in STUBS for psi in (0.5, 1.0))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"endpoint_override={host}%3A{port}&scheme=http&region=us-east-1"
    running.stop()


@pytest.fixture
def uri(server: str, request: pytest.FixtureRequest) -> str:
    """Return the address of a bank in a bucket of its own, with a secret in it."""
    bucket = f"b{abs(hash(request.node.name)):x}"
    made = ObjectStore(f"s3://key:secret@{bucket}/?{server}&allow_bucket_creation=true", BankError)
    made._files.create_dir(bucket)
    return f"s3://key:secret@{bucket}/banks/one?{server}"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 0.3)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "STALE_S", 4.0)


@pytest.mark.usefixtures("quick")
class TestObjectStorage:
    def test_filled_read_and_extended(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 6)
        bank = fill(uri, SPEC, STUBS, demand(1, 10))
        expected = StubGenerator(8, 1)
        assert (bank.read("trv", 0.5, [9, 2]) == expected.generate([9, 2], 0.5)).all()
        before = {shard.path: shard for shard in bank.shards}
        fill(uri, SPEC, STUBS, demand(1, 14))
        again = fgaug.open_bank(uri)
        assert len(again.index()) == 4 * 14
        assert (again.read("dbp", 1, [14, 1]) == expected.generate([14, 1], 1)).all()
        assert before.items() <= {shard.path: shard for shard in again.shards}.items()
        assert not open_store(uri).has(BankNames.lock)

    def test_a_network_is_kept_there(self, uri: str, tmp_path: Path) -> None:
        file = tmp_path / "net.pkl"
        file.write_bytes(NETWORK.read_bytes())
        sources = {"dbp": LabelSource(kind="stylegan2", file=str(file))}
        spec = BankSpec(
            size=8, channels=1, noise="seeded", sources={"dbp": describe("dbp", sources["dbp"])}
        )
        wanted = Demand.of([("dbp", 0.7, np.array([1, 2]))])
        fill(uri, spec, sources, wanted)
        file.unlink()
        more = Demand.of([("dbp", 0.7, np.array([3]))])
        bank = fill(uri, spec, {"dbp": LabelSource(kind="stylegan2")}, more)
        expected = load_generator(NETWORK, "seeded").generate([3], 0.7)
        assert (bank.read("dbp", 0.7, [3]) == expected).all()

    def test_an_interrupted_fill_goes_on(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 4)
        write, left = ObjectStore.write, iter([True] * 5)

        def cut_off(self: ObjectStore, name: str, data: bytes) -> None:
            if name.startswith("shards") and not next(left, False):
                raise BankError("unreachable")
            write(self, name, data)

        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "write", cut_off)
            with pytest.raises(BankError, match="unreachable"):
                fill(uri, SPEC, STUBS, demand(1, 8))
        with pytest.raises(BankError, match="unfinished"):
            open_bank(uri)
        bank = fill(uri, SPEC, STUBS, demand(1, 8))
        assert len(bank.index()) == 32
        assert len(read_manifest(bank.store) or ()) == 8

    def test_scores_are_kept_there(self, uri: str) -> None:
        fill(uri, SPEC, STUBS, demand(1, 6))
        scorer = Scorer("classifier", "ab" * 32, ("confidence",))
        for z_seeds in ([3, 1], [6]):
            frame = pd.DataFrame({"z_seed": z_seeds, "confidence": [z / 10 for z in z_seeds]})
            write_scores(open_store(uri), scorer, "trv", 0.5, frame)
        assert unscored(open_store(uri), scorer, "trv", 0.5, range(1, 7)) == [2, 4, 5]
        found = read_scores(open_store(uri), scorer, "trv", 0.5, [6, 3])
        assert found["confidence"].tolist() == [0.6, 0.3]
        assert len(open_bank(uri).index(scores=["classifier"])) == 24
        assert not open_store(uri).has(BankNames.lock)

    def test_secrets_stay_out_of_messages(self, uri: str) -> None:
        with pytest.raises(BankError) as caught:
            open_bank(uri)
        assert "secret" not in str(caught.value)
        assert str(caught.value).startswith(f"s3://{uri.split('@')[1].split('?')[0]} is not a")
        with pytest.raises(BankError) as caught:
            open_bank("s3://key:secret@x/y?nonsense=1")
        assert "secret" not in str(caught.value)
        assert without_secrets("s3://k:s@bucket/a?x=y") == "s3://bucket/a?x=y"
        assert without_secrets("s3://bucket/a") == "s3://bucket/a"

    def test_a_bucket_that_is_not_there(self, server: str) -> None:
        with pytest.raises(BankError, match="cannot be reached"):
            fill(f"s3://key:secret@nowhere/x?{server}", SPEC, STUBS, demand(1, 2))

    def test_a_shard_that_was_altered(self, uri: str) -> None:
        bank = fill(uri, SPEC, STUBS, demand(100, 110))
        shard = bank.shards[0]
        bank.store.write(shard.path, b"x" * shard.bytes)
        with pytest.raises(BankError, match="is damaged"):
            open_bank(uri).read(shard.label, shard.psi, [100])

    @pytest.mark.ray
    @pytest.mark.slow
    def test_from_the_command_line(self, uri: str, fgaug: object) -> None:
        """Actors write there, and another command reads what they wrote."""
        run = [sys.executable, "-m", "fgaug", "bank"]
        options = ["--snapshot", f"dbp={NETWORK}", "--psi", "0.7", "--seeds", "1-40"]
        for command in ([*run, "fill", uri, *options], [*run, "verify", uri]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert "secret" not in done.stdout + done.stderr
        assert "40 images" in done.stdout
        assert done.stdout.endswith("clean\n")


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_on_a_bank_in_a_bucket(uri: str, tmp_path: Path) -> None:
    """Filled there, trained from there; the run's files do not repeat the secret."""
    phantom_dataset(tmp_path)
    space = parse_space(grid(tmp_path, bank=uri))
    with cluster.started(cpus=2, gpus=0, dashboard=False):
        run = search.search(space, tmp_path / "run")
    assert (run.ok, run.failed, run.missing) == (4, 0, 0)
    assert set(open_bank(uri).index()["label"]) == {"dbp", "trv"}
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if b"secret" in path.read_bytes()]


class Holder:
    """Holds a bank in a thread until it is told to let go."""

    def __init__(self, store: Store) -> None:
        self.let_go, self.holding = threading.Event(), threading.Event()
        self.failed: Exception | None = None
        self.thread = threading.Thread(target=self._hold, args=[store])
        self.thread.start()

    def _hold(self, store: Store) -> None:
        try:
            with lock.held(store):
                self.holding.set()
                self.let_go.wait(20)
        except BankError as error:
            self.failed = error

    def __enter__(self) -> Holder:
        assert self.holding.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(tmp_path / "bank")
    address: str = request.getfixturevalue("uri")
    return open_store(address)


@pytest.mark.usefixtures("quick")
class TestOneWriter:
    def test_the_second_waits_and_says_for_whom(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Holder(store) as first:
            with_lock = Holder(store)
            time.sleep(0.5)
            assert not with_lock.holding.is_set()
        with with_lock:
            assert first.failed is None
        said = [record.getMessage() for record in caplog.records]
        assert len([line for line in said if f"is held by process {os.getpid()} on" in line]) == 1

    def test_two_fills_at_once(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both get what they asked for; what both asked for is made once."""
        monkeypatch.setattr(BankSpec, "shard_rows", 8)
        made: list[int] = []
        generate = StubGenerator.generate

        def slowly(self: StubGenerator, z_seeds: list[int], *rest: object) -> np.ndarray:
            made.extend(z_seeds)
            time.sleep(0.01)
            return generate(self, z_seeds, *rest)  # type: ignore[arg-type]  # passed on as given

        monkeypatch.setattr(StubGenerator, "generate", slowly)
        ranges = [(1, 30), (21, 50), (11, 40)]
        threads = [
            threading.Thread(target=fill, args=(open_store(store.uri), SPEC, STUBS, demand(*each)))
            for each in ranges
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        bank = open_bank(store)
        assert len(bank.index()) == 4 * 50
        assert len(made) == 4 * 50

    def test_a_dead_writer_is_followed(self, store: Store) -> None:
        """Its lock goes with its process in a folder, and falls stale on object storage."""
        script = (
            "import os, sys, time\n"
            "from fgaug.bank import lock, open_store\n"
            "from fgaug.core import lease\n"
            "lease.SETTLE_S = 0.05\n"
            "with lock.held(open_store(sys.argv[1])):\n"
            "    print('held', flush=True)\n"
            "    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", script, store.uri]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            other.kill()
        started = time.monotonic()
        with lock.held(store):
            assert time.monotonic() - started < 10


@pytest.mark.usefixtures("quick")
class TestTakenOver:
    def test_a_silent_writer_elsewhere(self, uri: str) -> None:
        store = open_store(uri)
        entry = {"process": 1, "host": "elsewhere", "since": "2020-01-01T00:00:00+00:00"}
        store.write(BankNames.lock, json.dumps({**entry, "token": "a", "beat": 3}).encode())
        started = time.monotonic()
        with lock.held(store):
            assert time.monotonic() - started > 4  # as long as a living one stays silent

    def test_the_one_taken_over_commits_nothing(self, uri: str) -> None:
        store = open_store(uri)
        with BankWriter.opened(store, SPEC) as writer:
            entry = b'{"token": "other", "host": "elsewhere"}'
            for _ in range(20):  # a beat under way may write over it: then it was not taken over
                store.write(BankNames.lock, entry)
                time.sleep(0.5)
                if read(store, BankNames.lock).to_pybytes() == entry:
                    break
            writer.write("dbp", 0.7, np.array([1]), np.zeros((1, 8, 8, 1), np.uint8))
            with pytest.raises(BankError, match="was taken over by another writer"):
                writer.commit()
        assert not store.has(BankNames.manifest)
