"""Ray's own ASHA over our cells: what it stops, what it may not, and how a search goes on."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_grid import grid, phantom_dataset, write_grid

from fgaug.core.cluster import started
from fgaug.errors import GridError
from fgaug.grid.cells import Cell
from fgaug.grid.load import parse_space
from fgaug.grid.space import Scheduler
from fgaug.runs.results import load_curves, load_results
from fgaug.study import planner, search
from fgaug.study.plan import Shard
from fgaug.study.tune.asha import ShareASHA
from fgaug.study.tune.policy import NOTHING, CellProgress, SingleCells, arms_of, reached

AXES = {"mode": ["augmentation"], "psi": [0.5, 1.0], "ratio": [0.5, 2], "seed": [1, 2]}
BUDGET = {"unit": "steps", "max": 18, "evaluations": 18}
ASHA = {"type": "asha", "metric": "loss"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("asha")
    phantom_dataset(root)
    return root


@pytest.fixture(scope="module")
def cells(root: Path) -> tuple[Cell, ...]:
    return planner.plan(parse_space(asha_grid(root)), root / "none").cells


def asha_grid(root: Path, **changes: Any) -> dict[str, Any]:
    given = {"axes": AXES, "budget": BUDGET, "scheduler": ASHA, "controls": ["oversample"]}
    return grid(root, **{**given, **changes})


class Asked:
    """A ShareASHA, asked by the number of an arm's cell."""

    def __init__(
        self, cells: Sequence[Cell], seen: dict[str, CellProgress], **scheduler: Any
    ) -> None:
        self.cut: dict[str, int] = {}
        options = Scheduler(**{"type": "asha", "metric": "auc", **scheduler})
        self.name = f"best_{options.metric}"
        self.asha = ShareASHA(options, cells, seen, self.cut)

    def stops(self, cell: Cell, share: float, value: float) -> bool:
        trial = SimpleNamespace(trial_id="anything", config={"cell_id": cell.cell_id})
        report = {"share": share, self.name: value}
        return bool(self.asha.on_trial_result(None, trial, report) == "STOP")


class TestJudging:
    """Without a cluster: Ray's class itself, asked as Tune asks it."""

    def arms(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if cell.mode == "augmentation"]

    def test_below_the_best_third_at_a_rung_stops(self, cells: tuple[Cell, ...]) -> None:
        asked, (a, b, c, d, *_) = Asked(cells, {}), self.arms(cells)
        assert not asked.stops(a, 0.1, 0.1)  # below the first rung, a ninth
        assert not asked.stops(a, 0.12, 0.8)  # the first arrival passes
        assert not asked.stops(b, 0.12, 0.8)  # ties pass
        assert asked.stops(c, 0.12, 0.799)
        assert not asked.stops(a, 0.2, 0.1)  # no new rung
        assert not asked.stops(d, 0.12, 0.9)
        assert not asked.stops(d, 1 / 3, 0.9)
        assert asked.stops(a, 1 / 3, 0.85)
        assert asked.cut == {c.cell_id: 0, a.cell_id: 1}

    def test_a_smaller_loss_is_better(self, cells: tuple[Cell, ...]) -> None:
        asked, (a, b, c, *_) = Asked(cells, {}, metric="loss"), self.arms(cells)
        assert not asked.stops(a, 0.2, 0.5)
        assert not asked.stops(b, 0.2, 0.4)
        assert asked.stops(c, 0.2, 0.6)

    def test_shares_are_quotients(self, cells: tuple[Cell, ...]) -> None:
        """7 / 21 may lie a rounding below 3 ** -1; it counts as there."""
        asked, (a, b, *_) = Asked(cells, {}, rungs=2), self.arms(cells)
        assert not asked.stops(a, math.nextafter(1 / 3, 0), 0.8)
        assert asked.stops(b, math.nextafter(1 / 3, 0), 0.7)

    @pytest.mark.parametrize("eta", [2, 3, 5, 7])
    @pytest.mark.parametrize("rungs", [1, 2, 3, 6, 10])
    def test_every_rung_but_the_end_decides(
        self, cells: tuple[Cell, ...], eta: int, rungs: int
    ) -> None:
        """Ray counts rungs by logarithms: log(5 ** 3) / log(5) is above 3, log(3 ** 5) below 5."""
        good, bad, *_ = self.arms(cells)
        for rung in range(rungs - 1):
            asked = Asked(cells, {}, eta=eta, rungs=rungs)
            for level in range(rung + 1):
                assert not asked.stops(good, eta ** -(rungs - 1 - level), 0.9)
            for level in range(rung):
                assert not asked.stops(bad, eta ** -(rungs - 1 - level), 0.9)
            assert asked.stops(bad, eta ** -(rungs - 1 - rung), 0.1)
            assert asked.cut == {bad.cell_id: rung}
        asked = Asked(cells, {}, eta=eta, rungs=rungs)
        assert not asked.stops(good, 1.0, 0.9)
        assert not asked.stops(bad, 1.0, 0.1)

    def test_baseline_and_controls_neither_stop_nor_count(self, cells: tuple[Cell, ...]) -> None:
        asked, arms = Asked(cells, {}), self.arms(cells)
        others = [cell for cell in cells if cell not in arms]
        assert {cell.mode for cell in others} == {"baseline", "oversample"}
        assert not any(asked.stops(cell, 0.5, 0.99) for cell in others[:2])
        assert not asked.stops(arms[0], 0.5, 0.5)  # the first of those that count
        assert not any(asked.stops(cell, 0.5, value) for cell in others for value in (0.1, np.nan))

    def test_nan_never_goes_on_and_poisons_nothing(self, cells: tuple[Cell, ...]) -> None:
        asked, (a, b, c, d, *_) = Asked(cells, {}), self.arms(cells)
        assert asked.stops(a, 0.2, math.nan)  # not even as the first arrival
        assert not asked.stops(b, 0.2, 0.8)
        assert asked.stops(c, 0.2, math.nan)
        assert asked.stops(d, 0.2, 0.7)

    def test_what_is_over_by_patience_is_not_stopped_but_counts(
        self, cells: tuple[Cell, ...]
    ) -> None:
        asked, (a, b, c, *_) = Asked(cells, {}), self.arms(cells)
        assert not asked.stops(a, 0.2, 0.9)
        assert not asked.stops(b, 1.0, 0.8)  # the worse one, but it is over
        assert asked.cut == {}
        assert not asked.stops(c, 0.2, 0.89)  # 0.8 counts: the cutoff is 0.867
        assert asked.stops(c, 0.4, 0.79)  # and at the next rung too

    def test_rungs_are_filled_from_the_disk(self, cells: tuple[Cell, ...]) -> None:
        a, b, c, d, *_ = self.arms(cells)
        seen = {
            a.cell_id: CellProgress(status="ok", curve=((0.2, 0.9), (0.5, 0.9), (1.0, 0.9))),
            b.cell_id: CellProgress(status="paused", curve=((0.2, 0.5),)),
            c.cell_id: CellProgress(status="pruned", curve=((0.2, math.nan),)),
        }
        asked = Asked(cells, seen)
        assert asked.stops(d, 0.2, 0.6)
        assert not asked.stops(b, 0.3, 0.4)  # the rung below is behind it
        assert asked.stops(b, 0.4, 0.4)
        assert asked.cut == {d.cell_id: 0, b.cell_id: 1}

    @given(data=st.data())
    def test_what_ray_says_of_epochs_is_said_of_shares(
        self, cells: tuple[Cell, ...], data: Any
    ) -> None:
        """The stock scheduler, told of 1, 3 and 9 as time, decides the same."""
        from ray.tune.schedulers import ASHAScheduler

        stock = ASHAScheduler(
            time_attr="t", metric="v", mode="max", max_t=9, grace_period=1, reduction_factor=3
        )
        asked, arms = Asked(cells, {}), self.arms(cells)
        trials = {cell.cell_id: SimpleNamespace(trial_id=cell.cell_id) for cell in arms}
        for trial in trials.values():
            stock.on_trial_add(None, trial)
        at = dict.fromkeys(trials, 0)  # the rung that each cell comes to next; 2: out
        values = st.sampled_from([0.1, 0.3, 0.5, 0.7])
        for _ in range(12):
            cell = data.draw(st.sampled_from(arms))
            if at[cell.cell_id] == 2:
                continue
            value, rung = data.draw(values), at[cell.cell_id]
            said = stock.on_trial_result(None, trials[cell.cell_id], {"t": 3**rung, "v": value})
            assert asked.stops(cell, 3.0 ** (rung - 2), value) == (said == "STOP")
            at[cell.cell_id] = 2 if said == "STOP" else rung + 1


def test_the_policy_keeps_what_is_pruned(cells: tuple[Cell, ...]) -> None:
    first, second, *rest = cells
    seen = {
        first.cell_id: CellProgress(status="pruned", curve=((0.2, 0.5),)),
        second.cell_id: CellProgress(status="paused", curve=((0.2, 0.5),)),
    }
    decision = SingleCells(arms_of(cells)).decide(seen)
    assert decision.kept == {first.cell_id}
    assert {leg.cell_id for leg in decision.legs} == {c.cell_id for c in (second, *rest)}
    assert {leg.until for leg in decision.legs} == {1.0}
    assert NOTHING.status == "none"
    assert SingleCells(arms_of([first])).decide(seen).complete


def test_reached() -> None:
    levels = (1 / 9, 1 / 3)
    assert [reached(levels, share) for share in (0.1, 1 / 9, 0.2, 7 / 21, 1)] == [0, 1, 1, 2, 2]


class TestGrid:
    @pytest.mark.parametrize(
        ("key", "value"), [("min_seeds", 2), ("fast", True)], ids=["min_seeds", "fast"]
    )
    def test_keys_of_other_types_are_refused(self, root: Path, key: str, value: Any) -> None:
        raw = asha_grid(root, scheduler={**ASHA, key: value})
        with pytest.raises(GridError, match=rf"`scheduler`: .*takes no `{key}`.*arm_asha"):
            parse_space(raw)

    def test_the_resolved_grid_can_be_searched(self, root: Path) -> None:
        import yaml

        space = parse_space(asha_grid(root))
        assert parse_space(yaml.safe_load(space.to_yaml())) == space

    def test_no_shards(self, root: Path) -> None:
        with pytest.raises(GridError, match=r"`scheduler: asha` .* Drop --shard"):
            planner.plan(parse_space(asha_grid(root)), root / "none", Shard(1, 2))

    def test_one_warning(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "fgaug"):
            planner.plan(parse_space(asha_grid(root)), root / "none")
        (record,) = [r for r in caplog.records if "`type: arm_asha`" in r.message]
        assert "lucky seeds" in record.message
        assert "`type: arm_asha`" in record.message
        caplog.clear()
        planner.plan(parse_space(asha_grid(root, scheduler={"type": "none"})), root / "none")
        assert not caplog.records

    def test_a_dry_run_shows_it(self, root: Path, fgaug: Any) -> None:
        path = write_grid(root, scheduler=ASHA)
        code, _, err = fgaug("search", path, "--dry-run", "--out", root / "none")
        assert code == 0
        assert err.count("`type: arm_asha`") == 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with started(cpus=2, gpus=0, dashboard=False):
        yield


@pytest.fixture(scope="module")
def whole(cluster: None, root: Path) -> Path:
    run = search.search(parse_space(asha_grid(root)), root / "whole")
    assert (run.failed, run.missing) == (0, 0)
    assert run.pruned > 0
    assert run.exit_code == 0
    return root / "whole"


def outcome(run: Path) -> pd.DataFrame:
    columns = ["cell_id", "status", "budget_used", "valid_loss", "valid_auc", "best_step"]
    return load_results(run)[columns].sort_values("cell_id", ignore_index=True)


def statuses(run: Path) -> dict[str, str]:
    return load_results(run).set_index("cell_id")["status"].to_dict()


@pytest.mark.ray
class TestSearch:
    def test_single_cells_stop_at_rungs(self, whole: Path) -> None:
        frame = load_results(whole)
        assert len(frame) == 8 + 2 + 4  # arms, baseline, oversample: one a ratio
        stopped = frame[frame["status"] == "pruned"]
        assert set(stopped["mode"]) == {"augmentation"}
        assert set(stopped["stopped_by"]) == {"scheduler"}
        used = {0.0: 2, 1.0: 6}  # 18 / 9 and 18 / 3: the first evaluations at or after
        assert (stopped["budget_used"] == stopped["rung"].map(used)).all()
        ok = frame[frame["status"] == "ok"]
        assert set(ok["budget_used"]) == {18}
        assert (frame[frame["mode"] != "augmentation"]["status"] == "ok").all()

    def test_the_first_at_a_rung_went_on_and_the_stopped_were_worse(self, whole: Path) -> None:
        """What holds in any order of arrival, worked out here from the curves."""
        frame = load_results(whole).query("mode == 'augmentation'").set_index("cell_id")
        curves = load_curves(whole)
        for rung, steps in ((0, 2), (1, 6)):
            there = frame[~(frame["rung"] < rung)].index
            looks = curves[(curves["step"] <= steps) & curves["cell_id"].isin(there)]
            best = looks.groupby("cell_id")["valid_loss"].min()
            stopped = best[frame.loc[best.index, "rung"] == rung]
            assert len(stopped) < len(best)
            assert (stopped > best.min()).all()  # the best of a rung is never stopped at it

    def test_what_may_go_on_keeps_its_files(self, whole: Path) -> None:
        for folder in (whole / "trials").iterdir():
            row = json.loads((folder / "result.json").read_text())["rows"][0]
            waits = row["status"] == "pruned"
            assert (folder / "checkpoint").exists() == waits
            assert (folder / "paused.json").exists() == waits
            assert (folder / "predictions.parquet").exists()
            assert len(pd.read_parquet(folder / "curve.parquet")) == row["budget_used"]

    def test_again_trains_nothing(self, whole: Path, cluster: None, root: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.glob("trials/*/*")}
        run = search.search(parse_space(asha_grid(root)), whole)
        assert run.ok + run.pruned == 14
        assert {path: path.stat().st_mtime_ns for path in whole.glob("trials/*/*")} == before

    @pytest.mark.slow
    def test_a_grown_grid_compares_with_what_was_there(
        self, whole: Path, cluster: None, root: Path
    ) -> None:
        """New cells that come first would pass on their own; here they meet the old ones."""
        copy = root / "grown"
        shutil.copytree(whole, copy)
        before = statuses(copy)
        axes = {**AXES, "psi": [0.5, 0.7, 1.0]}
        run = search.search(parse_space(asha_grid(root, axes=axes)), copy)
        assert (run.ok + run.pruned, run.failed, run.missing) == (18, 0, 0)
        after = statuses(copy)
        assert {cell: after[cell] for cell in before} == before
        frame = load_results(copy).set_index("cell_id")
        curves = load_curves(copy)
        looks = curves[curves["step"] <= 2].groupby("cell_id")["valid_loss"].min()
        arms = frame[frame["mode"] == "augmentation"].index
        old = looks[[cell for cell in arms if cell in before]]
        new = [cell for cell in arms if cell not in before]
        assert len(new) == 4
        # Ray's cutoff is the best third of what is there. Alone, the first of the new would pass
        # whatever its loss; beside eight old ones no more than four of them may be better.
        for cell in new:
            if (old < looks[cell]).sum() > 4:
                assert frame.loc[cell, "rung"] == 0

    @pytest.mark.slow
    def test_without_scheduler_the_pruned_go_on(
        self, whole: Path, cluster: None, root: Path
    ) -> None:
        """From their checkpoints, to the numbers of a search that never stopped."""
        plain_space = parse_space(asha_grid(root, scheduler={"type": "none"}))
        plain = search.search(plain_space, root / "plain")
        assert (plain.ok, plain.pruned) == (14, 0)
        copy = root / "copy"
        shutil.copytree(whole, copy)
        kept = load_curves(copy)
        gone_on = search.search(plain_space, copy)
        assert (gone_on.ok, gone_on.pruned) == (14, 0)
        pd.testing.assert_frame_equal(outcome(root / "plain"), outcome(copy), check_exact=True)
        curves = load_curves(copy)
        for cell_id, looks in kept.groupby("cell_id"):
            now = curves[curves["cell_id"] == cell_id].head(len(looks))
            # seconds and all: these looks were not taken again
            pd.testing.assert_frame_equal(
                now.reset_index(drop=True), looks.reset_index(drop=True), check_exact=True
            )
