"""Fills killed at any moment: nothing whole is lost, nothing torn is kept, no image is twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fgaug.bank import open_bank
from fgaug.errors import BankError

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "a.pkl"
SEEDS_A_ROUND = 3000
WHO = ("driver", "actor", "both")


def fill_command(root: Path, last: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "fgaug",
        "bank",
        "fill",
        str(root),
        "--snapshot",
        f"trv={NETWORK}",
        "--psi",
        "0.7,1",
        "--seeds",
        f"1-{last}",
    ]


def killed_fill(root: Path, last: int, who: str, rng: random.Random) -> str:
    """Start a fill, kill some of it with signal 9 once it works, and return its messages."""
    with (root.parent / "fill.log").open("w+") as log:
        process = subprocess.Popen(fill_command(root, last), stdout=log, stderr=log)
        workers = _workers(process)
        time.sleep(rng.uniform(0, 2.5))
        with contextlib.suppress(psutil.NoSuchProcess):
            if who in ("actor", "both"):
                rng.choice(workers).kill()
            if who in ("driver", "both"):
                process.send_signal(signal.SIGKILL)
        code = process.wait(120)
        _until_gone(workers)
        log.seek(0)
        text = log.read()
    if who == "actor":
        assert code == 0, text  # Ray starts it again
    return text


def _workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the fill's actors as soon as there are any."""
    for _ in range(600):
        time.sleep(0.1)
        assert process.poll() is None, "the fill ended before it could be killed"
        below = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            titles = ((each, " ".join(each.cmdline())) for each in below)
            found = [each for each, title in titles if "GanWorker" in title or " psi " in title]
            if found:
                return found
    raise AssertionError("no actor appeared")


def _until_gone(workers: list[psutil.Process]) -> None:
    """Wait for the actors: Ray ends what a killed driver leaves behind."""
    _, left = psutil.wait_procs(workers, timeout=60)
    assert not left


def check(root: Path, last: int) -> None:
    """After one more fill: verify is clean, every z_seed is there once."""
    subprocess.run(fill_command(root, last), check=True, capture_output=True, timeout=300)
    verify = [sys.executable, "-m", "fgaug", "bank", "verify", str(root)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("clean\n")
    index = open_bank(root).index()
    for psi in (0.7, 1.0):
        held = index.loc[index["psi"] == psi, "z_seed"]
        assert sorted(held) == list(range(1, last + 1))
    assert not list(root.rglob("*.tmp"))


def rounds(root: Path, kills: int, seed: int) -> int:
    """Kill so many fills of one growing bank; return the last z_seed asked for."""
    rng = random.Random(seed)
    for number in range(kills):
        killed_fill(root, (number + 1) * SEEDS_A_ROUND, WHO[number % 3], rng)
        with contextlib.suppress(BankError):  # unfinished, until its first fill ends
            held = open_bank(root).index()
            assert not held.duplicated(["label", "psi", "z_seed"]).any()
    return kills * SEEDS_A_ROUND


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_driver(tmp_path: Path) -> None:
    root = tmp_path / "bank"
    check(root, rounds(root, 1, seed=1))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("FGAUG_KILL_SEED", "0"))
    root = tmp_path / "bank"
    check(root, rounds(root, 30, seed))
