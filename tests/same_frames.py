"""Two runs of one grid compared to the last digit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fgaug.runs.results import load_curves, load_predictions, load_results

# What may differ between two trainings of one cell: times, rates, memory, where and when.
TIMED = ("wall_s", "train_images_per_s", "peak_rss_mb", "peak_gpu_mb", "host", "started_at")


def assert_same(run: Path, whole: Path) -> None:
    """Compare rows, curves and predictions; times are not the same."""
    for load in (load_results, load_curves, load_predictions):
        assert_same_frames(load(run), load(whole))


def assert_same_frames(*frames: pd.DataFrame) -> None:
    """Compare two frames of one kind, without their columns of times."""
    timed = [name for name in (*TIMED, "train_s") if name in frames[0]]
    one, two = (
        frame.drop(columns=timed).sort_values("cell_id", kind="stable", ignore_index=True)
        for frame in frames
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)
