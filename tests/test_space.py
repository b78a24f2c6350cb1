"""The grid file: what is read, and every mistake in it as one readable line."""

from __future__ import annotations

import contextlib
import copy
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fgaug.core.yaml_file import MAX_BYTES, read_yaml
from fgaug.errors import GridError
from fgaug.grid.axes import SeedSample
from fgaug.grid.load import load_space, parse_space
from fgaug.grid.space import Space
from fgaug.study import planner

# The example of the contract, its comments included.
EXAMPLE = """
name: fetal-augmentation              # the run goes to runs/<name>
dataset: data/fetal
bank: banks/fetal
generator:
  snapshots: {dbp: nets/dbp.pkl, trv: nets/trv.pkl}
  noise: seeded
pool: 30000
axes:
  mode: [augmentation]
  psi: [0.3, 0.5, 0.7, 1.0]
  ratio: [0.5, 1, 2, 4, 8]
  seed: {sample: 5, from: 1000, rng: 19}
  recipe.model: [resnet18, resnet50]
remove: {dbp: 500, trv: 500}
controls: [oversample]
recipe: {backend: torch, model: resnet18, pretrained: true, augmentation: fastai, batch_size: 64}
budget: {unit: epochs, max: 20, patience: 5}
scheduler: {type: none}
resources: {cpu: 1, gpu: 0.25}
"""
GONE = object()
EXTERNAL = {
    "kind": "external",
    "snapshots": {"dbp": "nets/dbp.pkl", "trv": {"file": "nets/trv.pkl", "class": 0}},
    "python": "/envs/ada/bin/python",
    "repo": "/src/stylegan2-ada",
    "prefix": "trv_",
    "noise": "const",
}


def grid(**changes: Any) -> dict[str, Any]:
    """Return the example with changes; `axes__psi` is `psi` in `axes`, GONE removes a key."""
    raw: dict[str, Any] = yaml.safe_load(EXAMPLE)
    for name, value in changes.items():
        *folders, key = name.split("__")
        where = raw
        for folder in folders:
            where = where[folder]
        if value is GONE:
            del where[key]
        else:
            where[key] = copy.deepcopy(value)
    return raw


def problems(**changes: Any) -> list[str]:
    with pytest.raises(GridError) as caught:
        parse_space(grid(**changes))
    return list(caught.value.problems)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "grid.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(GridError) as caught:
        load_space(path)
    assert caught.value.source == str(path)
    (problem,) = caught.value.problems
    return problem


class TestWhatIsRead:
    def test_the_example(self, odd_root: Path) -> None:
        space = load_space(written(odd_root, EXAMPLE))
        assert space.axes.mode == ["augmentation"]
        assert space.axes.amounts == ((0.5, None), (1, None), (2, None), (4, None), (8, None))
        assert space.axes.recipe == {"model": ["resnet18", "resnet50"]}
        assert space.removals == ({"dbp": 500, "trv": 500},)
        assert space.generator is not None
        assert space.generator.snapshots["trv"].file == "nets/trv.pkl"
        assert space.budget.patience == 5
        assert space.resources.gpu == 0.25

    def test_defaults(self) -> None:
        space = parse_space(
            {"name": "b", "dataset": "d", "axes": {"mode": ["baseline"], "seed": [1]}}
        )
        assert (space.pool, space.bank, space.generator) == (30000, None, None)
        assert (space.budget.unit, space.budget.max, space.budget.patience) == ("epochs", 20, 5)
        steps = parse_space(grid(budget={"unit": "steps", "max": 1386}))
        assert (steps.budget.evaluations, steps.budget.patience) == (21, None)

    def test_a_conditional_network_serves_two_labels(self) -> None:
        both = {"dbp": {"file": "both.pkl", "class": 0}, "trv": {"file": "both.pkl", "class": 1}}
        space = parse_space(grid(generator__snapshots=both))
        assert space.generator is not None
        assert [s.class_index for s in space.generator.snapshots.values()] == [0, 1]

    def test_an_external_program(self) -> None:
        generator = parse_space(grid(generator=EXTERNAL)).generator
        assert generator is not None
        assert (generator.python, generator.repo) == ("/envs/ada/bin/python", "/src/stylegan2-ada")
        assert (generator.program, generator.prefix) == (None, "trv_")
        assert generator.snapshots["trv"].class_index == 0

    def test_imported_images_have_no_networks(self) -> None:
        generator = parse_space(grid(generator={"kind": "imported"})).generator
        assert generator is not None
        assert (generator.kind, generator.snapshots) == ("imported", {})

    def test_a_cutoff_of_the_truncation(self) -> None:
        generator = parse_space(grid(generator__cutoff=4)).generator
        assert generator is not None
        assert generator.cutoff == 4
        assert "cutoff" not in parse_space(grid()).to_yaml()

    def test_counts_instead_of_ratios(self) -> None:
        space = parse_space(grid(axes__ratio=GONE, axes__fakes=[{"dbp": 3000, "trv": 0}]))
        assert space.axes.amounts == ((None, {"dbp": 3000, "trv": 0}),)

    def test_seeds_are_those_of_the_study(self) -> None:
        assert parse_space(grid()).seeds == tuple(random.Random(19).sample(range(1000), 5))
        assert parse_space(grid(axes__seed=[7, 0])).seeds == (7, 0)
        assert SeedSample.model_validate({"sample": 2}).population == 1000

    def test_removals_may_be_counts_shares_and_all(self) -> None:
        removal = {"dbp": "all", "trv": 0.5, "x": 3}
        space = parse_space(
            grid(remove=GONE, axes__remove=[removal, {"dbp": 1}], axes__mode=["replacement"])
        )
        assert space.removals == (removal, {"dbp": 1})

    def test_grid_stands_for_the_folder_of_the_file(self, odd_root: Path) -> None:
        text = EXAMPLE.replace("nets/dbp.pkl", "'${grid}/nets/dbp.pkl'")
        space = load_space(written(odd_root, text))
        assert space.generator is not None
        assert space.generator.snapshots["dbp"].file == f"{odd_root}/nets/dbp.pkl"
        assert space.generator.snapshots["trv"].file == "nets/trv.pkl"

    def test_a_byte_order_mark_is_dropped(self, tmp_path: Path) -> None:
        assert load_space(written(tmp_path, "\ufeff" + EXAMPLE.lstrip())).pool == 30000

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"axes__seed": [3, 1]},
            {"axes__ratio": GONE, "axes__fakes": [{"dbp": 3, "trv": 0}]},
            {"axes__mode": ["replacement"], "remove": {"dbp": "all", "trv": 0.25}},
            {"recipe": {"augmentation": [{"Rotate": {"limit": 10, "mask_value": None}}]}},
            {"budget": {"unit": "steps", "max": 40, "evaluations": 4}},
            {"generator__cutoff": 8},
            {"generator": EXTERNAL},
            {"generator": {"kind": "imported", "noise": "const"}},
            {"axes__real_fraction": [0.1, 1]},
            {
                "exclude": [
                    {"psi": 0.3, "recipe.model": "resnet50"},
                    {"seed": random.Random(19).sample(range(1000), 2)},
                ]
            },
            {"include": [{"mode": "augmentation", "psi": 0.9, "ratio": [3, 4], "seed": [1]}]},
            {"include": [{"mode": "augmentation", "psi": 0.9, "ratio": 1}], "cells": 265},
            {
                "include": [
                    {
                        "mode": "synthetic",
                        "psi": [1],
                        "ratio": 1,
                        "recipe.augmentation": [{"Rotate": {"limit": 10}}],
                        "real_fraction": 1,
                    }
                ]
            },
        ],
    )
    def test_what_is_resolved_is_the_same_grid(self, changes: dict[str, Any]) -> None:
        space = parse_space(grid(**changes))
        again = parse_space(yaml.safe_load(space.to_yaml()))
        assert again.seeds == space.seeds
        drawn = space.model_copy(
            update={"axes": space.axes.model_copy(update={"seed": list(space.seeds)})}
        )
        assert again == drawn
        assert again.to_yaml() == space.to_yaml()

    @given(
        psi=st.lists(
            st.floats(-4, 4, allow_nan=False).filter(lambda psi: abs(psi) >= 1e-6),
            min_size=1,
            max_size=5,
            unique=True,
        ),
        ratio=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=5, unique=True),
        seed=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True),
    )
    def test_any_numbers_survive_the_file(
        self, psi: list[float], ratio: list[float], seed: list[int]
    ) -> None:
        space = parse_space(grid(axes__psi=psi, axes__ratio=ratio, axes__seed=seed))
        assert parse_space(yaml.safe_load(space.to_yaml())) == space

    def test_a_space_does_not_change(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            parse_space(grid()).pool = 3  # type: ignore[misc]  # the point of the test


class TestMistakes:
    def test_all_of_them_at_once(self, odd_root: Path) -> None:
        path = written(
            odd_root,
            """
name: two words
bank: banks/fetal
generator: {snapshots: {dbp: nets/dbp.pkl}, nose: seeded}
pol: 3
axes:
  mode: [augmentation, replacement]
  truncation: [0.5]
  psi: [0, 0.7, true]
  ratio: [1, -1]
  fakes: [{dbp: 3, trv: 2}]
  seed: [1, 1]
  recipe.modle: [resnet18]
controls: [oversmaple]
recipe: {batch_size: 64.5}
budget: {unit: steps, max: 10, patience: 3}
resources: {gpu: 1.5}
""",
        )
        with pytest.raises(GridError) as caught:
            load_space(path)
        assert str(caught.value).splitlines() == [
            f"{path}: 16 problems",
            "  - `name`: must consist of letters, digits, dots, dashes and underscores, "
            "got 'two words'",
            "  - `dataset` is missing",
            "  - `generator.nose`: unknown key, did you mean `noise`?",
            "  - `axes.psi.0`: `psi` 0 gives one image for every seed; "
            "use a value above or below 0",
            "  - `axes.psi.2`: must be a number, got True",
            "  - `axes.ratio.1`: must be above 0, got -1",
            "  - `axes.seed`: values repeat: 1",
            "  - `axes.truncation`: unknown axis, did you mean `psi`?",
            "  - `controls.0`: must be 'oversample', 'drop' or 'random_subset', got 'oversmaple'",
            "  - `recipe.batch_size`: must be a whole number, got 64.5",
            "  - `budget`: `patience` belongs to `unit: epochs`; steps always run to `max`",
            "  - `resources`: `gpu` above 1 must be a whole number, got 1.5",
            "  - `pol`: unknown key, did you mean `pool`?",
            "  - `axes`: give `ratio` or `fakes`, not both",
            "  - `axes.recipe.modle`: unknown recipe field, did you mean `model`?",
            "  - `remove` is missing, but `axes.mode` contains replacement",
        ]

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"axes__psi": []}, "`axes.psi` is missing or empty, but a mode uses fakes"),
            ({"axes__psi": GONE}, "`axes.psi` is missing or empty, but a mode uses fakes"),
            ({"axes__psi": 0.7}, "`axes.psi`: must be a list, got 0.7"),
            ({"axes__psi": [0.7, 0.70]}, "`axes.psi`: values repeat: 0.7"),
            ({"axes__psi": [float("nan")]}, "`axes.psi.0`: must be a finite number, got nan"),
            (
                {"axes__ratio": GONE},
                "`axes.ratio` (or `axes.fakes`) is missing or empty, but a mode uses fakes",
            ),
            ({"axes__ratio": [1, 1.0]}, "`axes.ratio`: values repeat: 1.0"),
            ({"axes__ratio": [False]}, "`axes.ratio.0`: must be a number, got False"),
            ({"axes__fakes": [{"a": 1}]}, "`axes`: give `ratio` or `fakes`, not both"),
            ({"axes__mode": []}, "`axes.mode`: must not be empty, got []"),
            ({"axes__mode": GONE}, "`axes.mode` is missing"),
            ({"axes": GONE}, "`axes` is missing"),
            ({"axes": 3}, "`axes`: must be a mapping of keys to values, got 3"),
            ({"axes__seed": [1, True]}, "`axes.seed.1`: must be a whole number, got True"),
            ({"axes__seed": [-1]}, "`axes.seed.0`: must be at least 0, got -1"),
            ({"axes__seed": []}, "`axes.seed`: must not be empty, got []"),
            ({"axes__seed": 5}, "`axes.seed`: must be a list, got 5"),
            (
                {"axes__seed": {"sample": 5, "from": 3}},
                "`axes.seed`: cannot draw 5 distinct seeds from 3",
            ),
            ({"axes__seed": {"sample": 5, "form": 9}}, "`axes.seed.form`: unknown key"),
            ({"axes__recipe": [1]}, "`axes.recipe`: must be a mapping of keys to values, got [1]"),
            ({"axes__recipe.model": "a"}, "`axes.recipe.model`: must be a list, got 'a'"),
            (
                {"axes__recipe.batch_size": [1, 64]},
                "`axes.recipe.batch_size`: must be at least 2, got 1",
            ),
            (
                {"axes__recipe.pretrained": [True, False], "recipe__weights": "w.pth"},
                "`axes.recipe` with `recipe`: `weights` is given, but `pretrained` is false; "
                "drop one of them",
            ),
            ({"bank": GONE}, "`bank` is missing, but a mode uses fakes"),
            ({"generator": GONE}, "`generator` is missing, but a mode uses fakes"),
            ({"generator": {}}, "`generator`: `kind: stylegan2` needs `snapshots: {label: file}`"),
            (
                {"generator__kind": "phantom"},
                "`generator`: `kind: phantom` takes no `snapshots`",
            ),
            (
                {"generator": {"kind": "imported", "snapshots": {"dbp": "a.pkl"}}},
                "`generator`: `kind: imported` takes no `snapshots`",
            ),
            (
                {"generator": {"kind": "external", "repo": "stylegan2-ada"}},
                "`generator`: `kind: external` needs `snapshots: {label: file}`; "
                "`kind: external` needs `python`",
            ),
            (
                {"generator": {**EXTERNAL, "cutoff": 4}},
                "`generator`: `kind: external` takes no `cutoff`",
            ),
            (
                {"generator": {**EXTERNAL, "kind": "stylegan2"}},
                "`generator`: `kind: stylegan2` takes no `python`, `repo`, `prefix`",
            ),
            (
                {"generator": {**EXTERNAL, "program": "run_generator.py"}},
                "`generator`: `program: run_generator.py` takes no `prefix`; "
                "`program: run_generator.py` takes no `class`; drop it from `trv`",
            ),
            (
                {"generator__program": "train.py"},
                "`generator.program`: must be 'generate.py' or 'run_generator.py', got 'train.py'",
            ),
            (
                {"generator__prefix": "../trv"},
                "`generator.prefix`: must consist of letters, digits, dots, dashes and "
                "underscores, got '../trv'",
            ),
            ({"generator__cutoff": 0}, "`generator.cutoff`: must be at least 1, got 0"),
            ({"generator__cutoff": True}, "`generator.cutoff`: must be a whole number, got True"),
            ({"generator__pyton": "p"}, "`generator.pyton`: unknown key, did you mean `python`?"),
            ({"pool": True}, "`pool`: must be a whole number, got True"),
            ({"pool": 0}, "`pool`: must be at least 1, got 0"),
            ({"pool": 2**32 - 1}, "`pool`: must be at most 10000000, got 4294967295"),
            (
                {"recipe": {"batch_size": 10**9}},
                "`recipe.batch_size`: must be at most 65536, got 1000000000",
            ),
            ({"recipe": {"modle": "a"}}, "`recipe.modle`: unknown key, did you mean `model`?"),
            (
                {"recipe": {"pretrained": "yes"}},
                "`recipe.pretrained`: must be true or false, got 'yes'",
            ),
            (
                {"budget": {"unit": "steps", "max": 1}},
                "`budget`: `max` must be at least 2 steps, one with a frozen body and one without",
            ),
            (
                {"budget": {"evaluations": 3}},
                "`budget`: `evaluations` belongs to `unit: steps`; epochs are evaluated "
                "one by one",
            ),
            (
                {"budget": {"unit": "steps", "max": 5, "evaluations": 9}},
                "`budget`: `evaluations` must not exceed `max` (5 steps)",
            ),
            ({"budget": {"max": True}}, "`budget.max`: must be a whole number, got True"),
            (
                {"resources": {"gpu": 1.5}},
                "`resources`: `gpu` above 1 must be a whole number, got 1.5",
            ),
            ({"resources": {"cpu": 0}}, "`resources.cpu`: must be above 0, got 0"),
            ({"resources": {"gpu": True}}, "`resources.gpu`: must be a number, got True"),
            (
                {"remove": {"a": 1.5}},
                "`remove.a`: must be a count, a fraction below 1 or `all`, got 1.5",
            ),
            (
                {"remove": {"a": True}},
                "`remove.a`: must be a count, a fraction below 1 or `all`, got True",
            ),
            (
                {"remove": {"a": -1}},
                "`remove.a`: must be a count, a fraction below 1 or `all`, got -1",
            ),
            (
                {"axes__remove": [{"a": 1}]},
                "`remove` is given twice: drop it at the top level or in `axes`",
            ),
            (
                {"controls": ["drop"]},
                "`controls: drop` needs replacement arms, but no `mode` is replacement",
            ),
            (
                {"controls": ["drop", "drop"], "axes__mode": ["replacement"]},
                "`controls`: values repeat: drop",
            ),
            (
                {"axes__real_fraction": [0.5, 0]},
                "`axes.real_fraction.1`: must be above 0, got 0",
            ),
            (
                {"axes__real_fraction": [1.5]},
                "`axes.real_fraction.0`: must be at most 1, got 1.5",
            ),
            ({"axes__real_fraction": []}, "`axes.real_fraction`: must not be empty, got []"),
            (
                {"axes__real_fractoin": [1]},
                "`axes.real_fractoin`: unknown axis, did you mean `real_fraction`?",
            ),
            (
                {"axes__split": ["valid"]},
                "`axes.split.0`: must be `dataset` or a whole number from 0 to 4294967295, "
                "got 'valid'",
            ),
            (
                {"axes__split": [1, -1]},
                "`axes.split.1`: must be `dataset` or a whole number from 0 to 4294967295, got -1",
            ),
            ({"axes__split": [1, 1]}, "`axes.split`: values repeat: 1"),
            ({"axes__split": []}, "`axes.split`: must not be empty, got []"),
        ],
    )
    def test_one_line_each(self, changes: dict[str, Any], expected: str) -> None:
        assert problems(**changes) == [expected]

    def test_unknown_schedulers(self) -> None:
        (problem,) = problems(scheduler={"type": "hyperband"})
        assert problem.startswith("`scheduler.type`: must be 'none', ")
        assert problem.endswith(", got 'hyperband'")

    def test_two_axes_of_recipes_at_odds(self) -> None:
        axes = {"axes__recipe": [1], "axes__recipe.model": ["a"]}
        assert problems(**axes) == ["`axes.recipe`: must be a mapping of keys to values, got [1]"]

    def test_replacement_needs_removals(self) -> None:
        expected = ["`remove` is missing, but `axes.mode` contains replacement"]
        assert problems(axes__mode=["replacement"], remove=GONE) == expected

    @pytest.mark.parametrize("raw", [None, [], "text", 3])
    def test_a_grid_is_a_mapping(self, raw: Any) -> None:
        with pytest.raises(GridError, match="a grid must be a mapping of keys to values"):
            parse_space(raw)

    def test_unknown_keys_with_the_names_of_types(self) -> None:
        with pytest.raises(GridError) as caught:
            parse_space(grid(int=1, axes__float=[2]))
        assert caught.value.problems == ("`axes.float`: unknown axis", "`int`: unknown key")

    def test_keys_that_are_no_text(self) -> None:
        raw = grid()
        raw[1], raw["axes"][None] = 2, 3
        with pytest.raises(GridError) as caught:
            parse_space(raw)
        assert len(caught.value.problems) == 2

    def test_the_error_travels_between_processes(self) -> None:
        error = pickle.loads(pickle.dumps(GridError(["a", "b"], "x.yaml")))
        assert (error.problems, error.source, error.exit_code) == (("a", "b"), "x.yaml", 2)
        assert str(error) == "x.yaml: 2 problems\n  - a\n  - b"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        st.sampled_from(
            [
                *("name", "dataset", "bank", "generator", "pool", "remove", "controls", "recipe"),
                *("budget", "scheduler", "resources", "axes", "axes__mode", "axes__psi"),
                *("axes__ratio", "axes__fakes", "axes__seed", "axes__remove", "axes__recipe"),
                *("axes__recipe.model", "axes__recipe.augmentation", "generator__snapshots"),
                *("axes__real_fraction", "include", "exclude", "cells"),
            ]
        ),
    )
    def test_whatever_is_given_ends_in_a_space_or_a_grid_error(self, value: Any, key: str) -> None:
        with contextlib.suppress(GridError):  # any other error is a traceback for a user
            assert isinstance(parse_space(grid(**{key: value})), Space)


def test_a_grid_made_in_python_is_checked_before_its_dataset_is_opened() -> None:
    space = Space.model_validate(grid(cells=3))
    with pytest.raises(GridError) as caught:
        planner.plan(space)
    assert list(caught.value.problems) == problems(cells=3)
    assert "`cells` is 3" in caught.value.problems[0]


class TestYaml:
    def test_python_tags_are_refused(self, tmp_path: Path) -> None:
        found = refused(tmp_path, "name: !!python/object/apply:os.system ['true']\n")
        assert found.startswith("line 1, column 7: could not determine a constructor")

    def test_aliases_are_refused(self, tmp_path: Path) -> None:
        found = refused(tmp_path, "a: &x [1]\nb: *x\n")
        assert found == "line 2, column 4: aliases (*name) are not supported; repeat the value"

    def test_repeated_keys_are_refused(self, tmp_path: Path) -> None:
        assert (
            refused(tmp_path, "a: 1\nb: {c: 1, c: 2}\n")
            == "line 2, column 11: key `c` occurs twice"
        )
        assert (
            refused(tmp_path, "pool: 1\npool: 1\n") == "line 2, column 1: key `pool` occurs twice"
        )

    def test_a_large_file_is_not_read(self, tmp_path: Path) -> None:
        assert (
            refused(tmp_path, b"#" * (MAX_BYTES + 1))
            == "a grid file can have at most 1048576 bytes"
        )

    def test_other_encodings(self, tmp_path: Path) -> None:
        assert (
            refused(tmp_path, "name: café".encode("latin-1"))
            == "byte 9 is not UTF-8. Save the file as UTF-8"
        )

    def test_deep_nesting(self, tmp_path: Path) -> None:
        assert refused(tmp_path, "[" * 100_000).startswith("invalid YAML: ")

    def test_no_mapping(self, tmp_path: Path) -> None:
        assert refused(tmp_path, "- 1\n") == "a grid must be a mapping of keys to values, got list"
        assert refused(tmp_path, "") == "a grid must be a mapping of keys to values, got NoneType"

    @pytest.mark.parametrize(
        "text",
        [
            *("a: [1", "a: b: c", "a: \x00", "%YAML 9", "a: !!int x", "a: !!bool x"),
            *("a: !!timestamp x", "a: !!map [1]", "<<: {a: 1}", "? [a]\n: 1", "? {a: 1}\n: 1"),
            *("a: !!float x", "a: 2024-99-99", "a: !!set [1]", "a: !!omap x", "---\na: 1\n---\n"),
            "a: " + "9" * 5000,
        ],
    )
    def test_broken_files(self, tmp_path: Path, text: str) -> None:
        assert refused(tmp_path, text)

    def test_missing_files_and_folders(self, tmp_path: Path) -> None:
        with pytest.raises(GridError, match="the file does not exist"):
            read_yaml(tmp_path / "none.yaml")
        with pytest.raises(GridError, match="cannot be read"):
            read_yaml(tmp_path)
