"""Damaged network pickles by the thousand: a snapshot or our own error, fast, and nothing runs."""

from __future__ import annotations

import pickletools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pickle_writer import Call, pickled

from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import Snapshot, read_snapshot

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
FILES = {"pytorch": GOLDENS / "tiny.pkl", "tensorflow": GOLDENS / "tf" / "a.pkl"}
STORAGE_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # opens each nested stream
MOST_S = 2.0  # of processor time a file
FORBIDDEN = {"exec", "import", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn"}
FORBIDDEN |= {"subprocess.Popen", "os.fork", "ctypes.dlopen", "socket.connect", "os.remove"}

Random = np.random.Generator


class Seeds:
    """A file to start from, and the places where a change is no mere change of a weight."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.opcodes = [place for _, _, place in pickletools.genops(self.data)]
        self.nested: list[int] = []
        at = self.data.find(STORAGE_MAGIC)
        while at >= 0:
            self.nested.append(at)
            at = self.data.find(STORAGE_MAGIC, at + 1)


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_watch)  # stays until the process ends


@pytest.fixture(scope="module")
def files() -> dict[str, Seeds]:
    return {name: Seeds(path) for name, path in FILES.items()}


def place_in(random: Random, seeds: Seeds) -> int:
    """Return a byte to change: of an opcode, of a nested stream's head, or any."""
    kind = random.integers(4)
    if kind < 2:
        at = int(random.choice(seeds.opcodes)) + int(random.integers(3))
    elif kind == 2 and seeds.nested:
        at = int(random.choice(seeds.nested)) + int(random.integers(-8, 220))
    else:
        at = int(random.integers(len(seeds.data)))
    return min(at, len(seeds.data) - 1)


def flip_bits(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    damaged = bytearray(seeds.data)
    for _ in range(int(random.integers(1, 4))):
        damaged[place_in(random, seeds)] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def replace_bytes(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    damaged, at = bytearray(seeds.data), place_in(random, seeds)
    new = random.bytes(int(random.integers(1, 9)))
    damaged[at : at + len(new)] = new
    return bytes(damaged)


def delete_bytes(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    at = place_in(random, seeds)
    return seeds.data[:at] + seeds.data[at + int(random.integers(1, 40)) :]


def insert_bytes(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    at = int(random.choice(seeds.opcodes))
    known = bytes(seeds.data[int(place)] for place in random.choice(seeds.opcodes, 4))
    new = known if random.integers(2) else random.bytes(int(random.integers(1, 9)))
    return seeds.data[:at] + new + seeds.data[at:]


def insert_call(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    """Put the call of a function between two opcodes: what a hostile file wants to have run."""
    at = int(random.choice(seeds.opcodes))
    names = [("os", "system"), ("builtins", "exec"), ("torch.storage", "_load_from_bytes")]
    module, name = names[int(random.integers(len(names)))]
    call = pickled(Call(module, name, "raise SystemExit"), protocol=2)[2:-1]
    return seeds.data[:at] + call + (b"0" if random.integers(2) else b"") + seeds.data[at:]


def truncate(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    return seeds.data[: place_in(random, seeds)]


def splice(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    """Put a stretch of the other program's file, whole opcodes, into this one."""
    first = int(random.integers(len(other.opcodes) - 1))
    last = min(first + int(random.integers(1, 60)), len(other.opcodes) - 1)
    stretch = other.data[other.opcodes[first] : other.opcodes[last]]
    at = int(random.choice(seeds.opcodes))
    return seeds.data[:at] + stretch + seeds.data[at + len(stretch) * int(random.integers(2)) :]


def swap_opcodes(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    places = [*seeds.opcodes, len(seeds.data)]
    first, second = sorted(int(n) for n in random.choice(len(places) - 1, 2, replace=False))
    one = seeds.data[places[first] : places[first + 1]]
    two = seeds.data[places[second] : places[second + 1]]
    between = seeds.data[places[first + 1] : places[second]]
    start, end = seeds.data[: places[first]], seeds.data[places[second + 1] :]
    return start + two + between + one + end


def noise(random: Random, seeds: Seeds, other: Seeds) -> bytes:
    head = seeds.data[: int(random.integers(4))]
    return head + random.bytes(int(random.integers(1, 2000)))


Mutation = Callable[[Random, Seeds, Seeds], bytes]  # the second lends a part
MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, replace_bytes, delete_bytes, insert_bytes, insert_call),
    *(truncate, splice, swap_opcodes, noise),
)

_events: list[str] | None = None  # None: nobody watches


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _events is not None and event in FORBIDDEN:
        _events.append(f"{event} {arguments!r:.200}")


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail where Python's own audit sees code loaded or run."""
    global _events
    _events = []
    try:
        yield
        assert _events == []
    finally:
        _events = None


def read_damaged(path: Path, files: dict[str, Seeds], seed: int, count: int) -> Counter[str]:
    """Read `count` damaged files; return how often each way of reading them ended."""
    random = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    names = list(files)
    for turn in range(count):
        mutation = MUTATIONS[turn % len(MUTATIONS)]
        chosen = int(random.integers(len(names)))
        damaged = mutation(random, files[names[chosen]], files[names[1 - chosen]])
        path.write_bytes(damaged)
        what = f"{mutation.__name__} of {names[chosen]}, turn {turn} of seed {seed}"
        started = time.thread_time()
        try:
            with nothing_runs():
                read = read_snapshot(path)
            assert isinstance(read, Snapshot), what
            ends["read"] += 1
        except SnapshotError as error:
            ends["refused" if str(path) in str(error) else f"unclear: {error}"] += 1
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        assert time.thread_time() - started < MOST_S, what
    return ends


# pickletools decodes an old text string before the reader can refuse it, and warns of `\\%`
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")


@pytest.fixture(autouse=True)
def _loaded_modules(files: dict[str, Seeds], tmp_path: Path) -> None:
    """Read good files first, so that what Python loads for them is not taken for a run."""
    for seeds in files.values():
        (tmp_path / "good.pkl").write_bytes(seeds.data)
        read_snapshot(tmp_path / "good.pkl")


def test_the_watch_sees_code_that_runs() -> None:
    with pytest.raises(AssertionError, match="exec"), nothing_runs():
        exec("1")
    with nothing_runs():
        pass


@pytest.mark.parametrize("seed", range(5))
def test_damaged_files_end_in_one_kind_of_error(
    tmp_path: Path, files: dict[str, Seeds], seed: int
) -> None:
    ends = read_damaged(tmp_path / "damaged.pkl", files, seed=seed, count=200)
    assert set(ends) == {"read", "refused"}
    assert ends["refused"] > 100
    assert ends["read"] > 5  # damage that changes a weight, or nothing
