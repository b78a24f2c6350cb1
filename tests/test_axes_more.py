"""Learning curves, `include`, `exclude` and `cells`: what they make of a grid's product."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.errors import GridError
from fgaug.grid.cells import Cell, Context, cells_of, from_dict, recipes_of, to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.space import Space
from fgaug.runs.row import Exposure, identity_columns
from fgaug.runs.trial import run_trial
from fgaug.study import generators, planner
from gan_worker.filling.fill import fill

GRID: dict[str, Any] = {
    "name": "g",
    "dataset": "d",
    "bank": "b",
    "generator": {"kind": "stub"},
    "axes": {"mode": ["augmentation"], "psi": [0.3, 0.7], "ratio": [1, 8], "seed": [3, 5]},
    "controls": ["oversample"],
}


class SameWeights(dict[str, str]):
    """Weights of one content for every recipe."""

    def __missing__(self, key: str) -> str:
        return "sha-of-weights"


CONTEXT = Context(
    dataset_digest="d" * 64, generator={"kind": "stub"}, pool=30000, weights=SameWeights()
)


def expanded(space: Space, contexts: Mapping[str | None, Context]) -> tuple[Cell, ...]:
    return cells_of(space, expand(space), contexts)


def grid(axes: dict[str, Any] | None = None, /, **top: Any) -> Space:
    """Return the grid with changes of its axes and other keys on top."""
    raw = copy.deepcopy({**GRID, **top})
    raw["axes"] = {**raw["axes"], **(axes or {})}
    return parse_space(raw)


def cells(axes: dict[str, Any] | None = None, /, **top: Any) -> tuple[Cell, ...]:
    return expanded(grid(axes, **top), {None: CONTEXT})


def names(found: Iterable[Cell]) -> set[str]:
    return {cell.cell_id for cell in found}


def problems(axes: dict[str, Any] | None = None, /, **top: Any) -> list[str]:
    with pytest.raises(GridError) as caught:
        grid(axes, **top)
    return list(caught.value.problems)


FULL = cells()  # 2 baselines, 4 twins, 8 arms


class TestLearningCurves:
    def test_every_arm_baseline_and_twin_at_every_fraction(self) -> None:
        found = cells({"real_fraction": [0.1, 0.25, 1]})
        assert len(found) == 3 * len(FULL)
        counts = Counter((cell.mode, cell.real_fraction) for cell in found)
        for mode, count in {"baseline": 2, "oversample": 4, "augmentation": 8}.items():
            assert [counts[mode, share] for share in (0.1, 0.25, 1)] == [count] * 3

    def test_one_is_the_default(self) -> None:
        assert [c.cell_id for c in cells({"real_fraction": [1]})] == [c.cell_id for c in FULL]
        assert names(FULL) < names(cells({"real_fraction": [0.5, 1]}))
        assert not names(FULL) & names(cells({"real_fraction": [0.5]}))

    def test_names_never_change(self) -> None:
        """Finished trials of earlier versions are found again: raise RECIPE_VERSION on purpose."""
        axes = {"psi": [0.7], "ratio": [1], "seed": [3], "real_fraction": [0.5]}
        found = [cell.cell_id for cell in cells(axes, controls=[])]
        assert found == ["7e91d2581aee", "10958e108f0e"]

    def test_seeds_stay_outermost(self) -> None:
        found = [cell.seed for cell in cells({"real_fraction": [0.1, 1]})]
        assert found == sorted(found, key=[3, 5].index)

    def test_twins_follow_their_arm(self) -> None:
        top = {"controls": ["oversample", "drop"], "remove": {"a": 1}}
        found = cells({"mode": ["replacement"], "real_fraction": [0.5]}, **top)
        assert {cell.real_fraction for cell in found} == {0.5}
        assert {cell.mode for cell in found} == {"baseline", "replacement", "oversample", "drop"}

    def test_synthetic_arms_have_no_patients_to_share(self) -> None:
        found = cells({"mode": ["synthetic"], "real_fraction": [0.1, 0.5]})
        assert {cell.real_fraction for cell in found} == {1.0}
        assert names(found) == names(cells({"mode": ["synthetic"]}))

    def test_rows_have_a_column_where_the_grid_has_the_axis(self) -> None:
        for cell in cells({"real_fraction": [0.5, 1], "recipe.dropout": [0.1]}):
            row = identity_columns(cell)
            assert row["real_fraction"] == cell.real_fraction
            assert row["recipe.dropout"] == 0.1
            assert from_dict(to_dict(cell)) == cell
        assert "real_fraction" not in identity_columns(FULL[0])
        assert cells({"real_fraction": [0.5]})[0].described == "baseline real_fraction 0.5 seed 3"

    def test_cells_of_earlier_versions_are_read(self) -> None:
        value = to_dict(FULL[0])
        del value["real_fraction"]
        assert from_dict(value) == FULL[0]


class TestExclude:
    @pytest.mark.parametrize(
        ("entry", "left"),
        [
            ({"psi": 0.3, "ratio": 8}, {"baseline": 2, "oversample": 4, "augmentation": 6}),
            ({"seed": 5}, {"baseline": 1, "oversample": 2, "augmentation": 4}),
            ({"mode": "oversample"}, {"baseline": 2, "augmentation": 8}),
            ({"mode": ["oversample", "baseline"]}, {"augmentation": 8}),
            (
                {"psi": [0.3, 0.7], "seed": [3]},
                {"baseline": 1, "oversample": 2, "augmentation": 4},
            ),
            (
                {"recipe.batch_size": 64, "seed": 3, "ratio": 1.0},
                {"baseline": 2, "oversample": 3, "augmentation": 6},
            ),
        ],
    )
    def test_what_is_left(self, entry: dict[str, Any], left: dict[str, int]) -> None:
        assert Counter(cell.mode for cell in cells(exclude=[entry])) == left

    def test_a_twin_whose_arms_are_gone_goes_too(self) -> None:
        found = cells(exclude=[{"psi": [0.3, 0.7], "ratio": 8}])
        assert {cell.ratio for cell in found if cell.mode == "oversample"} == {1}

    def test_a_recipe_without_arms_is_not_trained(self) -> None:
        axes = {"recipe.model": ["resnet18", "resnet50"]}
        space = grid(axes, exclude=[{"mode": "augmentation", "recipe.model": "resnet50"}])
        assert {recipe.model for recipe in recipes_of(expand(space))} == {"resnet18"}

    def test_values_are_compared_as_they_are_read(self) -> None:
        steps = [{"Rotate": {"limit": 10}}]
        axes = {"recipe.learning_rate": [0.001, 0.01], "recipe.augmentation": ["none", steps]}
        found = cells(
            axes, exclude=[{"recipe.learning_rate": "1e-3", "recipe.augmentation": steps}]
        )
        assert len(found) == 3 * len(FULL)
        nested = {"recipe": {"learning_rate": [0.001], "augmentation": [steps]}}
        assert found == cells(axes, exclude=[nested])

    def test_counts_and_removals(self) -> None:
        axes = {
            "mode": ["replacement"],
            "ratio": [],
            "fakes": [{"a": 1, "b": 2}, {"a": 3, "b": 4}],
            "remove": [{"a": 1, "b": "all"}, {"a": 0.5, "b": 1}],
        }
        entry = {"fakes": {"b": 2, "a": 1}, "remove": {"b": "all", "a": 1}}
        found = cells(axes, exclude=[entry], controls=[])
        assert Counter(c.mode for c in found) == {"baseline": 2, "replacement": 12}

    def test_order_of_what_is_left(self) -> None:
        left = [cell.cell_id for cell in cells(exclude=[{"psi": 0.3, "ratio": 8}])]
        assert left == [cell.cell_id for cell in FULL if cell.cell_id in left]


class TestInclude:
    def test_a_point_with_its_baseline_and_twin(self) -> None:
        found = cells(include=[{"mode": "augmentation", "psi": 1, "ratio": 16}])
        assert names(FULL) < names(found)
        new = [cell for cell in found if cell.cell_id not in names(FULL)]
        assert Counter((cell.mode, cell.psi, cell.ratio) for cell in new) == {
            ("augmentation", 1.0, 16.0): 2,
            ("oversample", None, 16.0): 2,
        }
        assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)

    def test_what_an_entry_leaves_out_is_the_grids(self) -> None:
        entry = {"mode": "replacement", "psi": 1, "ratio": 1, "real_fraction": 0.5, "seed": 9}
        axes = {"recipe.dropout": [0.1, 0.2], "real_fraction": [0.1]}
        found = cells(axes, include=[entry], remove={"a": 3}, recipe={"dropout": 0.3})
        new = [cell for cell in found if cell.seed == 9]
        assert [cell.mode for cell in new] == ["baseline", "oversample", "replacement"]
        assert {cell.recipe.dropout for cell in new} == {0.3}
        assert {cell.real_fraction for cell in new} == {0.5}
        assert new[-1].remove == (("a", 3.0),)
        assert new[-1].axes == (("real_fraction", 0.5), ("recipe.dropout", 0.3))

    def test_recipes_of_entries_are_checked_too(self) -> None:
        entry = {"mode": "baseline", "recipe.model": "resnet50"}
        assert {recipe.model for recipe in recipes_of(expand(grid(include=[entry])))} == {
            "resnet18",
            "resnet50",
        }

    def test_what_is_excluded_may_be_included(self) -> None:
        entry = {"mode": "augmentation", "psi": 0.3, "ratio": 8}
        assert names(cells(exclude=[entry], include=[entry])) == names(FULL)

    def test_a_grid_of_baselines_may_include_arms(self) -> None:
        axes = {"mode": ["baseline"], "psi": [], "ratio": []}
        found = cells(axes, include=[{"mode": "augmentation", "psi": 1, "ratio": 1, "seed": 3}])
        assert [cell.mode for cell in found] == [
            "baseline",
            "oversample",
            "augmentation",
            "baseline",
        ]


PSI, RATIO, SEED, SHARE = (0.3, 0.7), (1.0, 8.0), (3, 5), (0.5, 1.0)
entries = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(("baseline", "augmentation", "oversample")),
        "psi": st.lists(st.sampled_from(PSI), min_size=1, unique=True) | st.sampled_from(PSI),
        "ratio": st.sampled_from(RATIO),
        "seed": st.sampled_from(SEED),
        "real_fraction": st.sampled_from(SHARE),
    },
).filter(bool)
full_points = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(("augmentation", "synthetic")),
        "psi": st.sampled_from((0.3, 1.0)),
        "ratio": st.sampled_from((8.0, 16.0)),
    },
    optional={"seed": st.sampled_from((3, 9)), "real_fraction": st.sampled_from(SHARE)},
)
SHARED = {"real_fraction": [0.5, 1]}


def has(cell: Cell, entry: dict[str, Any]) -> bool:
    """Return whether a cell has every value of an entry: written apart from the code tested."""
    return all(
        getattr(cell, axis) in (value if isinstance(value, list) else [value])
        for axis, value in entry.items()
    )


class TestSetAlgebra:
    @given(exclude=st.lists(entries, max_size=3))
    def test_exclude_takes_away_what_matches_and_twins_alone(
        self, exclude: list[dict[str, Any]]
    ) -> None:
        full = cells(SHARED)
        left = [cell for cell in full if not any(has(cell, entry) for entry in exclude)]
        arms = [cell for cell in left if cell.mode == "augmentation"]
        needed = {("baseline", None, c.seed, c.real_fraction) for c in arms}
        needed |= {("oversample", c.ratio, c.seed, c.real_fraction) for c in arms}
        left = [
            c
            for c in left
            if c.mode == "augmentation" or (c.mode, c.ratio, c.seed, c.real_fraction) in needed
        ]
        idle = [entry for entry in exclude if not any(has(cell, entry) for cell in full)]
        if idle or not left:
            assert problems(SHARED, exclude=exclude)
        else:
            assert cells(SHARED, exclude=exclude) == tuple(left)

    @given(include=st.lists(full_points, max_size=3), exclude=st.lists(entries, max_size=2))
    def test_include_adds_what_a_grid_of_its_own_has(
        self, include: list[dict[str, Any]], exclude: list[dict[str, Any]]
    ) -> None:
        try:
            found = cells(SHARED, include=include, exclude=exclude)
        except GridError:
            return  # an entry without effect, see below
        union = names(cells(SHARED, exclude=exclude))
        for entry in include:
            own = {name: [value] for name, value in entry.items()}
            union |= names(cells(own))
        assert names(found) == union
        assert len(found) == len(union)

    @given(include=st.lists(full_points, max_size=2), exclude=st.lists(entries, max_size=2))
    def test_what_is_resolved_is_the_same_grid(
        self, include: list[dict[str, Any]], exclude: list[dict[str, Any]]
    ) -> None:
        try:
            space = grid(SHARED, include=include, exclude=exclude)
        except GridError:
            return
        again = parse_space(yaml.safe_load(space.to_yaml()))
        assert expand(again) == expand(space)
        assert again.to_yaml() == space.to_yaml()


class TestCount:
    def test_the_count_that_is_meant(self) -> None:
        assert len(cells(cells=14)) == 14
        assert problems(cells=12) == [
            "`cells` is 12, but the grid has 14: 8 augmentation, 4 oversample, 2 baseline. "
            "Correct the count or the axes"
        ]

    def test_entries_count(self) -> None:
        entry = {"mode": "augmentation", "psi": 0.3, "ratio": 8}
        assert len(cells(exclude=[entry], cells=12)) == 12
        new = {**entry, "psi": 0.5, "seed": [3]}
        assert len(cells(include=[new], cells=15)) == 15


class TestMistakes:
    @pytest.mark.parametrize(
        ("key", "entry", "expected"),
        [
            ("exclude", {"ratoi": 8}, "`exclude.0.ratoi`: unknown axis, did you mean `ratio`?"),
            (
                "exclude",
                {"fold": 3},
                "`exclude.0.fold`: every arm is trained on all of `axes.fold`. Change `axes.fold`",
            ),
            (
                "exclude",
                {"psi": 0.5},
                "`exclude.0.psi`: no cell has 0.5; the cells have 0.3, 0.7",
            ),
            ("exclude", {"seed": 4}, "`exclude.0.seed`: no cell has 4; the cells have 3, 5"),
            (
                "exclude",
                {"mode": "synthetic"},
                "`exclude.0.mode`: no cell has synthetic; "
                "the cells have augmentation, baseline, oversample",
            ),
            (
                "exclude",
                {"mode": "augment"},
                "`exclude.0.mode.0`: must be 'baseline', 'augmentation', 'replacement', "
                "'synthetic', 'oversample' or 'drop', got 'augment'",
            ),
            (
                "exclude",
                {"recipe.model": "resnet81"},
                "`exclude.0.recipe.model`: no cell has resnet81, did you mean `resnet18`?",
            ),
            (
                "exclude",
                {"recipe.augmentation": [[{"Rotate": {"limit": 9}}]]},
                "`exclude.0.recipe.augmentation`: no cell has [{Rotate: {limit: 9}}]; "
                "the cells have fastai",
            ),
            (
                "exclude",
                {"recipe.modle": "a"},
                "`exclude.0.recipe.modle`: unknown recipe field, did you mean `model`?",
            ),
            (
                "exclude",
                {"recipe.dropout": 3},
                "`exclude.0.recipe.dropout`: must be below 1.0, got 3",
            ),
            (
                "exclude",
                {"mode": "baseline", "psi": 0.3},
                "`exclude.0` matches no cell: its values occur, but never together. "
                "Correct them, or drop the entry",
            ),
            ("exclude", {}, "`exclude.0` names no axis and would remove every cell. Drop it"),
            (
                "exclude",
                {"seed": [3, 5]},
                "`exclude` removes every cell of the grid. Exclude fewer",
            ),
            ("exclude", {"psi": []}, "`exclude.0.psi`: must not be empty, got []"),
            ("exclude", 3, "`exclude.0`: must be a mapping of keys to values, got 3"),
            ("include", {"psi": 1}, "`include.0.mode` is missing"),
            (
                "include",
                {"mode": "synthetic", "ratio": 1},
                "`include.0.psi` is missing or empty, but a mode uses fakes",
            ),
            (
                "include",
                {"mode": "synthetic", "psi": 1, "ratio": 1, "fakes": {"a": 1}},
                "`include.0`: give `ratio` or `fakes`, not both",
            ),
            (
                "include",
                {"mode": "synthetic", "psi": 1, "ratoi": 1, "ratio": 1},
                "`include.0.ratoi`: unknown axis, did you mean `ratio`?",
            ),
            (
                "include",
                {"mode": "replacement", "psi": 1, "ratio": 1},
                "`include.0.remove` is missing, but its `mode` contains replacement",
            ),
            (
                "include",
                {"mode": "drop"},
                "`include.0.mode.0`: must be 'baseline', 'augmentation', 'replacement' or "
                "'synthetic', got 'drop'",
            ),
            (
                "include",
                {"mode": "augmentation", "psi": 0.3, "ratio": 1},
                "`include.0` adds no cells: the grid already has all 2. Drop it",
            ),
            (
                "include",
                {"mode": "baseline", "recipe.pretrained": False, "recipe.weights": "w.pth"},
                "`include.0.recipe` with `recipe`: `weights` is given, but `pretrained` is false; "
                "drop one of them",
            ),
        ],
    )
    def test_one_line_each(self, key: str, entry: Any, expected: str) -> None:
        assert problems(**{key: [entry]})[0] == expected
        if "uses fakes" not in expected:
            assert len(problems(**{key: [entry]})) == 1

    def test_no_lists(self) -> None:
        assert problems(include=3) == ["`include`: must be a list, got 3"]
        assert problems(exclude={"psi": 1}) == ["`exclude`: must be a list, got {'psi': 1}"]
        assert problems(cells="9") == ["`cells`: must be a whole number, got '9'"]

    def test_with_all_others_at_once(self) -> None:
        found = problems(
            pool=0,
            generator={"kind": "stub", "nose": 1},
            include=[{"mode": "augmentation", "psi": 0.3, "ratio": 8}],
            exclude=[{"psi": 0.3}, {"psi": 0.5}, {"seed": 4, "ratio": 2}],
        )
        assert found == [
            "`generator.nose`: unknown key, did you mean `noise`?",
            "`pool`: must be at least 1, got 0",
            "`exclude.1.psi`: no cell has 0.5; the cells have 0.3, 0.7",
            "`exclude.2.ratio`: no cell has 2; the cells have 1, 8",
            "`exclude.2.seed`: no cell has 4; the cells have 3, 5",
        ]
        assert problems(pool=0, cells=3)[1].startswith("`cells` is 3, but the grid has 14: ")

    def test_fakes_of_entries_need_a_bank(self) -> None:
        axes = {"mode": ["baseline"], "psi": [], "ratio": []}
        entry = {"mode": "synthetic", "psi": 1, "ratio": 1}
        assert problems(axes, include=[entry], bank=None, generator=None) == [
            "`bank` is missing, but a mode uses fakes",
            "`generator` is missing, but a mode uses fakes",
        ]
        assert problems(axes, include=[entry], bank=None, pool=0) == [
            "`pool`: must be at least 1, got 0",
            "`bank` is missing, but a mode uses fakes",
        ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fractions")
    phantom_dataset(folder)
    return folder


class TestOnADataset:
    """Phantom images of few patients, planned and trained."""

    def test_what_cannot_be_mixed_is_refused_once_an_arm(self, root: Path, tmp_path: Path) -> None:
        raw = small_grid(root)
        raw["axes"] |= {"real_fraction": [0.001, 1], "seed": [1, 2, 3]}
        with pytest.raises(GridError) as caught:
            planner.plan(parse_space(raw), tmp_path / "run")
        (problem,) = caught.value.problems
        assert problem.startswith("`real_fraction` 0.001 keeps 1 of ")

    def test_labels_of_entries_are_those_of_the_dataset(self, root: Path, tmp_path: Path) -> None:
        entry = {"mode": "replacement", "psi": 1, "fakes": {"dbp": 3}, "remove": {"x": 1}}
        with pytest.raises(GridError) as caught:
            planner.plan(parse_space(small_grid(root, include=[entry])), tmp_path / "run")
        assert list(caught.value.problems) == [
            "`include.0.fakes` must name the labels `dbp`, `trv`, got `dbp`",
            "`include.0.remove` must name the labels `dbp`, `trv`, got `x`",
        ]

    def test_rows(self, root: Path, tmp_path: Path) -> None:
        raw = small_grid(root, cells=4)
        raw["axes"] |= {"real_fraction": [0.5, 1], "seed": [1]}
        planned = planner.plan(parse_space(raw), tmp_path / "run")
        (needs,) = planned.needs
        fill(
            needs.source.store,
            needs.source.spec,
            generators.label_sources(needs.source),
            needs.missing,
        )
        exposure = Exposure(seen=frozenset(planned.dataset.manifest.index))
        sources = dataclasses.replace(planned.sources[None], exposure=exposure)
        rows = [run_trial(cell, sources).row for cell in planned.cells]
        found = {(row["mode"], row["real_fraction"]): row for row in rows}
        for mode in ("baseline", "augmentation"):
            half, whole = found[mode, 0.5], found[mode, 1.0]
            assert 0 < half["n_real"] < whole["n_real"] == half["n_real"] + half["n_dropped"]
            assert half["n_fake"] == whole["n_fake"]
            assert whole["n_dropped"] == 0
        saw = {key: row["gan_saw_removed"] for key, row in found.items()}
        assert [key for key, seen in saw.items() if seen] == [("augmentation", 0.5)]
