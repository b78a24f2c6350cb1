"""A psi for each label: cells, draws, banks, rows, comparators and reports."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from made_report import made_rows
from small_grid import grid as small_grid
from small_grid import phantom_dataset, write_grid
from test_axes_more import CONTEXT, GRID, expanded

from fgaug.analysis.findings.arms import arm_table
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.chapters.ratio import ratio_figures
from fgaug.analysis.report.chapters.tables import thesis_tables
from fgaug.analysis.report.collect_fakes import _psis
from fgaug.analysis.report.drawing import LIGHT
from fgaug.analysis.report.panels import varying
from fgaug.bank import open_bank
from fgaug.errors import GridError
from fgaug.grid.arm_words import PSI_BY_LABEL
from fgaug.grid.cells import Cell, from_dict, identify, to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.runs import mix
from fgaug.runs.row import identity_columns
from fgaug.runs.trial import run_trial
from fgaug.study import dry_run, generators, planner
from fgaug.study.checks import label_problems
from fgaug.study.confirmation.design import _unfiltered
from fgaug.study.plan import Plan
from gan_worker.filling.fill import fill

OWN = {"a": 1.6, "b": 1.2}


def space(axes: dict[str, Any] | None = None, /, **top: Any) -> Space:
    raw = copy.deepcopy({**GRID, **top})
    raw["axes"] = {**raw["axes"], **(axes or {})}
    return parse_space(raw)


def cells(axes: dict[str, Any] | None = None, /, **top: Any) -> tuple[Cell, ...]:
    return expanded(space(axes, **top), {None: CONTEXT})


def ids(found: tuple[Cell, ...]) -> set[str]:
    return {cell.cell_id for cell in found}


class TestCells:
    def test_it_adds_cells_and_renames_none(self) -> None:
        before, after = cells(), cells({"psi": [0.3, 0.7, OWN]})
        assert ids(before) < ids(after)
        new = [cell for cell in after if cell.cell_id not in ids(before)]
        assert Counter((c.mode, c.psi, c.psi_by_label, c.ratio) for c in new) == {
            ("augmentation", None, (("a", 1.6), ("b", 1.2)), ratio): 2 for ratio in (1, 8)
        }

    def test_one_value_for_all_labels_is_the_plain_cell(self) -> None:
        assert ids(cells({"psi": [{"a": 0.7, "b": 0.7}]})) == ids(cells({"psi": [0.7]}))
        assert ids(cells({"psi": [0.7, {"b": 0.7, "a": 0.7}]})) == ids(cells({"psi": [0.7]}))

    def test_the_order_of_labels_does_not_matter_and_their_values_do(self) -> None:
        one, same, other = (
            ids(cells({"psi": [psi]})) for psi in (OWN, {"b": 1.2, "a": 1.6}, {"a": 1.2, "b": 1.6})
        )
        assert one == same
        assert len(one & other) == 6  # baselines and twins

    def test_cells_are_named_and_travel(self) -> None:
        (cell, *_) = (c for c in cells({"psi": [OWN]}) if c.uses_fakes)
        assert cell.described == "augmentation psi a 1.6, b 1.2 ratio 1 seed 3"
        assert from_dict(to_dict(cell)) == cell
        assert [cell.psi_of(label) for label in ("a", "b")] == [1.6, 1.2]
        before = to_dict(next(c for c in cells() if c.uses_fakes))
        del before["psi_by_label"]
        assert from_dict(before).psi_of("a") == 0.3

    def test_names_never_change(self) -> None:
        """Finished trials are found again: raise RECIPE_VERSION on purpose."""
        found = [c.cell_id for c in cells({"psi": [OWN], "ratio": [1], "seed": [3]}, controls=[])]
        assert found == ["9527353175dc", "1c8b3114da0a"]

    def test_rows_have_a_column_of_their_own(self) -> None:
        by_mode = {c.mode: identity_columns(c) for c in cells({"psi": [OWN]})}
        assert by_mode["augmentation"]["psi_by_label"] == "a=1.6 b=1.2"
        assert by_mode["augmentation"]["psi"] is None
        assert "psi_by_label" not in by_mode["baseline"]
        assert all("psi_by_label" not in identity_columns(cell) for cell in cells())

    def test_controls_have_none_and_are_shared(self) -> None:
        controls = ["oversample", "drop"]
        top = {"controls": controls, "remove": {"a": 1, "b": 1}}
        found = cells({"mode": ["replacement"], "psi": [0.7, OWN], "ratio": [1]}, **top)
        counts = Counter(cell.mode for cell in found)
        assert counts == {"baseline": 2, "replacement": 4, "oversample": 2, "drop": 2}
        assert {c.psi_by_label for c in found if c.mode in controls} == {None}

    def test_a_filtered_arm_has_its_random_subset(self) -> None:
        scored = dataclasses.replace(CONTEXT, scorers={"dataset": {"classifier": "c" * 64}})
        asked = space({"psi": [OWN, 0.7], "filter": ["agrees"]}, controls=["random_subset"])
        found = expanded(asked, {None: scored})
        arms = [cell for cell in found if cell.filtered]
        twins = {_unfiltered(cell) for cell in found if cell.uses_fakes and not cell.filtered}
        assert len(twins) == 4
        assert {_unfiltered(cell) for cell in arms} == twins

    def test_imported_images_are_those_of_each_labels_psi(self) -> None:
        cell = next(c for c in cells({"psi": [OWN]}) if c.uses_fakes)
        names = ("mode", "psi", "psi_by_label", "ratio", "fakes", "filter", "remove", "remove_by")
        more = ("split", "real_fraction", "rounds", "recipe", "budget", "seed")
        content = {name: getattr(cell, name) for name in (*names, *more)}

        def named(imported: dict[float, dict[str, str]]) -> str:
            return identify(content, dataclasses.replace(CONTEXT, imported=imported))

        pixels = {1.6: {"a": "x", "b": "y"}, 1.2: {"a": "z", "b": "w"}}
        assert named({}) != named(pixels)
        assert named(pixels) == named({1.6: {"a": "x", "b": "?"}, 1.2: {"a": "?", "b": "w"}})
        assert named(pixels) != named({1.6: {"a": "?", "b": "y"}, 1.2: {"a": "z", "b": "w"}})

    def test_entries_name_it(self) -> None:
        left = cells({"psi": [0.7, OWN]}, exclude=[{"psi": {"b": 1.2, "a": 1.6}, "ratio": 8}])
        assert Counter((c.psi_by_label is None, c.ratio) for c in left if c.uses_fakes) == {
            (True, 1): 2,
            (True, 8): 2,
            (False, 1): 2,
        }
        further = {"mode": "augmentation", "psi": OWN, "ratio": 1}
        assert ids(cells(include=[further])) - ids(cells()) < ids(cells({"psi": [OWN]}))

    def test_a_resolved_grid_is_the_same_grid(self) -> None:
        written = space({"psi": [0.3, OWN]})
        assert parse_space(yaml.safe_load(written.to_yaml())) == written
        assert written.psis == (0.3, 1.2, 1.6)

    @pytest.mark.parametrize(
        ("psi", "said"),
        [
            ([{"a": 0, "b": 1}], r"`axes\.psi\.0\.a`: `psi` 0 gives one image for every seed"),
            ([{"a": True, "b": 1}], r"`axes\.psi\.0\.a`: must be a number, got True"),
            ([{"a": "x", "b": 1}], r"`axes\.psi\.0\.a`: must be a number"),
            ([{"a": 2000, "b": 1}], r"`axes\.psi\.0\.a`: must be between"),
            ([{}], r"`axes\.psi\.0`: must not be empty"),
            ([OWN, OWN], "values repeat"),
            ([OWN, {"b": 1.2, "a": 1.6}, 0.7, 0.7], "values repeat: 0.7"),
        ],
    )
    def test_mistakes(self, psi: list[Any], said: str) -> None:
        with pytest.raises(GridError, match=said):
            space({"psi": psi})

    def test_an_entry_that_matches_nothing(self) -> None:
        with pytest.raises(GridError) as caught:
            space({"psi": [0.7, OWN]}, exclude=[{"psi": {"b": 2, "a": 1}}])
        (line,) = caught.value.problems
        assert line == (
            "`exclude.0.psi`: no cell has {a: 1, b: 2}; the cells have 0.7, {a: 1.6, b: 1.2}"
        )

    @pytest.mark.parametrize("psi", [{"a": 1.6}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "x": 2}])
    def test_labels_that_are_missing_or_unknown(self, psi: dict[str, float]) -> None:
        asked = space({"psi": [0.7, psi]})
        (line,) = label_problems(asked, ("a", "b"))
        assert line.startswith("`axes.psi` must name the labels `a`, `b`, got ")
        further = {"mode": "augmentation", "psi": psi, "ratio": 3}
        (line,) = label_problems(space(include=[further]), ("a", "b"))
        assert line.startswith("`include.0.psi` must name the labels `a`, `b`")
        assert not label_problems(space({"psi": [OWN]}), ("a", "b"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own psi")
    phantom_dataset(root)
    return root


def planned(root: Path, folder: Path, **axes: Any) -> Plan:
    usual = {"mode": ["augmentation"], "psi": [{"dbp": 0.5, "trv": 1}], "ratio": [1], "seed": [1]}
    value = small_grid(root, bank=str(folder / "bank"), axes={**usual, **axes})
    return planner.plan(parse_space(value), folder / "run")


class TestPlans:
    def test_the_bank_needs_each_label_at_its_own_psi(self, root: Path, tmp_path: Path) -> None:
        plan = planned(root, tmp_path)
        (needs,) = plan.needs
        assert set(needs.demand.wanted) == {("dbp", 0.5), ("trv", 1.0)}
        plain = planned(root, tmp_path, psi=[1.0])
        trv = ("trv", 1.0)
        (other,) = plain.needs
        assert needs.demand.wanted[trv].tolist() == other.demand.wanted[trv].tolist()
        both = planned(root, tmp_path, psi=[1.0, {"dbp": 0.5, "trv": 1}]).needs[0].demand
        assert set(both.wanted) == {("dbp", 0.5), ("dbp", 1.0), trv}

    def test_a_trial_trains_on_them(self, root: Path, tmp_path: Path) -> None:
        plan = planned(root, tmp_path)
        (needs,) = plan.needs
        source = needs.source
        fill(source.store, source.spec, generators.label_sources(source), needs.missing)
        again = planned(root, tmp_path)
        assert again.needs[0].missing.count == 0
        (cell,) = (cell for cell in again.cells if cell.uses_fakes)
        drawn = mix.plan(cell, again.reals["dataset"], 100)
        assert {(label, psi) for label, psi, _ in drawn.drawn} == {("dbp", 0.5), ("trv", 1.0)}
        row = run_trial(cell, again.sources[None]).row
        assert (row["status"], row["psi"]) == ("ok", None)
        assert row["psi_by_label"] == "dbp=0.5 trv=1"
        assert row["n_fake"] == drawn.n_fake > 0
        assert len(open_bank(source.store).index()) == needs.demand.count

    def test_a_dry_run_counts_them_and_refuses_other_labels(
        self, root: Path, tmp_path: Path, fgaug: Any
    ) -> None:
        axes = {"mode": ["augmentation"], "psi": [{"dbp": 0.5, "trv": 1}], "ratio": [1]}
        value = small_grid(root, bank=str(tmp_path / "bank"), axes={**axes, "seed": [1]})
        (tmp_path / "grid.yaml").write_text(json.dumps(value))
        code, out, err = fgaug("search", tmp_path / "grid.yaml", "--dry-run")
        assert code == 0, err
        assert "dbp psi 0.5: " in out
        assert "trv psi 1: " in out
        value["axes"]["psi"] = [{"dbp": 0.5, "xyz": 1}]
        (tmp_path / "grid.yaml").write_text(json.dumps(value))
        code, _, err = fgaug("search", tmp_path / "grid.yaml", "--dry-run")
        assert code == 2
        assert "`axes.psi` must name the labels `dbp`, `trv`, got `dbp`, `xyz`" in err

    def test_counts_stand_in_for_the_dataset(self, tmp_path: Path) -> None:
        labels = {"a": {"train_gan": 9, "valid": 3}, "b": {"train_gan": 7, "valid": 3}}
        counts = {"source": "a table", "size": 32, "labels": labels}
        axes = {"mode": ["augmentation"], "psi": [{"a": 1, "c": 2}], "ratio": [1], "seed": [1]}
        path = write_grid(tmp_path, axes=axes, counts=counts)
        with pytest.raises(GridError, match="must name the labels `a`, `b`, got `a`, `c`"):
            dry_run.dry_plan(path)


class TestReport:
    """Rows as a run leaves them: psi is empty, the text has both."""

    def rows(self) -> pd.DataFrame:
        rows = made_rows()
        own = rows["arm_id"].eq("augmentation-0.5-2.0") | rows["arm_id"].eq("augmentation-0.5-1.0")
        rows["psi_by_label"] = pd.Series(None, index=rows.index, dtype=object)
        rows.loc[own, "psi_by_label"] = "dbp=1.6 trv=1.2"
        rows.loc[own, "psi"] = None
        return rows

    def test_arms_keep_their_comparators(self) -> None:
        arms = arm_table(self.rows()).set_index("arm_id")
        own = arms.loc["augmentation-0.5-2.0"]
        assert own["name"] == "augmentation psi dbp 1.6, trv 1.2 ratio 2"
        assert own["twin_id"] == "oversample-None-2.0"
        assert own["baseline_id"] == "baseline-None-None"
        assert pd.isna(own["psi"])

    def test_tables_and_figures_show_both(self) -> None:
        arms = by_arm(self.rows())
        titles = dict(thesis_tables(arms))
        assert "Augmentation psi dbp 1.6, trv 1.2" in titles
        table = titles["Augmentation psi dbp 1.6, trv 1.2"]
        assert table["mode"].tolist().count("oversample") == 2
        assert "Augmentation psi 1" in titles
        assert PSI_BY_LABEL in varying(arms)  # one mapping among plain psis names its arms, too
        (figure,) = ratio_figures(arms)  # one row per psi
        assert figure.title == "Augmentation"
        drawn = figure.draw(LIGHT)
        names = [axes.get_ylabel() for axes in drawn.axes if axes.get_ylabel()]
        assert sorted(names) == ["ψ = 1", "ψ of\ndbp=1.6\ntrv=1.2"]

    def test_sheets_and_scores_are_of_every_psi(self) -> None:
        rows = self.rows()
        assert _psis(rows) == [1.0, 1.2, 1.6]
        rows.loc[rows["psi_by_label"].notna(), "psi_by_label"] = "grade=2=1.6 b=-0.5"
        assert _psis(rows) == [-0.5, 1.0, 1.6]
