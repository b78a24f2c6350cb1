"""One contract for both backends: the same plan, pixels, budgets, columns, files and promises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_rounds import cascade, sources
from test_trial import Bench, bench, cells_of

from fgaug.core.paths import TrialPaths
from fgaug.errors import TrialError
from fgaug.grid.cells import Cell
from fgaug.runs.results import TrialResult
from fgaug.runs.row import TrialSources
from fgaug.runs.trial import Trial, run_trial
from fgaug.training import predict, saved_model

__all__ = ["bench", "sources"]  # fixtures

RECIPES: dict[str, dict[str, Any]] = {
    "torch": {"model": "resnet10t", "pretrained": False, "batch_size": 8},
    "keras": {
        "backend": "keras",
        "model": "VGG16",
        "pretrained": False,
        "batch_size": 8,
        "keras": {"hidden": 8, "freeze_below": 17},
    },
}
STEPS = {"unit": "steps", "max": 6, "evaluations": 3}
EPOCHS = {"unit": "epochs", "max": 3, "patience": 1}
TIMED = ("wall_s", "train_images_per_s", "peak_rss_mb", "started_at", "device")
both = pytest.mark.parametrize("backend", RECIPES)


def cell_of(bench: Bench, backend: str, budget: dict[str, Any], **changes: Any) -> Cell:
    recipe = {**RECIPES[backend], **changes}
    return cells_of(bench.dataset, budget=budget, recipe=recipe)["augmentation"]


def trained(bench: Bench, backend: str, budget: dict[str, Any], after: int = 99) -> Trial:
    """Return a trial after so many looks, or at its end."""
    trial = Trial(cell_of(bench, backend, budget), bench.sources, "cpu")
    for _, _ in zip(range(after), trial, strict=False):
        pass
    return trial


@pytest.fixture(scope="module")
def results(bench: Bench) -> dict[str, TrialResult]:
    return {name: trained(bench, name, STEPS).result(keep_model=True) for name in RECIPES}


def test_rows_have_the_same_columns_and_counts(results: dict[str, TrialResult]) -> None:
    ours, theirs = (results[name].row for name in RECIPES)
    assert list(ours) == list(theirs)
    named = ["mode", "psi", "ratio", "filter", "seed", "status", "stopped_by", "error", "n_real"]
    named += ["n_fake", "n_dropped", "budget_unit", "budget_used", "images_seen", "leakage"]
    named += ["n_fake_dbp", "n_fake_trv", "dataset_digest", "snapshots", "micro_batch"]
    assert {name: ours[name] for name in named} == {name: theirs[name] for name in named}
    assert ours["recipe_digest"] != theirs["recipe_digest"]
    assert theirs["device"].startswith("cpu x")
    assert theirs["peak_rss_mb"] > ours["peak_rss_mb"]  # of both processes


def test_curves_have_the_same_columns_and_looks(results: dict[str, TrialResult]) -> None:
    ours, theirs = (results[name].curve for name in RECIPES)
    assert list(ours) == list(theirs)
    for name in ("step", "images_seen"):
        assert ours[name].tolist() == theirs[name].tolist()
    assert not theirs["frozen"].any()
    assert theirs["epoch"].isna().all()
    assert theirs["train_s"].is_monotonic_increasing


def test_predictions_have_the_same_shape_and_order(results: dict[str, TrialResult]) -> None:
    for part in ("predictions", "sealed"):
        ours, theirs = (getattr(results[name], part) for name in RECIPES)
        assert list(ours) == list(theirs)
        pd.testing.assert_frame_equal(ours.iloc[:, :3], theirs.iloc[:, :3])
        assert theirs.filter(like="p_").dtypes.eq(np.float64).all()
        np.testing.assert_allclose(theirs.filter(like="p_").sum(axis=1), 1, atol=1e-12)


@both
def test_the_same_cell_gives_the_same_numbers(
    backend: str, bench: Bench, results: dict[str, TrialResult]
) -> None:
    again, first = trained(bench, backend, STEPS).result(), results[backend]
    same(again, first)


def same(one: TrialResult, other: TrialResult) -> None:
    for part in ("predictions", "sealed"):
        pd.testing.assert_frame_equal(getattr(one, part), getattr(other, part), check_exact=True)
    curves = (result.curve.drop(columns="train_s") for result in (one, other))
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    rows = ({k: repr(v) for k, v in r.row.items() if k not in TIMED} for r in (one, other))
    assert next(rows) == next(rows)


@both
def test_a_training_goes_on_from_its_checkpoint(
    backend: str, bench: Bench, results: dict[str, TrialResult], tmp_path: Path
) -> None:
    first = trained(bench, backend, STEPS, after=2)
    first.save(tmp_path / "checkpoint")
    share = first.share
    first.result()  # as the worker does: the best weights are in place now
    second = Trial(first.cell, bench.sources, "cpu")
    assert second.restore(tmp_path / "checkpoint")
    assert second.share == share
    for _ in second:
        pass
    same(second.result(), results[backend])


@both
def test_epochs_end_by_patience_or_by_the_budget(backend: str, bench: Bench) -> None:
    result = trained(bench, backend, EPOCHS).result()
    row, counted = result.row, result.curve.query("not frozen")
    assert counted["epoch"].tolist() == list(range(1, len(counted) + 1))
    assert counted["step"].diff().dropna().nunique() <= 1  # passes of one length
    losses = counted["valid_loss"].to_numpy()
    worse = losses[1:] >= np.minimum.accumulate(losses)[:-1]
    expected = 2 + int(np.argmax(worse)) if worse.any() else 3
    assert row["budget_used"] == len(counted) == expected
    assert row["stopped_by"] == ("patience" if worse.any() else "budget")
    assert row["best_epoch"] == counted["epoch"].iloc[int(np.argmin(losses))]
    assert row["valid_loss"] == losses.min()


@both
def test_a_loss_that_is_no_number_ends_the_trial(backend: str, bench: Bench) -> None:
    cell = cell_of(bench, backend, STEPS, learning_rate=1e30)
    with pytest.raises(TrialError, match=r"Lower `recipe\.learning_rate`"):
        run_trial(cell, bench.sources)


@both
def test_a_kept_model_answers_as_in_its_trial(
    backend: str, bench: Bench, results: dict[str, TrialResult], tmp_path: Path
) -> None:
    result, trial = results[backend], TrialPaths(tmp_path)
    assert result.model is not None
    saved_model.write(trial, result.model)
    assert saved_model.read(trial.model).card.recipe["backend"] == backend
    found = predict.predict(trial.model, bench.dataset.root)
    wanted = result.predictions
    assert found["image"].tolist() == wanted["image_id"].tolist()
    for name in ("p_dbp", "p_trv"):
        np.testing.assert_array_equal(found[name], wanted[name])


@both
def test_image_files_are_predicted(
    backend: str, bench: Bench, results: dict[str, TrialResult], tmp_path: Path
) -> None:
    from PIL import Image

    result, trial = results[backend], TrialPaths(tmp_path / "t")
    assert result.model is not None
    saved_model.write(trial, result.model)
    of_valid = np.flatnonzero(bench.dataset.manifest["split"] == "valid")[:5]
    for place in of_valid:
        pixels = bench.dataset.pixels()[place, :, :, 0]
        Image.fromarray(pixels).save(tmp_path / f"{place:03d}.png")
    found = predict.predict(trial.model, tmp_path)
    np.testing.assert_allclose(found["p_trv"], result.predictions["p_trv"][:5], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["between two rounds", "in the second"])
def test_keras_goes_on_through_rounds(
    bench: Bench, sources: TrialSources, tmp_path: Path, cut: str
) -> None:
    """Epochs are counted without a gap; what is left of a round is all that the next one needs."""
    cell = cascade(bench.dataset, "epochs", recipe=RECIPES["keras"])
    whole = Trial(cell, sources, "cpu")
    ends = []
    for _ in whole:
        if whole.between_rounds:
            ends.append(len(whole.curve))
    result = whole.result()
    curve = result.curve
    assert curve["round"].unique().tolist() == [1, 2, 3]
    assert curve["epoch"].tolist() == list(range(1, len(curve) + 1))
    begun = Trial(cell, sources, "cpu")
    looks = ends[0] + (cut == "in the second")
    for _, _ in zip(range(looks), begun, strict=False):
        pass
    begun.save(tmp_path / "checkpoint")
    resumed = Trial(cell, sources, "cpu")
    assert resumed.restore(tmp_path / "checkpoint")
    for _ in resumed:
        pass
    same(resumed.result(), result)


def test_tensorflow_is_not_in_this_process(results: dict[str, TrialResult]) -> None:
    assert results["keras"].row["status"] == "ok"
    assert "tensorflow" not in sys.modules
    assert "keras" not in sys.modules
