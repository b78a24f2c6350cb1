"""A training that is saved and goes on gives the numbers of one that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_trial import Bench, bench, cells_of

from fgaug.grid.cells import Cell
from fgaug.runs.results import TrialResult
from fgaug.runs.trial import Trial, run_trial

__all__ = ["bench"]  # a fixture

STEPS = {"unit": "steps", "max": 12, "evaluations": 5}
EPOCHS = {"unit": "epochs", "max": 3, "patience": 3}
FLIPS = [{"HorizontalFlip": {"p": 0.5}}, {"Affine": {"rotate": [-10, 10], "p": 0.7}}]


def budget_and_recipe(
    bench: Bench, budget: dict[str, Any], augmentation: Any, precision: str = "float32"
) -> Any:
    recipe = {
        "precision": precision,
        "model": "resnet10t",
        "pretrained": False,
        "batch_size": 8,
        "augmentation": augmentation,
        "dropout": 0.3,
    }
    return cells_of(bench.dataset, budget=budget, recipe=recipe)["augmentation"]


def compared(result: TrialResult) -> tuple[pd.DataFrame, np.ndarray, dict[str, Any]]:
    timed = ("wall_s", "train_images_per_s", "peak_rss_mb", "started_at")
    row = {name: value for name, value in result.row.items() if name not in timed}
    assert result.sealed is not None
    both = pd.concat([result.predictions, result.sealed])
    numbers = both.filter(like="p_").to_numpy()
    return result.curve.drop(columns="train_s"), numbers, row


@pytest.fixture(
    scope="module",
    params=[(STEPS, "fastai"), (STEPS, FLIPS), (EPOCHS, "fastai"), (EPOCHS, "none", "bfloat16")],
    ids=["steps-fastai", "steps-flips", "epochs-fastai", "epochs-none-bfloat16"],
)
def undisturbed(bench: Bench, request: pytest.FixtureRequest) -> tuple[Cell, TrialResult]:
    cell: Cell = budget_and_recipe(bench, *request.param)
    return cell, run_trial(cell, bench.sources)


@pytest.mark.parametrize("after", [1, 3])
def test_the_same_numbers_after_an_interruption(
    bench: Bench, tmp_path: Path, undisturbed: tuple[Cell, TrialResult], after: int
) -> None:
    cell, whole = undisturbed
    curve, predictions, row = compared(whole)
    first = Trial(cell, bench.sources, "cpu")
    for _, _ in zip(range(after), first, strict=False):
        pass
    first.save(tmp_path / "checkpoint")
    assert 0 < first.share < 1
    torch.manual_seed(99)  # another process draws other numbers
    second = Trial(cell, bench.sources, "cpu")
    assert second.restore(tmp_path / "checkpoint")
    assert second.share == first.share
    for _ in second:
        pass
    assert second.ended
    again = compared(second.result())
    pd.testing.assert_frame_equal(again[0], curve, check_exact=True)
    assert np.array_equal(again[1], predictions)
    assert {k: repr(v) for k, v in again[2].items()} == {k: repr(v) for k, v in row.items()}


def test_a_training_at_its_end_is_restored_too(bench: Bench, tmp_path: Path) -> None:
    cell = budget_and_recipe(bench, STEPS, "fastai")
    first = Trial(cell, bench.sources, "cpu")
    for _ in first:
        pass
    first.save(tmp_path / "checkpoint")
    second = Trial(cell, bench.sources, "cpu")
    assert second.restore(tmp_path / "checkpoint")
    assert list(second) == []
    assert np.array_equal(compared(second.result())[1], compared(first.result())[1])


@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "another cell"])
def test_a_checkpoint_that_cannot_be_used(
    bench: Bench, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The cell starts again: the same numbers, only later."""
    cell = budget_and_recipe(bench, STEPS, "fastai")
    path = tmp_path / "checkpoint"
    saved = cell if damage != "another cell" else budget_and_recipe(bench, EPOCHS, "fastai")
    first = Trial(saved, bench.sources, "cpu")
    next(iter(first))
    first.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:-1000])
    second = Trial(cell, bench.sources, "cpu")
    assert not second.restore(path)
    assert second.share == 0
    assert ("cannot be read" in caplog.text) == (damage in ("empty", "torn"))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (("left",), "is damaged or from another version of fgaug (KeyError: 'left')"),
        (("training", "memory"), "does not fit the cell (KeyError: 'memory')"),
        (("random",), "does not fit the cell (KeyError: 'random')"),
    ],
)
def test_a_checkpoint_without_a_part_changes_nothing_and_the_cell_starts_again(
    bench: Bench,
    tmp_path: Path,
    part: tuple[str, ...],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cell, path = budget_and_recipe(bench, STEPS, "fastai"), tmp_path / "checkpoint"
    first = Trial(cell, bench.sources, "cpu")
    for _, _ in zip(range(2), first, strict=False):
        pass
    first.save(path)
    state = torch.load(path, weights_only=True)
    holder = state
    for name in part[:-1]:
        holder = holder[name]
    del holder[part[-1]]
    torch.save(state, path)
    second = Trial(cell, bench.sources, "cpu")
    assert not second.restore(path)
    assert f"{path} {reason}" in caplog.text
    assert (second.share, second.curve, second.best, second.earlier_s) == (0, [], None, 0)
    for _ in second:
        pass
    again, whole = compared(second.result()), compared(run_trial(cell, bench.sources))
    pd.testing.assert_frame_equal(again[0], whole[0], check_exact=True)
    assert np.array_equal(again[1], whole[1])
