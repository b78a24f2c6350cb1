"""Fractions of GPUs: as many trials at once as they add up to, and never one more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from small_grid import grid, phantom_dataset

from fgaug.core.cluster import started
from fgaug.grid.load import parse_space
from fgaug.study import search

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TITLES = ("ray::Trial", "ray::baseline ")  # of a trial's process: between steps, and in one


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """Yield how many processes hold a trial, looked at ten times a second."""
    counts: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            count = 0
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    count += " ".join(process.cmdline()).startswith(TITLES)
            counts.append(count)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield counts
    finally:
        ended.set()
        thread.join()


def test_two_logical_gpus_in_quarters_run_eight_at_once(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    space = parse_space(
        grid(
            tmp_path,
            axes={"mode": ["baseline"], "seed": list(range(24))},
            resources={"cpu": 0.25, "gpu": 0.25},
            budget={"unit": "steps", "max": 30, "evaluations": 2},
        )
    )
    with started(cpus=16, gpus=2, dashboard=False), watched() as counts:
        assert search.search(space, tmp_path / "run").ok == 24
    assert max(counts) == 8
