"""Rounds: blocks of the pool, training that goes on, rows of reported rounds, a kill between."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_checkpoint import compared
from test_mix import LABELS, PLAIN
from test_trial import Bench, bench, cells_of, space_of

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError, TrialError
from fgaug.grid.cells import Cell
from fgaug.grid.rounds import block
from fgaug.runs import mix, trial_inputs
from fgaug.runs.results import TrialResult
from fgaug.runs.row import TrialSources
from fgaug.runs.trial import Trial, run_trial
from fgaug.study import estimate
from fgaug.study.estimate import Measured
from fgaug.study.schedule import at_its_round

__all__ = ["bench"]  # a fixture of the tests of trials

POOL = 60
ROUNDS = {"size": 20, "count": 3, "report_at": [2]}
AXES = {"mode": ["synthetic"], "psi": [0.7], "seed": [5]}
BUDGETS = {
    "steps": {"unit": "steps", "max": 4, "evaluations": 2},
    "epochs": {"unit": "epochs", "max": 3, "patience": 1},
}


def cascade(data: Any, budget: str = "steps", **changes: Any) -> Cell:
    grid = {"axes": AXES, "rounds": ROUNDS, "budget": BUDGETS[budget], "controls": []}
    return cells_of(data, remove=None, **{**grid, **changes})["synthetic"]


@pytest.fixture(scope="module")
def sources(bench: Bench) -> TrialSources:
    """The sources of trials, their bank filled for all rounds."""
    from gan_worker.filling.fill import fill
    from gan_worker.filling.label_generators import LabelSource

    cell, reals = cascade(bench.dataset), {"dataset": bench.reals}
    whole = [dataclasses.replace(cell, round=number) for number in (1, 2, 3)]
    spec = trial_inputs.bank_at(str(bench.sources.bank)).spec
    phantom = {label: LabelSource(kind="phantom") for label in bench.dataset.spec.labels}
    fill(str(bench.sources.bank), spec, phantom, mix.demand(whole, reals, POOL))
    return bench.sources


@given(pool=st.integers(1, 500), count=st.integers(1, 40))
def test_blocks_are_apart_and_of_one_size(pool: int, count: int) -> None:
    blocks = [block(pool, count, number) for number in range(1, count + 1)]
    assert {len(each) for each in blocks} == {pool // count}
    every = [z_seed for each in blocks for z_seed in each]
    assert every == list(range(1, pool // count * count + 1))


def test_each_round_draws_its_own_fakes_as_many_of_each_label(bench: Bench) -> None:
    cell = cascade(bench.dataset)
    drawn: dict[str, list[int]] = {label: [] for label in LABELS}
    for number in (1, 2, 3):
        here = dataclasses.replace(cell, round=number)
        plan = mix.plan(here, PLAIN, POOL)
        assert plan.n_real == 0
        assert plan.n_fake == 20
        for label in LABELS:
            z_seeds = plan.fakes[label]
            assert len(set(z_seeds)) == 10
            assert set(z_seeds) <= set(block(POOL, 3, number))
            drawn[label] += z_seeds.tolist()
            assert list(z_seeds) != list(mix.order(here, LABELS[label == LABELS[0]], POOL)[:10])
    assert all(len(set(z_seeds)) == 30 for z_seeds in drawn.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rounds": {"size": 20, "count": 3, "report_at": [4]}},
            "must not exceed `count` (3), got 4",
        ),
        ({"rounds": {"size": 20, "count": 3, "report_at": [2, 1]}}, "must be strictly increasing"),
        ({"rounds": {"size": 20}}, "`rounds.count` is missing"),
        ({"rounds": None}, "`axes.ratio` (or `axes.fakes`) is missing"),
        ({"scheduler": {"type": "arm_asha"}}, "round by round"),
        ({"axes": {**AXES, "mode": ["augmentation"], "ratio": [1]}}, "need synthetic arms"),
    ],
)
def test_a_grid_that_rounds_do_not_fit_is_refused(changes: Any, message: str) -> None:
    grid = {"axes": AXES, "rounds": ROUNDS, "controls": [], "remove": None}
    assert space_of(**grid).rounds.report_at == [2, 3]  # the last one always is
    with pytest.raises(GridError) as caught:
        space_of(**{**grid, **changes})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("size", "pool", "message"),
    [(21, 60, "2 labels cannot share"), (20, 29, "a round needs 10"), (20, 30, None)],
)
def test_a_pool_must_hold_enough_for_each_round(
    bench: Bench, size: int, pool: int, message: str | None
) -> None:
    cell = cascade(bench.dataset, rounds={"size": size, "count": 3})
    found = mix.check(cell, bench.reals, pool)
    assert (message is None and found == []) or (message or "") in "".join(found)


def test_what_is_reported_or_kept_is_not_in_a_cells_name(bench: Bench) -> None:
    named = cascade(bench.dataset).cell_id
    for other in ({"report_at": [1]}, {"keep_shards": False}):
        assert cascade(bench.dataset, rounds={**ROUNDS, **other}).cell_id == named
    for other in ({"size": 18}, {"count": 2}):
        assert cascade(bench.dataset, rounds={**ROUNDS, **other}).cell_id != named


@pytest.mark.parametrize("budget", ["steps", "epochs"])
def test_the_reported_rounds_have_rows_and_predictions_and_the_curve_has_all(
    bench: Bench, sources: TrialSources, budget: str
) -> None:
    cell = cascade(bench.dataset, budget)
    trained = Trial(cell, sources, "cpu")
    for _ in trained:
        pass
    result = trained.result()
    assert [row["round"] for row in (*result.earlier, result.row)] == [2, 3]
    assert [row["n_fake"] for row in (*result.earlier, result.row)] == [40, 60]
    assert result.row["n_fake_dbp"] == result.row["n_fake_trv"] == 30
    assert result.earlier[0]["images_seen"] < result.row["images_seen"]
    assert result.predictions.groupby("round").size().to_dict() == {
        number: (bench.dataset.manifest["split"] == "valid").sum() for number in (2, 3)
    }
    assert result.sealed is not None
    assert set(result.sealed["round"]) == {2, 3}
    curve = result.curve
    assert curve["round"].unique().tolist() == [1, 2, 3]
    assert curve["step"].is_monotonic_increasing
    assert curve["images_seen"].is_monotonic_increasing
    if budget == "steps":
        assert curve["step"].tolist() == [2, 4, 6, 8, 10, 12]
        assert (result.earlier[0]["budget_used"], result.row["budget_used"]) == (8, 12)


def test_a_round_is_what_a_training_from_its_start_weights_gives(
    bench: Bench, sources: TrialSources
) -> None:
    """The second round by hand: the first one's weights, fresh optimiser, the block's images."""
    cell = cascade(bench.dataset)
    trained = Trial(cell, sources, "cpu")
    points = iter(trained)
    while not trained.between_rounds or trained.cell.round == 1:
        next(points)
    weights = {name: value.copy() for name, value in trained.learner.weights().items()}
    draws = trained.learner.state()
    losses = [next(points).train_loss, next(points).train_loss]
    from fgaug.core.seeding import stream_seed
    from fgaug.runs.trial_inputs import bank_at, training_images
    from fgaug.training.backends import open_learner
    from fgaug.training.images import split_images

    labels = bench.dataset.spec.labels
    learner = open_learner(cell.recipe, labels, cell.seed, "cpu")
    plan = mix.plan(dataclasses.replace(cell, round=2), bench.reals, POOL)
    images = training_images(plan, bench.dataset, bank_at(str(sources.bank)))
    learner.load_weights(weights)
    learner.restore(draws)
    seed = stream_seed(cell.seed, "order of round 2")
    again = learner.train(images, split_images(bench.dataset, "valid"), cell.budget, seed)
    assert [point.train_loss for point in again] == losses


@pytest.fixture(scope="module", params=list(BUDGETS))
def undisturbed(
    bench: Bench, sources: TrialSources, request: pytest.FixtureRequest
) -> tuple[Cell, TrialResult]:
    cell = cascade(bench.dataset, request.param)
    return cell, run_trial(cell, sources)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_the_same_numbers_after_an_interruption_anywhere(
    bench: Bench,
    sources: TrialSources,
    tmp_path: Path,
    undisturbed: tuple[Cell, TrialResult],
    cut: int,
) -> None:
    cell, whole = undisturbed
    begun = Trial(cell, sources, "cpu")
    for number, _ in enumerate(begun, start=1):
        if number == cut:
            break
    begun.save(tmp_path / "checkpoint")
    resumed = Trial(cell, sources, "cpu")
    assert resumed.restore(tmp_path / "checkpoint")
    assert resumed.share == begun.share
    for _ in resumed:
        pass
    found = resumed.result()
    for a, b in zip(compared(found), compared(whole), strict=True):
        if isinstance(a, pd.DataFrame):
            pd.testing.assert_frame_equal(a, b)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            pd.testing.assert_series_equal(pd.Series(a), pd.Series(b))
    names = ("valid_loss", "valid_auc", "n_fake", "round", "best_step")
    rows = [[row[name] for name in names] for row in found.earlier]
    assert rows == [[row[name] for name in names] for row in whole.earlier]


def test_a_round_needs_no_images_of_the_rounds_before(
    bench: Bench, sources: TrialSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cascade(bench.dataset)
    begun = Trial(cell, sources, "cpu")
    for _ in begun:
        if begun.cell.round == 2:
            break
    begun.save(tmp_path / "checkpoint")
    asked: list[int] = []

    def noted(cell: Cell, *rest: Any) -> mix.MixPlan:
        asked.append(cell.round)
        return plan(cell, *rest)

    plan = mix.plan
    monkeypatch.setattr(mix, "plan", noted)
    resumed = Trial(cell, sources, "cpu")
    assert resumed.restore(tmp_path / "checkpoint")
    for _ in resumed:
        pass
    assert asked == [2, 3]


def test_what_is_between_two_rounds_says_what_the_last_one_found(
    bench: Bench, sources: TrialSources, tmp_path: Path
) -> None:
    n_valid = int((bench.dataset.manifest["split"] == "valid").sum())
    for report_at in ([2], [1]):  # whether or not that one gets a row
        cell = cascade(bench.dataset, rounds={**ROUNDS, "report_at": report_at})
        begun, resumed = Trial(cell, sources, "cpu"), Trial(cell, sources, "cpu")
        for _ in begun:
            if begun.cell.round == 2:
                break
        begun.save(tmp_path / "checkpoint")
        assert resumed.restore(tmp_path / "checkpoint")
        for one in (begun, resumed):
            result = one.result()
            assert result.row["round"] == 1
            assert one.share == 1 / 3
            assert not result.earlier
            assert result.predictions["round"].eq(1).all()
            assert len(result.predictions) == n_valid


def test_a_loss_that_is_no_number_ends_a_cascade_too(bench: Bench, sources: TrialSources) -> None:
    cell = cascade(bench.dataset)
    wild = cell.recipe.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrialError):
        run_trial(dataclasses.replace(cell, recipe=wild), sources)


def test_each_round_takes_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cascade(bench.dataset)
    rates = Measured(train_per_s=8.0, valid_per_s=20.0, memory_bytes=1, gpu_bytes=None)
    monkeypatch.setattr(estimate, "measure", lambda *_: rates)
    n_valid = int((bench.dataset.manifest["split"] == "valid").sum())
    a_round = 4 + 2 * n_valid / 20  # 4 steps of 8 images, 2 looks
    for number, left in ((1, 3), (3, 1)):
        here = dataclasses.replace(cell, round=number)
        seconds = estimate.trial_seconds([here], bench.dataset, POOL, 1)
        assert seconds == pytest.approx(left * a_round)


@pytest.mark.parametrize("count", [3, 7, 30])
def test_a_cell_goes_on_in_the_round_it_has_not_ended(
    bench: Bench, tmp_path: Path, count: int
) -> None:
    cell = cascade(bench.dataset, rounds={"size": 2, "count": count})
    run = RunPaths(tmp_path)
    files.write_text(run.trial(cell.cell_id).checkpoint, "")
    for ended in range(count):
        for within in (0.0, 0.25, 0.5, 0.9):
            share = {"share": (ended + within) / count}
            files.write_json(run.trial(cell.cell_id).paused, share)
            assert at_its_round(run, cell, None).round == ended + 1
    assert at_its_round(run, cell, "failed").round == count
    assert at_its_round(run, cell, "ok").round == count
