"""What a grid sets out to show: its keys, the baseline's seeds, the plan frozen by digest."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_grid import grid, phantom_dataset

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError, RunError
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation, seeds_of_baseline
from fgaug.grid.axes import Axes
from fgaug.grid.cells import Cell, Context, cells_of
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand, seeds_after
from fgaug.grid.space import Space
from fgaug.runs import folder
from fgaug.runs.preregistration import (
    Preregistration,
    deviations,
    freeze,
    plan_of,
    read,
    read_latest,
    to_dict,
)
from fgaug.runs.results import write_row
from fgaug.study import planner
from fgaug.study.confirmation.design import FIRST_FRESH, fresh_seeds

HERE = Path("nowhere")
AXES = {"mode": ["augmentation"], "psi": [0.5, 1.0], "ratio": [1], "seed": [1, 2]}


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(GridError) as refused:
        parse_space(grid(HERE, **changes))
    return refused.value.problems


# -- keys ----------------------------------------------------------------------------------------


def test_without_the_keys_a_grid_is_as_before() -> None:
    space = parse_space(grid(HERE))
    assert (space.analysis, space.confirmation) == (AnalysisPlan(), None)
    assert space.baseline_seeds is None


def test_the_keys_are_read_and_written_back() -> None:
    analysis = {"metric": "brier", "contrast": "twin", "margin": 0.01, "retention": 0.6}
    confirmation = {"screen_seeds": 2, "confirm_seeds": 10, "top": 2}
    changes = {"analysis": analysis, "confirmation": confirmation, "baseline_seeds": "auto"}
    space = parse_space(grid(HERE, **changes))
    assert space.analysis == AnalysisPlan(**analysis)  # type: ignore[arg-type]
    assert space.confirmation == Confirmation(**confirmation)
    assert parse_space(yaml.safe_load(space.to_yaml())) == space


def test_no_key_changes_a_cell() -> None:
    plain = cells(parse_space(grid(HERE)))
    changes = {"analysis": {"metric": "brier"}, "confirmation": {}, "baseline_seeds": 4}
    planned = cells(parse_space(grid(HERE, **changes)))
    assert {cell.cell_id for cell in plain} < {cell.cell_id for cell in planned}
    assert [cell.mode for cell in planned if cell not in plain] == ["baseline"] * 2


def cells(space: Space) -> tuple[Cell, ...]:
    weights = {space.recipe.model_dump_json(): "w"}
    context = Context(dataset_digest="d", generator={}, pool=100, weights=weights)
    return cells_of(space, expand(space), {None: context})


def test_every_problem_is_said_at_once() -> None:
    found = problems(
        analysis={"metric": "f1", "alpha": 0.7, "look": 2, "margin": 0, "retention": 1},
        confirmation={"screen_seeds": 5, "top": 0},
        baseline_seeds=1,
        tool=1,
    )
    text = "\n".join(found)
    for part in (
        "`analysis.metric`: must be 'auc', 'accuracy', 'balanced_accuracy', 'brier', 'log_loss' "
        "or 'f1_macro'",
        "`analysis.alpha`: must be below 0.5",
        "`analysis.look`: unknown key, did you mean `looks`?",
        "`analysis.margin`: must be above 0",
        "`analysis.retention`: must be below 1",
        "`confirmation.top`: must be at least 1",
        "`confirmation.screen_seeds` is 5, but `axes.seed` has 2",
        "`baseline_seeds` is 1, but an arm has 2 seeds. Give at least 2, or `auto`",
        "`tool`: unknown key",
    ):
        assert part in text
    assert len(found) == 9


@pytest.mark.parametrize("given", [0, -1, True, 2.5, "many", [3]])
def test_baseline_seeds_are_a_number_or_auto(given: Any) -> None:
    assert problems(baseline_seeds=given) == (
        f"`baseline_seeds`: must be `auto` or a whole number of at least 1, got {given!r}",
    )


def test_seeds_that_are_drawn_are_counted_too() -> None:
    axes = {**AXES, "seed": {"sample": 4}}
    (found,) = problems(axes=axes, confirmation={"screen_seeds": 5})
    assert "`axes.seed` has 4" in found
    assert parse_space(grid(HERE, axes=axes, confirmation={"screen_seeds": 4})).confirmation


def test_a_grid_of_baselines_has_nothing_to_confirm() -> None:
    axes = {"mode": ["baseline"], "seed": [1, 2]}
    (found,) = problems(axes=axes, confirmation={})
    assert found == "`confirmation` needs arms to confirm, but the only `mode` is baseline"


# -- seeds of the baseline -----------------------------------------------------------------------


def baselines(space: Space) -> list[int]:
    return [point.seed for point in expand(space) if point.mode == "baseline"]


def with_arms(arms: int, **changes: Any) -> Space:
    psis = [round(0.1 + n / 100, 2) for n in range(arms)]
    axes = {"mode": ["augmentation"], "psi": psis, "ratio": [1], "seed": [1, 2, 3, 4, 5]}
    axes |= changes.pop("axes", {})
    return parse_space(grid(HERE, axes=axes, **{"baseline_seeds": "auto", **changes}))


def test_36_arms_have_a_baseline_of_six_times_their_seeds() -> None:
    assert len(baselines(with_arms(36))) == 30
    assert [seeds_of_baseline(arms, 5) for arms in (0, 1, 2, 4, 36)] == [5, 5, 8, 10, 30]


def test_further_seeds_are_the_smallest_unused_and_come_last() -> None:
    space = with_arms(4)
    assert baselines(space) == [1, 2, 3, 4, 5, 0, 6, 7, 8, 9]
    points = expand(space)
    assert [point.seed for point in points[-5:]] == [0, 6, 7, 8, 9]
    assert {point.mode for point in points[-5:]} == {"baseline"}


def test_a_larger_grid_keeps_the_seeds_of_a_smaller_one() -> None:
    small, large = baselines(with_arms(4)), baselines(with_arms(9))
    assert large[: len(small)] == small
    more = baselines(with_arms(4, axes={"seed": [1, 2, 3, 4, 5, 6]}))
    assert set(small) < set(more)


def test_of_a_draw_the_further_seeds_are_its_next() -> None:
    drawn = with_arms(4, axes={"seed": {"sample": 5, "from": 1000, "rng": 19}})
    assert baselines(drawn) == random.Random(19).sample(range(1000), 10)
    again = parse_space(yaml.safe_load(drawn.to_yaml()))  # as `replay` and `confirm` read it
    assert baselines(again) == baselines(drawn)


@given(
    population=st.integers(1, 400),
    sample=st.integers(1, 40),
    more=st.integers(0, 60),
    rng=st.integers(0, 5),
)
def test_seeds_after_a_draw_are_new_and_stay(
    population: int, sample: int, more: int, rng: int
) -> None:
    sample = min(sample, population)
    seed = {"sample": sample, "from": population, "rng": rng}
    axes = Axes.model_validate({"mode": ["baseline"], "seed": seed})
    stream = seeds_after(axes, axes.seeds)
    found = [next(stream) for _ in range(more)]
    assert len({*found, *axes.seeds}) == more + sample
    inside = [each for each in found if each < population]
    assert len(inside) == min(more, population - sample), "first what the population has left"
    assert found[: len(inside)] == inside
    again = seeds_after(axes, axes.seeds)
    assert [next(again) for _ in range(more)] == found


def test_each_family_has_its_own_number_and_twins_have_none() -> None:
    space = with_arms(
        4,
        axes={"real_fraction": [0.5, 1]},
        controls=["oversample"],
        exclude=[{"psi": [0.11, 0.12, 0.13], "real_fraction": 0.5}],
    )
    counts = Counter(
        (point.mode, point.real_fraction) for point in expand(space) if point.psi is None
    )
    # 4 arms of all patients, one arm of half of them
    assert counts == {
        ("baseline", 1.0): 10,
        ("baseline", 0.5): 5,
        ("oversample", 1.0): 5,
        ("oversample", 0.5): 5,
    }


def test_a_number_is_a_family_s_whole_number_and_excluded_seeds_stay_out() -> None:
    exclude = [{"psi": 0.1, "seed": 1}]
    space = with_arms(4, baseline_seeds=8, exclude=exclude, axes={"seed": [1, 2, 3]})
    assert baselines(space) == [1, 2, 3, 0, 4, 5, 6, 7]
    entry = {"mode": "baseline", "seed": 2}
    space = with_arms(4, baseline_seeds=5, exclude=[entry], axes={"seed": [1, 2, 3]})
    assert baselines(space) == [1, 3, 0, 4, 5]
    none = with_arms(4, exclude=[{"mode": "baseline"}])
    assert baselines(none) == []


def test_the_cells_a_grid_says_it_has_count_them() -> None:
    assert len(expand(with_arms(4, cells=30))) == 4 * 5 + 10
    (found,) = problems(axes=AXES, baseline_seeds=4, cells=6)
    assert "`cells` is 6, but the grid has 8" in found


def test_fresh_seeds_lie_beyond_what_grids_use() -> None:
    assert fresh_seeds(3, {1, FIRST_FRESH + 1}) == (FIRST_FRESH, FIRST_FRESH + 2, FIRST_FRESH + 3)


# -- the plan of a run ---------------------------------------------------------------------------

PLAN = Preregistration(
    analysis=AnalysisPlan(margin=0.01),
    confirmation=Confirmation(confirm_seeds=10),
    arms=("a", "b"),
    seeds=5,
    baseline_seeds=8,
    sizes={"valid": {"images": 90, "patients": 30}, "test": {"images": 60, "patients": 20}},
    dataset_digest="d" * 64,
)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def test_a_frozen_plan_is_read_back_and_never_written_again(run: RunPaths) -> None:
    assert read(run) is None
    frozen = freeze(run, PLAN)
    assert read(run) == frozen
    assert (frozen.recorded, frozen.earlier) == (PLAN.digest, 0)
    content = run.plan.read_bytes()
    other = replace(PLAN, seeds=20)
    assert freeze(run, other) == frozen
    assert run.plan.read_bytes() == content
    assert deviations(frozen, PLAN) == ()


def test_the_digest_is_of_the_content_alone() -> None:
    assert replace(PLAN, date="2026-01-01", earlier=3, recorded="x").digest == PLAN.digest
    one = replace(PLAN, analysis=AnalysisPlan(margin=1))
    assert one.digest == replace(PLAN, analysis=AnalysisPlan(margin=1.0)).digest != PLAN.digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"analysis": AnalysisPlan(metric="accuracy", margin=0.01)},
            "`analysis.metric`: auc in the plan, accuracy now",
        ),
        ({"analysis": AnalysisPlan()}, "`analysis.margin`: 0.01 in the plan, none now"),
        (
            {"confirmation": Confirmation(confirm_seeds=30)},
            "`confirmation.confirm_seeds`: 10 in the plan, 30 now",
        ),
        (
            {"confirmation": None},
            "`confirmation`: confirm_seeds 10, top 3 in the plan, none now",
        ),
        (
            {"arms": ("a", "b", "c")},
            "arms compared: 2 in the plan, 3 now (1 added, 0 removed)",
        ),
        ({"arms": ("a", "x")}, "arms compared: 2 in the plan, 2 now (1 added, 1 removed)"),
        ({"seeds": 6}, "seeds per arm: 5 in the plan, 6 now"),
        ({"baseline_seeds": 30}, "seeds per baseline: 8 in the plan, 30 now"),
        ({"dataset_digest": "e" * 64}, "dataset: dddddddddddd in the plan, eeeeeeeeeeee now"),
        (
            {"sizes": {**PLAN.sizes, "test": {"images": 50, "patients": 20}}},
            "test: 60 images of 20 patients in the plan, 50 images of 20 patients now",
        ),
    ],
)
def test_each_change_is_a_line(changes: dict[str, Any], said: str) -> None:
    frozen = replace(PLAN, recorded=PLAN.digest)
    assert deviations(frozen, replace(PLAN, **changes)) == (said,)


def test_a_file_that_was_edited_and_a_plan_made_late_are_said(run: RunPaths) -> None:
    write_row(run.trial("a"), {"cell_id": "a", "status": "ok"})
    (late,) = deviations(freeze(run, PLAN), PLAN)
    assert late == "the plan was frozen when 1 cells already had a result"
    written = json.loads(run.plan.read_text())
    files.write_json(run.plan, {**written, "earlier": 0, "analysis": {"metric": "brier"}})
    edited = read(run)
    assert edited is not None
    (first, *rest) = deviations(edited, replace(PLAN, analysis=AnalysisPlan(metric="brier")))
    assert first.startswith("the plan file was edited")
    assert rest == []


@pytest.mark.parametrize(
    "text", ["torn", "[]", "{}", '{"schema": 1, "analysis": {"metric": "x"}}']
)
def test_a_damaged_plan_is_refused(run: RunPaths, text: str) -> None:
    files.write_text(run.plan, text)
    with pytest.raises(RunError, match=r"plan\.json"):
        read(run)


# -- of a search ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planned")
    phantom_dataset(root, images=80, test=0.3)
    return root


def test_a_search_notes_its_plan_before_its_first_trial(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    analysis = {"metric": "brier", "looks": 2}
    changes = {"axes": AXES, "controls": ["oversample"], "analysis": analysis}
    space = parse_space(grid(root, baseline_seeds="auto", **changes))
    planned = planner.plan(space, tmp_path / "run")
    planned.run.root.mkdir()
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    frozen = read(planned.run)
    assert frozen is not None
    assert frozen.analysis == AnalysisPlan(metric="brier", looks=2)
    assert len(frozen.arms) == 2  # no baseline, no twin
    assert (frozen.seeds, frozen.baseline_seeds, frozen.earlier) == (2, 3, 0)
    manifest = planned.dataset.manifest
    for split in ("valid", "test"):
        images = manifest[manifest["split"] == split]
        size = {"images": len(images), "patients": images["group"].nunique()}
        assert frozen.sizes[split] == size
    assert frozen.dataset_digest == planned.dataset.spec.digest
    assert caplog.text == ""
    assert read_latest(planned.run) == plan_of(space, planned.grid_cells, planned.dataset)

    grown = parse_space(grid(root, axes={**AXES, "psi": [0.5, 0.7, 1.0]}, analysis={}))
    with caplog.at_level(logging.WARNING):
        again = planner.plan(grown, planned.run.root)
        folder.note_start(again.run, grown, again.grid_cells, again.dataset)
    assert read(planned.run) == frozen
    latest = read_latest(planned.run)
    assert latest is not None
    found = deviations(frozen, latest)
    assert [line.split(":")[0] for line in found] == [
        "`analysis.metric`",
        "`analysis.looks`",
        "arms compared",
        "seeds per baseline",
    ]
    (record,) = caplog.records
    assert all(line in record.message for line in found)
    assert "exploratory" in record.message


def test_each_drawn_split_has_its_size(root: Path, tmp_path: Path) -> None:
    space = parse_space(grid(root, axes={**AXES, "split": ["dataset", 3]}))
    planned = planner.plan(space, tmp_path / "run")
    found = plan_of(space, planned.grid_cells, planned.dataset)
    assert set(found.sizes) == {"test", "valid", "valid, split 3"}
    assert to_dict(found)["sizes"] == found.sizes
