"""The axis `filter`: part of a cell's name with its scorers, and the twin that no filter chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from scored_fakes import SCORERS, score
from small_grid import grid as small_grid
from small_grid import phantom_dataset, write_grid
from test_cells import CONTEXT, REPLACEMENT, cells, one, space

from fgaug.bank import open_bank
from fgaug.cli import show
from fgaug.data.prepare import prepare
from fgaug.errors import GridError, SnapshotError, UserError
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell, from_dict, to_dict
from fgaug.grid.load import load_space, parse_space
from fgaug.runs import mix
from fgaug.runs.row import identity_columns
from fgaug.runs.trial import run_trial
from fgaug.study import dry_run, generators, planner
from fgaug.study.confirmation.design import candidates
from fgaug.study.fill import score_waiting
from fgaug.study.plan import Plan
from fgaug.study.tune.policy import arms_of
from gan_worker.filling.fill import fill

NETWORKS = Path(__file__).parent / "data" / "stylegan2"
DIGESTS: Mapping[Split, Mapping[str, str]] = {
    "dataset": {"features": "1" * 64, "classifier": "2" * 64}
}
SCORED = replace(CONTEXT, scorers=DIGESTS)


def filtered(text: str = "agrees", **changes: Any) -> Cell:
    return one("augmentation", SCORED, filter=[text], **changes)


class TestNames:
    def test_those_of_grids_without_a_filter_are_as_they_were(self) -> None:
        """As fgaug 0.1 named them before there was the axis."""
        modes = ["augmentation", "replacement", "synthetic"]
        found = cells(
            mode=modes, psi=[0.5], ratio=[2], seed=[7], top__remove={"dbp": 3, "trv": 4},
            top__controls=["oversample", "drop"],
        )  # fmt: skip
        assert [cell.cell_id for cell in found] == [
            "59d2187b2d10",
            "d126a3c82a82",
            "3bcf18d2bac6",
            "86fcfabc8ceb",
            "a03de57a11c1",
            "bc99173808c0",
            "c91725f36fcc",
        ]
        assert one("augmentation", SCORED, filter=["none"]).cell_id == one("augmentation").cell_id

    def test_a_filter_and_the_scorers_that_it_reads_change_them(self) -> None:
        other = replace(SCORED, scorers={"dataset": {**DIGESTS["dataset"], "features": "3" * 64}})
        names = {
            filtered().cell_id,
            one("augmentation").cell_id,
            filtered("confidence>=0.5").cell_id,
            filtered("realism>=1").cell_id,
            one("augmentation", other, filter=["realism>=1"]).cell_id,
        }
        assert len(names) == 5
        assert one("augmentation", other, filter=["agrees"]).cell_id == filtered().cell_id
        assert filtered(" realism >= 1.0 ").arm_id == filtered("not realism<1").arm_id

    def test_controls_and_the_baseline_have_none(self) -> None:
        found = cells(SCORED, filter=["none", "agrees"], top__controls=["oversample"], seed=[1])
        assert Counter(cell.mode for cell in found) == {
            "baseline": 1,
            "oversample": 1,
            "augmentation": 2,
        }
        plain = cells(top__controls=["oversample"], seed=[1])
        assert {c.cell_id for c in plain} < {c.cell_id for c in found}
        assert {c.mode: identity_columns(c)["filter"] for c in plain} == {
            "baseline": None,
            "oversample": None,
            "augmentation": "none",
        }
        assert [identity_columns(c)["filter"] for c in found if c.filtered] == ["agrees"]

    def test_a_cell_travels_and_is_named_in_words(self) -> None:
        cell = filtered("realism>=1 and margin>=0.2")
        assert from_dict(to_dict(cell)) == cell
        assert "ratio 1 filter margin>=0.2 and realism>=1 seed 3" in cell.described


class TestRandomSubset:
    def test_it_is_the_unfiltered_arm_trained_once(self) -> None:
        alone = cells(SCORED, filter=["agrees", "copy==false"], top__controls=["random_subset"])
        both = cells(
            SCORED, filter=["none", "agrees", "copy==false"], top__controls=["random_subset"]
        )
        assert {c.cell_id for c in alone} == {c.cell_id for c in both}
        assert len(alone) == 2 * (1 + 2 + 1)
        twins = [cell for cell in alone if cell.uses_fakes and not cell.filtered]
        assert {cell.cell_id for cell in twins} == {
            cell.cell_id for cell in cells() if cell.uses_fakes
        }

    @pytest.mark.parametrize("mode", ["replacement", "synthetic"])
    def test_every_mode_has_one(self, mode: str) -> None:
        removal = REPLACEMENT if mode == "replacement" else {"mode": [mode]}
        changes = {**removal, "filter": ["agrees"], "seed": [1]}
        found = cells(SCORED, **changes, top__controls=["random_subset"])
        arm, twin = sorted(
            (cell for cell in found if cell.mode == mode), key=lambda cell: not cell.filtered
        )
        assert (arm.psi, arm.ratio, arm.remove) == (twin.psi, twin.ratio, twin.remove)
        assert (arm.spared, twin.spared) == (False, True)

    def test_no_scheduler_stops_it_where_it_is_asked_for(self) -> None:
        def stoppable(**changes: Any) -> dict[str, bool]:
            found = cells(SCORED, filter=["none", "agrees"], ratio=[1, 2], **changes)
            return {arm.arm_id: arm.stoppable for arm in arms_of(found)}

        asked, not_asked = stoppable(top__controls=["random_subset"]), stoppable()
        names = {c.arm_id: c for c in cells(SCORED, filter=["none", "agrees"], ratio=[1, 2])}
        for arm_id, cell in names.items():
            assert asked[arm_id] == cell.filtered
            assert not_asked[arm_id] == cell.uses_fakes

    def test_it_is_confirmed_beside_its_arm(self) -> None:
        found = cells(SCORED, filter=["agrees"], psi=[0.5, 1], top__controls=["random_subset"])
        arms = {arm.arm_id: arm for arm in candidates(found)}
        assert len(arms) == 4
        for cell in found:
            if cell.filtered:
                twin = arms[cell.arm_id].twins["random_subset"]
                (match,) = (c for c in found if c.arm_id == twin and c.seed == cell.seed)
                assert (match.psi, match.filtered) == (cell.psi, False)
            elif cell.uses_fakes:
                assert arms[cell.arm_id].twins == {}
        unasked = candidates(cells(SCORED, filter=["none", "agrees"]))
        assert all(arm.twins == {} for arm in unasked)


class TestGridFile:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"filter": ["agrees", "realsm>1"]},
                "`axes.filter.1`: `realsm>1`, column 1: unknown ",
            ),
            ({"filter": ["agrees", "agrees==true"]}, "`axes.filter`: values repeat: agrees"),
            ({"filter": []}, "`axes.filter`: must not be empty, got []"),
            ({"filter": "agrees"}, "`axes.filter`: must be a list, got 'agrees'"),
            ({"filter": [True]}, "`axes.filter.0`: must be text such as `agrees` or `confidence"),
            ({"filer": ["agrees"]}, "`axes.filer`: unknown axis, did you mean `filter`?"),
            (
                {"filter": ["none"], "top__controls": ["random_subset"]},
                "`controls: random_subset` needs filtered arms, but `filter` has no value other",
            ),
            (
                {"filter": ["agrees"], "top__exclude": [{"filter": "copy"}]},
                "`exclude.0.filter`: no cell has copy",
            ),
        ],
    )
    def test_mistakes(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(GridError) as refused:
            space(**changes)
        assert said in str(refused.value)

    def test_entries_name_filters_too(self) -> None:
        further = {"mode": "augmentation", "psi": 1, "ratio": 2, "filter": "not copy"}
        found = cells(
            SCORED, filter=["none", "agrees"], psi=[0.5, 0.7], seed=[1],
            top__exclude=[{"filter": " agrees==true", "psi": 0.5}], top__include=[further],
        )  # fmt: skip
        with_fakes = {(cell.psi, cell.filter) for cell in found if cell.uses_fakes}
        kept = {(0.5, "none"), (0.7, "none"), (0.7, "agrees"), (1.0, "copy==false")}
        assert with_fakes == kept

    def test_a_resolved_grid_is_the_same_grid(self) -> None:
        written = space(filter=["none", "not realism < 1"], top__controls=["random_subset"])
        assert parse_space(yaml.safe_load(written.to_yaml())) == written
        assert written.axes.filter == ["none", "realism>=1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filters")
    phantom_dataset(root)
    return root


@pytest.fixture
def made_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "scorer_of", lambda name, *_: SCORERS[name])


def planned(root: Path, folder: Path, **axes: Any) -> Plan:
    usual = {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5], "seed": [1]}
    changes: dict[str, Any] = {"bank": str(folder / "bank"), "controls": ["random_subset"]}
    value = small_grid(root, **changes, axes={**usual, "filter": ["agrees"], **axes})
    return planner.plan(parse_space(value), folder / "run")


def stocked(plan: Plan) -> None:
    """Fill and score the bank of a plan as a search does, in this process."""
    (needs,) = plan.needs
    while True:
        fill(
            needs.source.store,
            needs.source.spec,
            generators.label_sources(needs.source),
            needs.missing,
        )
        waiting = plan.unscored(needs)
        if not waiting:
            return
        for (_, name), demand in waiting.items():
            for (label, psi), z_seeds in demand.wanted.items():
                score(needs.source.store, label, psi, z_seeds.tolist(), SCORERS[name])
        needs = plan.refreshed(needs, open_bank(needs.source.store).index())


@pytest.mark.usefixtures("made_scores")
class TestPlans:
    def test_a_trial_trains_on_what_passes_and_again_on_the_same(
        self, root: Path, tmp_path: Path
    ) -> None:
        plan = planned(root, tmp_path)
        (needs,) = plan.needs
        assert [kept.scored for kept in needs.keep_rates] == [0, 0]
        assert plan.unscored(needs)
        stocked(plan)
        again = planned(root, tmp_path)
        assert again.needs[0].missing.count == 0
        assert again.unscored(again.needs[0]) == {}
        (cell,) = (cell for cell in again.cells if cell.filtered)
        result = run_trial(cell, again.sources[None])
        mixed = mix.plan(cell, again.reals["dataset"], 100, needs.source.screens(100)["dataset"])
        for label, z_seeds in mixed.fakes.items():
            verdicts = needs.source.screens(100)["dataset"].verdicts("agrees", label, 1.0)
            assert (verdicts[z_seeds - 1] == 1).all()
        assert result.row["filter"] == "agrees"
        assert result.row["n_fake"] == mixed.n_fake
        # more fakes are scored for others: what this cell draws stays
        score_rest(needs.source.store, needs.source.screens(100)["dataset"])
        later = mix.plan(cell, again.reals["dataset"], 100, needs.source.screens(100)["dataset"])
        for label in mixed.fakes:
            np.testing.assert_array_equal(later.fakes[label], mixed.fakes[label])

    def test_a_filter_that_keeps_too_few_is_refused_before_anything_trains(
        self, root: Path, tmp_path: Path
    ) -> None:
        plan = planned(root, tmp_path)
        store = plan.needs[0].source.store
        for label in ("dbp", "trv"):
            score(store, label, 1.0, range(1, 101), SCORERS["classifier"])
        with pytest.raises(GridError, match=r"`filter` confidence>=0.97 keeps \d of 100 fakes of"):
            planned(root, tmp_path, filter=["confidence>=0.97"])
        assert not (tmp_path / "run").exists()

    def test_a_dry_run_says_what_is_kept_and_what_it_takes(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        show.plan(planned(root, tmp_path))
        said = capsys.readouterr().out
        assert "filter agrees keeps an unknown share of `dbp` at psi 1; needed: " in said
        assert "at least" in said
        command = f"fgaug bank score {tmp_path / 'bank'} --dataset {root / 'dataset'} --scorer cl"
        assert f"to know earlier, generate some and run `{command}" in said
        plan = planned(root, tmp_path)
        for label in ("dbp", "trv"):
            score(plan.needs[0].source.store, label, 1.0, range(1, 31), SCORERS["classifier"])
        show.plan(planned(root, tmp_path))
        said = capsys.readouterr().out
        assert "of 30 fakes of `dbp` at psi 1 (" in said
        assert "more to score" in said
        assert "unknown" not in said

    def test_a_scorer_that_cannot_be_had_is_a_problem_of_the_grid(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(name: str, *_: Any) -> Any:
            raise UserError(f"no {name} here.")

        monkeypatch.setattr(planner, "scorer_of", refuse)
        with pytest.raises(GridError, match=r"`filter`: no classifier here."):
            planned(root, tmp_path)


def score_rest(store: Any, screen: Any) -> None:
    for label in ("dbp", "trv"):
        left = np.flatnonzero(screen.verdicts("agrees", label, 1.0) == -1) + 1
        score(store, label, 1.0, left.tolist(), SCORERS["classifier"])


def test_a_grid_file_with_a_filter_is_read(root: Path) -> None:
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}
    path = write_grid(root, axes={**axes, "filter": ["none", "copy==false"]})
    assert load_space(path).axes.filter == ["none", "copy==false"]


@pytest.mark.slow
def test_a_dry_run_takes_a_sample_of_a_bank_that_is_not_scored(root: Path, tmp_path: Path) -> None:
    """By the scorers that ship; nothing is written to the bank."""
    plan = planned(root, tmp_path, filter=["agrees and realism>=0.1"])
    (needs,) = plan.needs
    assert dry_run.sampled(plan).needs == plan.needs  # there is no fake yet
    fill(
        needs.source.store,
        needs.source.spec,
        generators.label_sources(needs.source),
        needs.missing,
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").rglob("*")}
    known = dry_run.sampled(planned(root, tmp_path, filter=["agrees and realism>=0.1"]))
    for kept in known.needs[0].keep_rates:
        assert kept.scored == kept.wanted  # as many as the first fill made
        assert 0 < kept.passed <= kept.scored
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").rglob("*")} == before


class TestLogits:
    def grid(self, root: Path, folder: Path, size: int) -> Any:
        prepare(out=folder / "data", size=size, preset="phantom", phantom={"images": 40})
        files = {label: str(folder / f"{label}.pkl") for label in ("dbp", "trv")}
        for file in files.values():
            Path(file).write_bytes((NETWORKS / "a.pkl").read_bytes())
        axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [0.5], "seed": [1]}
        return parse_space(
            small_grid(
                root, dataset=str(folder / "data"), bank=str(folder / "bank"),
                generator={"snapshots": files, "noise": "const"},
                axes={**axes, "filter": ["logit>-1000"]},
            )
        )  # fmt: skip

    def test_they_need_a_network(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(GridError, match=r"`filter`: `logit` needs .* `kind: phantom` ha"):
            planned(root, tmp_path, filter=["logit>0"])

    def test_they_need_the_networks_own_size(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(
            SnapshotError, match=r"`dbp` takes images of 32 px and 1 channels, but"
        ):
            planner.plan(self.grid(root, tmp_path, 16), tmp_path / "run")

    def test_they_come_from_the_grids_own_networks(self, root: Path, tmp_path: Path) -> None:
        plan = planner.plan(self.grid(root, tmp_path, 32), tmp_path / "run")
        (needs,) = plan.needs
        fill(
            needs.source.store,
            needs.source.spec,
            generators.label_sources(needs.source),
            needs.missing,
        )
        waiting = plan.unscored(needs)
        assert set(waiting) == {("dataset", "discriminator")}
        score_waiting(plan, needs, waiting, Console(quiet=True))
        assert plan.unscored(needs) == {}
        for kept in plan.refreshed(needs, open_bank(needs.source.store).index()).keep_rates:
            assert kept.passed == kept.scored == kept.wanted
