"""Cells: how many a grid has, in which order, and what their names depend on."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgaug.grid.cells import (
    Cell,
    Context,
    cells_of,
    digest,
    from_dict,
    identify,
    recipe_identity,
    recipes_of,
    to_dict,
)
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.recipe import Recipe
from fgaug.grid.space import Space

GRID: dict[str, Any] = {
    "name": "g",
    "dataset": "d",
    "bank": "b",
    "generator": {"kind": "stub"},
    "axes": {"mode": ["augmentation"], "psi": [0.7], "ratio": [1], "seed": [3, 5]},
}


class SameWeights(dict[str, str]):
    """Weights of one content for every recipe."""

    def __missing__(self, key: str) -> str:
        return "sha-of-weights"


CONTEXT = Context(
    dataset_digest="d" * 64,
    generator={"sources": {"dbp": ["stub", "1" * 64, None]}, "noise": "seeded"},
    pool=30000,
    weights=SameWeights(),
)


def expanded(space: Space, contexts: Mapping[str | None, Context]) -> tuple[Cell, ...]:
    return cells_of(space, expand(space), contexts)


def space(**changes: Any) -> Space:
    """Return the grid with changes: axes by their names, other keys as `top__key`."""
    raw = copy.deepcopy(GRID)
    for name, value in changes.items():
        if name.startswith("top__"):
            raw[name.removeprefix("top__")] = value
        else:
            raw["axes"][name.replace("__", ".")] = value
    return parse_space(raw)


def cells(context: Context = CONTEXT, **changes: Any) -> tuple[Cell, ...]:
    return expanded(space(**changes), {None: context})


def one(wanted: str, context: Context = CONTEXT, **changes: Any) -> Cell:
    """Return the first cell of a mode."""
    return next(cell for cell in cells(context, **changes) if cell.mode == wanted)


REMOVAL = {"remove": {"dbp": 500, "trv": 500}, "remove_by": "group"}
REPLACEMENT = {"mode": ["replacement"], "top__remove": {"dbp": 500, "trv": 500}}


class TestCounts:
    def test_the_fetal_brain_study(self) -> None:
        found = cells(
            psi=[0.3, 0.5, 0.7, 1.0],
            ratio=[0.5, 1, 2, 3, 4, 5, 6, 7, 8],
            seed={"sample": 5, "from": 1000, "rng": 19},
        )
        assert len(found) == 185
        assert Counter(cell.mode for cell in found) == {"baseline": 5, "augmentation": 180}

    def test_two_modes_three_psis_two_ratios_five_seeds(self) -> None:
        found = cells(
            mode=["baseline", "augmentation"], psi=[0.5, 0.7, 1], ratio=[1, 2], seed=list(range(5))
        )
        assert len(found) == 35
        assert found == cells(psi=[0.5, 0.7, 1], ratio=[1, 2], seed=list(range(5)))

    def test_each_cell_once_and_seeds_outermost(self) -> None:
        found = cells(
            mode=["augmentation", "replacement", "synthetic"],
            psi=[0.5, 1],
            ratio=[1, 2],
            seed=[9, 2, 4],
            top__remove={"a": 1},
            top__controls=["oversample", "drop"],
        )
        assert len({cell.cell_id for cell in found}) == len(found)
        seeds = [cell.seed for cell in found]
        assert list(dict.fromkeys(seeds)) == [9, 2, 4]
        assert seeds == sorted(seeds, key=[9, 2, 4].index)
        per_seed = {
            "baseline": 1,
            "augmentation": 4,
            "replacement": 4,
            "synthetic": 4,
            "oversample": 4,  # twins of augmentation and of replacement, by ratio
            "drop": 1,
        }
        assert Counter(cell.mode for cell in found) == {k: 3 * n for k, n in per_seed.items()}

    def test_recipes_multiply_baselines_and_twins_too(self) -> None:
        found = cells(
            recipe__model=["resnet18", "resnet50"],
            recipe__dropout=[0, 0.5, 0.25],
            top__controls=["oversample"],
        )
        assert len(found) == 2 * 6 * 3
        assert Counter(cell.mode for cell in found)["baseline"] == 12
        assert {dict(cell.axes)["recipe.model"] for cell in found} == {"resnet18", "resnet50"}
        assert all(dict(cell.axes)["recipe.dropout"] == cell.recipe.dropout for cell in found)

    def test_axes_hold_values_as_the_recipe_reads_them(self) -> None:
        points = expand(space(recipe__learning_rate=["1e-3"]))  # YAML reads text here
        assert {point.value("recipe.learning_rate") for point in points} == {0.001}
        (recipe,) = recipes_of(points)
        assert recipe.learning_rate == 0.001

    @given(
        psi=st.lists(st.sampled_from([0.3, 0.5, 0.7, 1.0]), min_size=1, unique=True),
        ratio=st.lists(st.sampled_from([0.5, 1, 2, 8]), min_size=1, unique=True),
        seed=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    )
    def test_counts_follow_the_axes(
        self, psi: list[float], ratio: list[float], seed: list[int]
    ) -> None:
        found = cells(psi=psi, ratio=ratio, seed=seed, top__controls=["oversample"])
        assert len(found) == len(seed) * (1 + len(ratio) + len(psi) * len(ratio))

    def test_a_larger_grid_holds_the_cells_of_a_smaller(self) -> None:
        small = {cell.cell_id for cell in cells(psi=[0.7], ratio=[1])}
        large = {cell.cell_id for cell in cells(psi=[0.5, 0.7], ratio=[4, 1], seed=[1, 3, 5])}
        assert small < large


class TestControls:
    def test_an_oversample_twin_keeps_its_ratio_and_has_no_psi(self) -> None:
        found = cells(psi=[0.3, 0.5, 1], ratio=[1, 4], seed=[1], top__controls=["oversample"])
        twins = [cell for cell in found if cell.mode == "oversample"]
        assert [(twin.psi, twin.ratio, twin.remove) for twin in twins] == [
            (None, 1.0, None),
            (None, 4.0, None),
        ]
        assert not any(twin.uses_fakes for twin in twins)

    def test_a_twin_of_replacement_has_its_removals(self) -> None:
        twin = one("oversample", top__controls=["oversample"], **REPLACEMENT)
        assert twin.remove == (("dbp", 500.0), ("trv", 500.0))

    def test_drop_has_neither_psi_nor_ratio(self) -> None:
        found = cells(psi=[0.3, 1], ratio=[1, 4], seed=[1], top__controls=["drop"], **REPLACEMENT)
        (twin,) = (cell for cell in found if cell.mode == "drop")
        assert (twin.psi, twin.ratio, twin.fakes) == (None, None, None)
        assert twin.remove == (("dbp", 500.0), ("trv", 500.0))

    def test_removals_may_be_an_axis(self) -> None:
        found = cells(
            mode=["replacement"], remove=[{"a": 1}, {"a": "all"}], seed=[1], top__controls=["drop"]
        )
        assert Counter(cell.mode for cell in found) == {"baseline": 1, "replacement": 2, "drop": 2}

    def test_synthetic_arms_have_no_twin(self) -> None:
        found = cells(mode=["synthetic"], seed=[1], top__controls=["oversample"])
        assert [cell.mode for cell in found] == ["baseline", "synthetic"]

    def test_the_baseline_has_only_a_seed_and_a_recipe(self) -> None:
        cell = one("baseline", **REPLACEMENT)
        assert (cell.psi, cell.ratio, cell.fakes, cell.remove) == (None, None, None, None)
        assert cell.cell_id == one("baseline").cell_id


OTHER_CONTEXTS = {
    "dataset": (replace(CONTEXT, dataset_digest="e" * 64), True),
    "weights": (replace(CONTEXT, weights=dict.fromkeys([Recipe().model_dump_json()], "x")), True),
    "pool": (replace(CONTEXT, pool=29999), False),
    "generator": (replace(CONTEXT, generator={"kind": "other"}), False),
}


class TestIdentity:
    def test_names_are_twelve_hex_digits(self) -> None:
        for cell in cells():
            assert len(cell.cell_id) == len(cell.arm_id) == 12
            int(cell.cell_id + cell.arm_id, 16)

    def test_names_never_change(self) -> None:
        """Finished trials of earlier versions are found again: raise RECIPE_VERSION on purpose."""
        context = replace(CONTEXT, weights={Recipe().model_dump_json(): "w"})
        names = ["fcfc9aa2b686", "2d90cac0f14f", "29594122d770", "3008e1b3612e"]
        assert [cell.cell_id for cell in cells(context)] == names

    @given(
        seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
        text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    )
    def test_the_seeds_of_an_arm_share_all_but_their_own_hash(
        self, seeds: list[int], text: str
    ) -> None:
        axes = {"mode": ["augmentation", "replacement"], "seed": seeds}
        by_label = {"axes": {**GRID["axes"], **axes, "psi": [0.5, {text: 0.5, "x": 1.0}]}}
        read = parse_space({**GRID, **REMOVAL, **by_label, "controls": ["oversample"]})
        names = ("mode", "psi", "psi_by_label", "ratio", "fakes", "filter", "remove")
        names += ("remove_by", "split", "real_fraction", "rounds", "recipe", "budget", "seed")
        for cell in expanded(read, {None: CONTEXT}):
            content = {name: getattr(cell, name) for name in names}
            assert cell.cell_id == identify(content, CONTEXT)

    def test_whole_numbers_are_one_value(self) -> None:
        whole = cells(ratio=[1], psi=[1], **{"recipe__lr_mult": [100]})
        point = cells(ratio=[1.0], psi=[1.0], **{"recipe__lr_mult": [100.0]})
        assert [c.cell_id for c in whole] == [c.cell_id for c in point]
        assert digest({"a": [1, (2.0,)]}) == digest({"a": [1.0, [2]]})
        assert digest(True) != digest(1)
        assert digest(0.5) != digest(0)

    @pytest.mark.parametrize("name", OTHER_CONTEXTS)
    @pytest.mark.parametrize("mode", ["baseline", "oversample", "augmentation"])
    def test_context(self, name: str, mode: str) -> None:
        """What makes fakes is part of the name only where fakes are used."""
        context, concerns_all = OTHER_CONTEXTS[name]
        here, there = (
            one(mode, where, top__controls=["oversample"]) for where in (CONTEXT, context)
        )
        changed = concerns_all or mode == "augmentation"
        assert (here.cell_id != there.cell_id) == changed
        assert (here.arm_id != there.arm_id) == changed

    @pytest.mark.parametrize(
        "changes",
        [
            {"psi": [0.70001]},
            {"ratio": [2]},
            {"ratio": [], "fakes": [{"dbp": 1, "trv": 1}]},
            {"seed": [4]},
            {"recipe__dropout": [0.4]},
            {"real_fraction": [0.5]},
            {"split": [0]},
            {"top__recipe": {"batch_size": 32}},
            {"top__budget": {"max": 21}},
            {"top__budget": {"unit": "steps", "max": 20}},
        ],
    )
    def test_what_changes_a_name(self, changes: dict[str, Any]) -> None:
        assert one("augmentation", **changes).cell_id != one("augmentation").cell_id

    def test_removals_change_a_name(self) -> None:
        asked = [{"dbp": 500, "trv": 500}, {"dbp": 500, "trv": "all"}, {"dbp": 500, "trv": 0.5}]
        names = {one("replacement", mode=["replacement"], top__remove=r).cell_id for r in asked}
        whole_patients = one("replacement", top__remove_by="group", **REPLACEMENT)
        assert len({*names, whole_patients.cell_id}) == 4
        assert one("augmentation", top__remove_by="group").cell_id == one("augmentation").cell_id

    @pytest.mark.parametrize(
        "changes",
        [
            {"top__name": "other"},
            {"top__dataset": "elsewhere"},
            {"top__bank": "elsewhere"},
            {"top__resources": {"cpu": 2, "gpu": 0.5}},
            {"top__controls": ["oversample"]},
            {"top__recipe": {}},
            {"top__recipe": {"weights": "/a/place/of/the/same.pth"}},
            {"top__recipe": {"allow_scratch": True}},
            {"top__budget": {"unit": "epochs", "max": 20, "patience": 5}},
            {"psi": [0.3, 0.7]},
            {"real_fraction": [1]},
            {"real_fraction": [0.5, 1.0]},
            {"split": ["dataset"]},
            {"split": [4, "dataset"]},
            {"top__cells": 4},
            {"psi": [0.7, 1], "top__exclude": [{"psi": 1}]},
            {"top__include": [{"mode": "synthetic", "psi": 1, "ratio": 4}]},
        ],
    )
    def test_what_does_not_change_a_name(self, changes: dict[str, Any]) -> None:
        names = {cell.cell_id for cell in cells(**changes)}
        assert {cell.cell_id for cell in cells()} <= names

    def test_an_arm_is_a_cell_without_its_seed(self) -> None:
        found = cells(psi=[0.5, 1], ratio=[1, 2], seed=[1, 2, 3], top__controls=["oversample"])
        by_arm = Counter(cell.arm_id for cell in found)
        assert set(by_arm.values()) == {3}
        assert len(by_arm) == 1 + 4 + 2
        assert not set(by_arm) & {cell.cell_id for cell in found}

    def test_recipes_count_by_the_content_of_their_weights(self) -> None:
        recipe, other = Recipe(), Recipe(weights="/x.pth")
        weights = {recipe.model_dump_json(): "w", other.model_dump_json(): "w"}
        assert recipe_identity(recipe, weights) == recipe_identity(other, weights)

    @given(
        a=st.fixed_dictionaries(
            {
                "psi": st.floats(0.01, 3),
                "ratio": st.floats(0.01, 30),
                "seed": st.integers(0, 2**32 - 1),
            }
        ),
        b=st.fixed_dictionaries(
            {
                "psi": st.floats(0.01, 3),
                "ratio": st.floats(0.01, 30),
                "seed": st.integers(0, 2**32 - 1),
            }
        ),
    )
    def test_cells_are_the_same_where_their_values_are(
        self, a: dict[str, Any], b: dict[str, Any]
    ) -> None:
        here, there = (one("augmentation", **{k: [v] for k, v in each.items()}) for each in (a, b))
        assert (here.cell_id == there.cell_id) == (a == b)
        arms_equal = (a["psi"], a["ratio"]) == (b["psi"], b["ratio"])
        assert (here.arm_id == there.arm_id) == arms_equal


class TestTravel:
    def test_plain_values_and_back(self) -> None:
        recipe = {"augmentation": [{"Rotate": {"limit": 10}}]}
        for cell in cells(
            mode=["augmentation", "replacement"],
            ratio=[],
            fakes=[{"trv": 3, "dbp": 2}],
            recipe__dropout=[0.1],
            top__recipe=recipe,
            top__remove={"trv": "all", "dbp": 0.5},
            top__controls=["oversample", "drop"],
        ):
            assert from_dict(to_dict(cell)) == cell
            assert pickle.loads(pickle.dumps(cell)) == cell
            json.dumps(to_dict(cell))

    def test_words(self) -> None:
        assert one("augmentation").described == "augmentation psi 0.7 ratio 1 seed 3"
        counts = one("augmentation", ratio=[], fakes=[{"trv": 3, "dbp": 2}])
        assert counts.described == "augmentation psi 0.7 fakes dbp 2, trv 3 seed 3"
