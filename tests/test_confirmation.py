"""A second stage: the best arms on fresh seeds, one look at the sealed test, resumed anywhere."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from small_grid import grid, phantom_dataset, write_grid

from fgaug import load_results, stats
from fgaug.core.cluster import started
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError, RunError, UserError
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.runs import confirmation_records, folder, results
from fgaug.runs.confirmation_records import SecondStage, ShortlistedArm
from fgaug.runs.looks import looks_of
from fgaug.runs.trial import run_trial
from fgaug.study import execute, generators, planner, run, search
from fgaug.study.confirmation import confirm, verdict
from fgaug.study.confirmation.design import (
    FIRST_FRESH,
    Candidate,
    candidates,
    designed,
    named,
    shortlist,
)
from fgaug.study.plan import Plan, Shard
from fgaug.study.resources import Room, room_of
from gan_worker.filling.fill import fill

AUC = AnalysisPlan()


# -- choosing ------------------------------------------------------------------------------------


def arm(name: str, baseline: str | None = "base", **twins: str) -> Candidate:
    return Candidate(arm_id=name, arm=f"arm {name}", baseline=baseline, twins=twins)


def screened(values: dict[str, list[float]], column: str = "valid_auc") -> pd.DataFrame:
    rows = [
        {"arm_id": name, "cell_id": f"{name}{i}", "status": "ok", "seed": i, column: value}
        for name, each in values.items()
        for i, value in enumerate(each)
    ]
    return pd.DataFrame(rows)


def chosen(values: dict[str, list[float]], top: int, plan: AnalysisPlan = AUC, **kind: Any) -> str:
    arms = [arm(name) for name in values if name != "base"]
    found, _ = shortlist(arms, screened(values, **kind), plan, top)
    return "".join(each.arm_id for each in found)


def test_the_best_means_are_chosen_and_of_equals_the_first_of_the_grid() -> None:
    values = {"base": [0.5, 0.5], "a": [0.6, 0.6], "b": [0.9, 0.4], "c": [0.6, 0.6], "d": [0.1]}
    assert chosen(values, 1) == "b"
    assert chosen(values, 2) == "ba"
    assert chosen(values, 9) == "bacd"


@pytest.mark.parametrize(
    ("metric", "column"), [("brier", "valid_brier"), ("log_loss", "valid_loss")]
)
def test_of_losses_the_smallest_is_the_best(metric: Any, column: str) -> None:
    values = {"base": [0.5], "a": [0.6], "b": [0.2]}
    assert chosen(values, 1, AnalysisPlan(metric=metric), column=column) == "b"


def test_balanced_accuracy_is_the_mean_recall() -> None:
    rows = screened({"base": [0.5], "a": [0.9], "b": [0.8]}, "recall_dbp")
    rows["recall_trv"] = [0.5, 0.1, 0.7]
    plan = AnalysisPlan(metric="balanced_accuracy")
    found, _ = shortlist([arm("a"), arm("b")], rows, plan, 1)
    assert [(each.arm_id, each.mean) for each in found] == [("b", 0.75)]


def test_with_several_baselines_gains_are_compared() -> None:
    rows = screened({"base": [0.5], "large": [0.8], "a": [0.6], "b": [0.7]})
    arms = [arm("a"), arm("b", baseline="large")]
    found, _ = shortlist(arms, rows, AUC, 2)
    assert [each.arm_id for each in found] == ["a", "b"]
    assert found[0].gain == pytest.approx(0.1)


def test_what_cannot_be_chosen_is_listed_with_its_reason() -> None:
    rows = screened({"base": [0.5], "a": [0.6, 0.9], "b": [np.nan], "c": [0.6], "d": [0.9]})
    rows.loc[rows["cell_id"] == "a1", "status"] = "pruned"
    rows.loc[rows["cell_id"] == "c0", "status"] = "failed"
    found, left_out = shortlist([arm(name) for name in "abc"] + [arm("d", None)], rows, AUC, 3)
    assert found == ()
    reasons = [line.split(": ")[1] for line in left_out]
    assert reasons == [
        "stopped by the scheduler",
        *2 * ["no finished seed with a defined auc"],
        "its baseline is excluded by the grid",
    ]


def test_a_baseline_has_about_the_root_of_the_arms_times_their_seeds() -> None:
    listed = [
        *named([arm(name, oversample=f"{name}2") for name in "abc"], screened({"a": [0.5]}), AUC),
        *named([arm("z", "other", drop="y")], screened({"a": [0.5]}), AUC),
    ]
    stage = designed("confirm", "auc", listed, (), 20, used={FIRST_FRESH, 3})
    counts = {name: len(seeds) for name, seeds in stage.seeds.items()}
    assert sum(counts.values()) <= Confirmation(top=4, confirm_seeds=20).most_cells(controls=1)
    assert counts.pop("base") == 35  # sqrt(3) x 20 is 34.6
    assert counts.pop("other") == 20
    assert counts == dict.fromkeys(("a", "a2", "b", "b2", "c", "c2", "z", "y"), 20)
    assert stage.seeds["a"] == tuple(range(FIRST_FRESH + 1, FIRST_FRESH + 21))
    assert stage.seeds["base"][:20] == stage.seeds["a"]
    with pytest.raises(RunError, match="no baseline"):
        named([arm("a", None)], screened({"a": [0.5]}), AUC)


# -- judging -------------------------------------------------------------------------------------

SIZES = {"base": 4, "a": 3, "b": 3, "a2": 3}


def stage_of(**changes: Any) -> SecondStage:
    listed = tuple(
        ShortlistedArm(
            arm_id=name,
            arm=f"arm {name}",
            mean=0.6,
            gain=0.1,
            seeds=2,
            baseline="base",
            twins={"oversample": "a2"} if name == "a" else {},
        )
        for name in "ab"
    )
    seeds = {name: tuple(range(count)) for name, count in SIZES.items()}
    value = {"by": "search", "date": "", "metric": "auc", "shortlist": listed, "left_out": ()}
    return SecondStage(**{**value, "seeds": seeds, **changes})


def of_test(gain: dict[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and sealed predictions of 60 images of 30 patients, 3 or 4 seeds an arm."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 30)
    common = rng.normal(size=60)
    rows, parts = [], []
    for name, count in SIZES.items():
        for index in range(count):
            cell = f"{name}-{index}"
            score = gain.get(name, 1.0) * truth + common + rng.normal(size=60) / 3
            p = 1 / (1 + np.exp(-score))
            part = pd.DataFrame({"cell_id": cell, "image_id": [f"i{n}" for n in range(60)]})
            part["group"] = [n // 2 for n in range(60)]
            part["label"] = np.array(["dbp", "trv"])[truth]
            part["p_dbp"], part["p_trv"] = 1 - p, p
            parts.append(part.sample(frac=1, random_state=index))  # any order of images
            rows.append({"arm_id": name, "cell_id": cell, "status": "ok"})
    return pd.DataFrame(rows), pd.concat(parts)


def test_a_verdict_is_max_t_over_the_shortlist_on_these_runs_alone() -> None:
    rows, sealed = of_test({"a": 3.0, "b": 1.0})
    found = verdict.judge(stage_of(), sealed, rows, AUC).set_index(["arm_id", "against"])
    first = sealed[sealed["cell_id"] == "base-0"].set_index("image_id")
    cells = [f"{name}-{i}" for name in ("base", "a", "b") for i in range(SIZES[name])]
    p = np.stack(
        [sealed[sealed["cell_id"] == c].set_index("image_id")["p_trv"][first.index] for c in cells]
    )
    truth = first["label"].eq("trv").to_numpy().astype(int)
    influence = stats.influence_of("auc", truth, p, group=first["group"])
    expected = stats.or_max_t(stats.arms_of(influence, np.repeat([0, 1, 2], [4, 3, 3])))
    both = found.xs("baseline", level="against")
    assert both["effect"].to_numpy() == pytest.approx(expected.difference, abs=1e-12)
    assert both["p_value"].to_numpy() == pytest.approx(expected.p_value, abs=1e-9)
    assert both["ci_low"].to_numpy() == pytest.approx(expected.ci_low, abs=1e-9)
    assert both["verdict"].tolist() == [
        "better" if p < 0.05 else "not shown" for p in expected.p_value
    ]
    assert both["verdict"].iloc[0] == "better"
    assert set(found["level"]) == {"E2"}
    assert found["n_patients"].unique() == [30]
    twin = found.loc[("a", "twin")]
    assert (twin["against_id"], twin["primary"], twin["n_seeds_against"]) == ("a2", False, 3)
    assert twin["verdict"] == "better"
    assert ("b", "twin") not in found.index


def test_of_a_loss_less_is_better_and_worse_is_said() -> None:
    rows, sealed = of_test({"a": 4.0, "b": -4.0})
    found = verdict.judge(stage_of(), sealed, rows, AnalysisPlan(metric="brier"))
    verdicts = found.loc[found["against"] == "baseline", ["effect", "verdict"]]
    assert verdicts["verdict"].tolist() == ["better", "worse"]
    assert verdicts["effect"].iloc[0] < 0 < verdicts["effect"].iloc[1]


def test_planned_looks_share_the_error_rate() -> None:
    rows, sealed = of_test({"a": 3.0})
    one, two = (verdict.judge(stage_of(), sealed, rows, AnalysisPlan(looks=n)) for n in (1, 2))
    assert (one["alpha"].iloc[0], two["alpha"].iloc[0]) == (0.05, 0.025)
    assert (two["ci_low"] < one["ci_low"]).all()


def test_failed_runs_are_counted_and_an_arm_without_a_run_has_a_reason() -> None:
    rows, sealed = of_test({})
    rows.loc[rows["arm_id"].eq("b") | rows["cell_id"].eq("a-0"), "status"] = "failed"
    found = verdict.judge(stage_of(), sealed, rows, AUC).set_index(["arm_id", "against"])
    assert found.loc[("a", "baseline"), ["n_seeds", "n_failed"]].tolist() == [2, 1]
    gone = found.loc[("b", "baseline")]
    assert (gone["n_seeds"], gone["n_failed"], gone["verdict"]) == (0, 3, "not shown")
    assert gone["reason"] == "no seed of b finished"
    assert np.isnan(gone["p_value"])
    rows["status"] = "failed"
    with pytest.raises(RunError, match="nothing to test"):
        verdict.judge(stage_of(), sealed, rows, AUC)


# -- real searches -------------------------------------------------------------------------------

AXES = {"mode": ["augmentation"], "psi": [0.5, 1.0], "ratio": [1], "seed": [1, 2]}
CONFIRMATION = {"screen_seeds": 2, "confirm_seeds": 2, "top": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset that has a test set."""
    root = tmp_path_factory.mktemp("it's confirmed")
    phantom_dataset(root, images=80, test=0.3)
    return root


def train_here(planned: Plan, *rest: Any) -> None:
    """Train a plan's cells one by one in this process, as trials of a cluster would be."""
    for needs in planned.needs:
        if needs.missing.count:
            fill(
                needs.source.store,
                needs.source.spec,
                generators.label_sources(needs.source),
                needs.missing,
            )
    train_first(planned, len(planned.todo))


def train_first(planned: Plan, count: int) -> None:
    """Train the first cells of a plan, with one thread as a trial has on a cluster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for cell in planned.todo[:count]:
            result = run_trial(cell, planned.sources[cell.snapshot])
            results.write_trial(planned.run.trial(cell.cell_id), result)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "execute", train_here)


def space_of(root: Path, **changes: Any) -> Space:
    usual: dict[str, Any] = {"axes": AXES, "controls": ["oversample"]}
    return parse_space(grid(root, **{**usual, "confirmation": CONFIRMATION, **changes}))


def searched(space: Space, run: Path) -> tuple[run.Run, str]:
    said = io.StringIO()
    found = search.search(space, run, console=Console(file=said, width=200))
    return found, said.getvalue()


def check_whole(run: run.Run, said: str) -> None:
    # two arms, their twin and the baseline twice; then an arm, its twin and the baseline twice
    assert (run.ok, run.pruned, run.failed, run.missing) == (8 + 6, 0, 0, 0)
    assert "second stage: 6 of 6 cells to train" in said
    assert "results on the sealed test set (look 1 of 1 planned)" in said
    assert "level E2 (new patients)" in said


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """A search with a second stage that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "execute", train_here)
        check_whole(*searched(space_of(root), root / "whole"))
    return root / "whole"


@pytest.fixture
def copy(whole: Path, here: None, tmp_path: Path) -> Path:
    """The same run, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def forget(run: Path, *, stage: bool) -> SecondStage:
    """Take a run back to before its verdict, or to before its second stage; return the stage."""
    before = stage_in(run)
    (run / "looks.json").unlink()
    confirmation_records.write(RunPaths(run), [replace(before, judged=())])
    if stage:
        (run / "confirmation.json").unlink()
        for cell in before.cells:
            shutil.rmtree(run / "trials" / cell)
    return before


def times(run: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in run.glob("trials/*/result.json")}


def stage_in(run: Path) -> SecondStage:
    (stage,) = confirmation_records.read(RunPaths(run))
    return stage


def test_the_best_arm_of_the_screening_is_confirmed_on_fresh_seeds(whole: Path) -> None:
    rows, stage = load_results(whole), stage_in(whole)
    screen, second = rows[rows["stage"] == "screen"], rows[rows["stage"] == "confirm"]
    assert (len(screen), set(screen["seed"])) == (8, {1, 2})
    assert second["cell_id"].isin(stage.cells).all()
    assert set(second["seed"]) == {FIRST_FRESH, FIRST_FRESH + 1}
    assert Counter(second["mode"]) == {"augmentation": 2, "oversample": 2, "baseline": 2}
    means = screen[screen["mode"] == "augmentation"].groupby("arm_id")["valid_auc"].mean()
    assert [each.arm_id for each in stage.shortlist] == [means.idxmax()]
    assert stage.shortlist[0].mean == pytest.approx(means.max(), abs=1e-12)
    assert set(second["arm_id"]) <= set(screen["arm_id"])
    found = stage.comparisons
    assert found["against"].tolist() == ["baseline", "twin"]
    assert found["n_seeds"].tolist() == found["n_seeds_against"].tolist() == [2, 2]
    assert set(json.loads((whole / "environment.json").read_text())["cells"]) == {*rows["cell_id"]}


def test_a_second_search_trains_nothing_opens_nothing_and_says_the_same(
    whole: Path, root: Path, here: None
) -> None:
    before, record = times(whole), (whole / "confirmation.json").read_bytes()
    run, said = searched(space_of(root), whole)
    assert (run.ok, run.exit_code) == (14, 0)
    assert (times(whole), (whole / "confirmation.json").read_bytes()) == (before, record)
    assert len(looks_of(RunPaths(whole))) == 1
    assert "results on the sealed test set (look 1 of 1 planned)" in said


def test_the_look_is_written_before_anything_is_read_and_counted_once(
    copy: Path, root: Path
) -> None:
    before = forget(copy, stage=False)
    sealed = RunPaths(copy).trial(before.cells[0]).sealed
    content = sealed.read_bytes()
    sealed.write_bytes(b"torn")
    with pytest.raises(RunError, match="not a valid Parquet file"):
        searched(space_of(root), copy)
    (look,) = looks_of(RunPaths(copy))
    assert (look.purpose, look.planned, look.cells) == ("confirmation", True, before.cells)
    assert stage_in(copy).judged == ()
    sealed.write_bytes(content)
    assert searched(space_of(root), copy)[0].exit_code == 0
    assert looks_of(RunPaths(copy)) == (look,)
    assert stage_in(copy).judged[0].comparisons == before.judged[0].comparisons


def test_cut_off_between_the_stages_and_within_one_it_comes_to_the_same_verdict(
    copy: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, cells = forget(copy, stage=True), times(copy)

    def cut(planned: Plan, *rest: Any) -> None:
        raise KeyboardInterrupt

    def cut_later(planned: Plan, *rest: Any) -> None:
        train_first(planned, 2)

    monkeypatch.setattr(execute, "execute", cut)
    with pytest.raises(KeyboardInterrupt):
        searched(space_of(root), copy)
    begun = stage_in(copy)
    assert (begun.shortlist, begun.seeds, begun.cells) == (
        before.shortlist,
        before.seeds,
        before.cells,
    )
    monkeypatch.setattr(execute, "execute", cut_later)
    run, said = searched(space_of(root), copy)
    assert (run.ok, run.missing, run.exit_code) == (10, 4, 3)
    assert "2 of 6 cells done; the test set is still sealed" in said
    assert not (copy / "looks.json").exists()
    monkeypatch.setattr(execute, "execute", train_here)
    assert searched(space_of(root), copy)[0].ok == 14
    ended = stage_in(copy)
    assert replace(ended, judged=()) == begun
    pd.testing.assert_frame_equal(ended.comparisons, before.comparisons)
    assert {cell: when for cell, when in times(copy).items() if cell in cells} == cells


def test_no_second_stage_begins_while_the_screening_lacks_a_cell_or_time_is_up(
    copy: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(copy, stage=True)
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    run, said = searched(space_of(root, time_budget=60), copy)
    assert (run.ok, run.missing) == (8, 6)  # chosen, and left to the next search
    assert "0 of 6 cells done" in said
    (copy / "confirmation.json").unlink()
    shutil.rmtree(next((copy / "trials").iterdir()))
    monkeypatch.undo()
    monkeypatch.setattr(execute, "execute", lambda *rest: None)
    run, said = searched(space_of(root), copy)
    assert (run.ok, run.missing, said) == (7, 1, "")
    assert not (copy / "confirmation.json").exists()


def test_a_shard_leaves_the_second_stage_to_a_whole_search(copy: Path, root: Path) -> None:
    forget(copy, stage=True)
    said = io.StringIO()
    console = Console(file=said, width=200)
    search.search(space_of(root), copy, shard=Shard(1, 2), console=console)
    assert "Shards do not train the second stage" in said.getvalue()
    assert not (copy / "confirmation.json").exists()


def test_a_grown_grid_keeps_its_shortlist_and_no_scheduler_stops_the_stage(
    copy: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = stage_in(copy)
    grown = space_of(root, axes={**AXES, "psi": [0.5, 0.7, 1.0]})
    run, _ = searched(grown, copy)
    assert (run.ok, run.exit_code) == (16, 0)
    assert stage_in(copy) == begun
    assert "arms compared: 2 in the plan, 3 now (1 added, 0 removed)" in caplog.text
    racing = space_of(root, scheduler={"type": "race", "min_seeds": 2})
    these = confirm._planned(racing, RunPaths(copy), begun, None)
    assert these.space.scheduler.type == "none"
    assert {cell.cell_id for cell in these.cells} == set(begun.cells)


def test_a_stage_of_arms_that_are_gone_is_refused_while_it_is_unfinished(
    copy: Path, root: Path
) -> None:
    forget(copy, stage=False)
    other = planner.plan(space_of(root, axes={**AXES, "psi": [0.7]}), copy)
    gone = [each.arm_id for each in stage_in(copy).shortlist]
    with pytest.raises(RunError, match=rf"no longer contains \({gone[0]}\)"):
        confirm.second_stage(other, train_here, None, Console(quiet=True))


def screen(space: Space, whole: Path, run: Path) -> None:
    """Begin a run, and give it the screening's trials of another."""
    planned = planner.plan(space, run)
    run.mkdir()
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    for cell in planned.cells:
        shutil.copytree(whole / "trials" / cell.cell_id, run / "trials" / cell.cell_id)


@pytest.fixture
def plain(whole: Path, root: Path, here: None, tmp_path: Path) -> Path:
    """The same screening as of a grid without `confirmation`, planned before its first trial."""
    run, space = tmp_path / "plain", space_of(root, confirmation=None, controls=[])
    screen(space, whole, run)
    assert search.search(space, run, console=Console(quiet=True)).ok == 6
    assert "stage" not in load_results(run)
    return run


def test_confirm_names_arms_and_each_call_is_a_look(plain: Path, fgaug: Any) -> None:
    frame = load_results(plain)
    arms = sorted(set(frame.loc[frame["mode"] == "augmentation", "arm_id"]))
    one = ["confirm", plain, "--arm", arms[0][:6], "--seeds", 2, "--log", "quiet"]
    code, out, err = fgaug(*one)
    assert (code, err) == (0, "")
    assert "look 1 of 1 planned)" in out
    assert out.count(" against the baseline (2 seeds against 2)") == 1
    before = times(plain)
    assert len(before) == 6 + 4
    code, out, _ = fgaug(*one)
    assert code == 0
    assert "look 2 of 1 planned: not planned, so its results are exploratory" in out
    assert times(plain) == before
    code, out, _ = fgaug(*one, "--arm", arms[1])  # another shortlist
    assert code == 0
    assert "look 3 of 1 planned: not planned" in out
    assert "adjusted for 2 arms" in out
    first, second = confirmation_records.read(RunPaths(plain))
    assert not {*first.seeds[arms[0]]} & {*second.seeds[arms[0]]}
    assert len(second.seeds[second.shortlist[0].baseline]) == 3  # sqrt(2) x 2
    assert [len(stage.judged) for stage in (first, second)] == [2, 1]
    assert Counter(load_results(plain)["stage"]) == {"screen": 6, "confirm": 4 + 7}
    assert [look.planned for look in looks_of(RunPaths(plain))] == [True, False, False]


def test_confirm_after_a_search_that_confirmed_is_a_further_look(copy: Path, fgaug: Any) -> None:
    (listed,) = stage_in(copy).shortlist
    code, out, _ = fgaug("confirm", copy, "--arm", listed.arm_id, "--log", "quiet")
    assert code == 0
    assert "look 2 of 1 planned: not planned" in out
    first, second = confirmation_records.read(RunPaths(copy))
    assert len(second.seeds[listed.arm_id]) == CONFIRMATION["confirm_seeds"]
    assert second.shortlist[0].mean == listed.mean
    assert not {*first.seeds[listed.arm_id]} & {*second.seeds[listed.arm_id]}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ffffffffffff", "matches no arm"),
        ("", "matches no arm"),
        ("baseline", "matches no arm"),
    ],
)
def test_confirm_refuses_what_is_no_arm(whole: Path, named: str, said: str, fgaug: Any) -> None:
    if named == "baseline":
        rows = load_results(whole)
        named = rows.loc[rows["mode"] == "baseline", "arm_id"].iloc[0]
    code, out, err = fgaug("confirm", whole, "--arm", named)
    assert (code, out) == (2, "")
    assert said in err
    assert len(looks_of(RunPaths(whole))) == 1


@pytest.mark.parametrize("room", [(None, None), (1, None), (1, 0)])
def test_confirm_uses_the_cores_and_gpus_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: tuple[int | None, int | None]
) -> None:
    asked: list[Room | None] = []

    def plan(*_: Any, room: Room) -> None:
        asked.append(room)
        raise RunError("as far as it goes")

    RunPaths(tmp_path).space.write_text("")
    monkeypatch.setattr(confirm, "load_space", lambda _: None)
    monkeypatch.setattr(confirm, "plan_grid", plan)
    with pytest.raises(RunError, match="as far as it goes"):
        confirm.confirm(tmp_path, ["a"], cpus=room[0], gpus=room[1])
    assert asked == [room_of(*room, None)]
    with pytest.raises(UserError, match="--cpus must be from 1 to"):
        confirm.confirm(tmp_path, ["a"], cpus=0)


def test_confirm_refuses_a_folder_that_is_no_run(tmp_path: Path, fgaug: Any) -> None:
    code, _, err = fgaug("confirm", tmp_path, "--arm", "a")
    assert code == 2
    assert "is not a run" in err


def test_a_dry_run_tells_of_the_second_stage(root: Path, tmp_path: Path, fgaug: Any) -> None:
    path = write_grid(tmp_path, **grid(root, axes=AXES, confirmation=CONFIRMATION))
    code, out, _ = fgaug("search", path, "--dry-run", "--out", tmp_path / "run")
    assert code == 0
    assert "then a second stage: at most 4 cells on fresh seeds" in out
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_a_test_set_is_refused(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    with pytest.raises(GridError, match="`confirmation` tests arms on the test set") as refused:
        planner.plan(space_of(tmp_path), tmp_path / "run")
    assert len(refused.value.problems) == 1


def test_arms_know_their_baseline_and_their_twins(root: Path) -> None:
    axes = {**AXES, "mode": ["augmentation", "replacement"], "recipe.batch_size": [8, 16]}
    space = space_of(root, axes=axes, controls=["oversample", "drop"], remove={"dbp": 2, "trv": 2})
    cells = planner.plan(space, root / "arms").cells
    by_arm = {cell.arm_id: cell for cell in cells}
    found = candidates(cells)
    assert len(found) == 2 * 2 * 2
    for each in found:
        cell = by_arm[each.arm_id]
        assert each.baseline is not None
        twins = {name: by_arm[twin] for name, twin in each.twins.items()}
        assert set(twins) == {"oversample", "drop"} - ({"drop"} if not cell.remove else set())
        assert by_arm[each.baseline].mode == "baseline"
        for other in (by_arm[each.baseline], *twins.values()):
            assert other.recipe == cell.recipe
        assert twins["oversample"].ratio == cell.ratio
        assert all(twin.remove == cell.remove for twin in twins.values())
    assert len({each.baseline for each in found}) == 2


# -- on a cluster --------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_on_a_cluster_it_is_the_same(whole: Path, root: Path, tmp_path: Path) -> None:
    screen(space_of(root), whole, tmp_path / "run")
    with started(cpus=2, gpus=0, dashboard=False):
        check_whole(*searched(space_of(root), tmp_path / "run"))
    ours, here = stage_in(tmp_path / "run"), stage_in(whole)
    assert (ours.seeds, ours.cells) == (here.seeds, here.cells)
    pd.testing.assert_frame_equal(ours.comparisons, here.comparisons)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("rows", [8, 11])  # the screening's are 8
def test_killed_after_so_many_rows_it_goes_on(
    rows: int, whole: Path, root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    changes = {"axes": AXES, "controls": ["oversample"], "confirmation": CONFIRMATION}
    command = ["search", write_grid(root, **changes), "--out", run, "--no-dashboard"]
    command = [sys.executable, "-m", "fgaug", *map(str, command), "--log", "quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(times(run)) < rows and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert rows <= len(times(run)) < 14
    with started(cpus=2, gpus=0, dashboard=False):
        assert searched(space_of(root), run)[0].ok == 14
    ours, here = stage_in(run), stage_in(whole)
    assert (ours.seeds, ours.cells) == (here.seeds, here.cells)
    assert len(looks_of(RunPaths(run))) == 1
