"""The axis `split`: who trains and validates, drawn anew outside the test set."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.data import Dataset, open_dataset
from fgaug.data.dataset import write_dataset
from fgaug.data.split import redrawn
from fgaug.errors import GridError
from fgaug.grid.cells import Cell, Context, cells_of, from_dict, to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.space import Space
from fgaug.runs import mix
from fgaug.runs.reals import Reals
from fgaug.runs.row import identity_columns
from fgaug.runs.trial import Trial
from fgaug.study import planner

NETWORKS = Path(__file__).parent / "data" / "stylegan2"
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


def grid(split: list[Any] | None = None, **top: Any) -> Space:
    raw = copy.deepcopy({**GRID, **top})
    if split is not None:
        raw["axes"]["split"] = split
    return parse_space(raw)


def cells(split: list[Any] | None = None, **top: Any) -> tuple[Cell, ...]:
    return expanded(grid(split, **top), {None: CONTEXT})


def names(found: tuple[Cell, ...]) -> set[str]:
    return {cell.cell_id for cell in found}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a phantom dataset that has a test set."""
    folder = tmp_path_factory.mktemp("splits")
    phantom_dataset(folder, images=120, test=0.2, valid=0.4)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return open_dataset(root / "dataset")


class TestCells:
    def test_every_arm_baseline_and_twin_at_every_split(self) -> None:
        found = cells(["dataset", 0, 7])
        counts = Counter((cell.mode, cell.split) for cell in found)
        for mode, count in {"baseline": 2, "oversample": 4, "augmentation": 8}.items():
            assert [counts[mode, split] for split in ("dataset", 0, 7)] == [count] * 3
        assert len(names(found)) == len(found) == 42
        assert [cell.seed for cell in found] == [3] * 21 + [5] * 21

    def test_the_prepared_split_is_the_default(self) -> None:
        assert [c.cell_id for c in cells(["dataset"])] == [c.cell_id for c in cells()]
        assert names(cells()) < names(cells([1, "dataset"]))
        assert not names(cells()) & names(cells([0]))
        assert not names(cells([1])) & names(cells([0]))

    def test_names_never_change(self) -> None:
        """Finished trials of earlier versions are found again: raise RECIPE_VERSION on purpose."""
        found = cells([1], controls=[], exclude=[{"ratio": 8}, {"psi": 0.3}, {"seed": 5}])
        assert [cell.cell_id for cell in found] == ["3f3cd1bdfb4a", "3ea44649a497"]

    def test_rows_and_words(self) -> None:
        for cell in cells(["dataset", 7]):
            assert identity_columns(cell)["split"] == str(cell.split)
            assert from_dict(to_dict(cell)) == cell
        assert "split" not in identity_columns(cells()[0])
        assert cells([7])[0].described == "baseline split 7 seed 3"
        value = to_dict(cells()[0])
        del value["split"]
        assert from_dict(value) == cells()[0], "a cell of an earlier version"

    def test_exclude_and_include_name_splits(self) -> None:
        found = cells(["dataset", 0], exclude=[{"split": 0, "mode": "augmentation", "ratio": 8}])
        assert len(found) == 14 + 14 - 4 - 2
        entry = {"mode": "augmentation", "psi": 1, "ratio": 1, "split": [4], "seed": 3}
        new = [cell for cell in cells(include=[entry]) if cell.cell_id not in names(cells())]
        assert [(c.mode, c.split) for c in new] == [
            ("baseline", 4),
            ("oversample", 4),
            ("augmentation", 4),
        ]
        with pytest.raises(
            GridError, match=r"`exclude.0.split`: no cell has 3; the cells have 0, dat"
        ):
            grid(["dataset", 0], exclude=[{"split": 3}])

    def test_what_is_resolved_is_the_same_grid(self) -> None:
        space = grid(["dataset", 4], exclude=[{"split": 4, "seed": 5}])
        again = parse_space(yaml.safe_load(space.to_yaml()))
        assert expand(again) == expand(space)


class TestDraw:
    def test_the_seed_that_prepared_a_split_draws_it_again(self, data: Dataset) -> None:
        pd.testing.assert_frame_equal(data.with_split(19).manifest, data.manifest)
        assert data.with_split("dataset") is data

    def test_patients_stay_whole_and_tests_stay_tests(self, data: Dataset) -> None:
        before = data.manifest
        patients = before.groupby("split")["group"].nunique()
        drawn = set()
        for seed in range(30):
            after = data.with_split(seed).manifest
            assert (after.groupby("group")["split"].nunique() == 1).all()
            assert ((after["split"] == "test") == (before["split"] == "test")).all()
            assert (after.groupby("split")["group"].nunique() == patients).all()
            pd.testing.assert_frame_equal(
                after.drop(columns="split"), before.drop(columns="split")
            )
            drawn.add(tuple(after["split"]))
        assert len(drawn) == 30

    def test_a_draw_depends_on_nothing_but_its_groups_and_seed(self, data: Dataset) -> None:
        shuffled = data.manifest.sample(frac=1, random_state=0)
        again = redrawn(shuffled, 5).sort_index()
        pd.testing.assert_frame_equal(again, data.with_split(5).manifest)
        pd.testing.assert_frame_equal(redrawn(again, 5), again)

    def test_an_extended_set_keeps_how_many_validate(self, tmp_path: Path) -> None:
        root = phantom_dataset(tmp_path, images=120, extend=True)
        data = open_dataset(root)
        patients = data.manifest.groupby("split")["group"].nunique()
        after = data.with_split(3).manifest
        assert (after.groupby("split")["group"].nunique() == patients).all()
        assert after["gan"].equals(data.manifest["gan"])

    def test_the_pixels_are_those_of_the_dataset(self, data: Dataset) -> None:
        divided = data.with_split(2)
        assert divided.spec is data.spec
        assert np.array_equal(divided.pixels(), data.pixels())


class TestPlans:
    def planned(self, root: Path, out: Path, split: list[Any], **top: Any) -> Any:
        raw = small_grid(root, **top)
        raw["axes"] |= {"split": split}
        return planner.plan(parse_space(raw), out / "run")

    def test_mixes_of_a_split_are_of_its_patients(
        self, root: Path, data: Dataset, tmp_path: Path
    ) -> None:
        planned = self.planned(root, tmp_path, ["dataset", 1, 2])
        for cell in planned.cells:
            manifest = data.with_split(cell.split).manifest
            reals = Reals(manifest, data.spec.labels)
            made = mix.plan(cell, reals, 100)
            trained = set(manifest.loc[made.real, "group"])
            held_out = set(manifest.loc[manifest["split"] != "train", "group"])
            assert trained
            assert not trained & held_out
            assert len(made.real) == (manifest["split"] == "train").sum()

    def test_a_split_without_a_label_is_refused(self, tmp_path: Path) -> None:
        rows = open_dataset(phantom_dataset(tmp_path / "a"))
        manifest = rows.manifest.copy()
        few = manifest.groupby("label").head(2).copy()  # two patients a label: one on each side
        few["group"] = ["a", "b", "c", "d"]
        few["split"] = ["train", "valid"] * 2
        few = few.sort_values("image_id")
        pixels = [rows.pixels()[few.index]]
        write_dataset(tmp_path / "dataset", rows.spec, few, pixels)
        seed = next(
            seed
            for seed in range(99)
            if (redrawn(few, seed).groupby("split")["label"].nunique() < 2).any()
        )
        with pytest.raises(GridError) as refused:
            self.planned(tmp_path, tmp_path, ["dataset", seed])
        rule = rf"^`axes.split` {seed}: no image of label (dbp|trv) in the (train|valid) set\. Try"
        assert re.match(rule, refused.value.problems[0])

    def test_copies_that_a_draw_parts_are_refused(self, tmp_path: Path) -> None:
        rows = open_dataset(phantom_dataset(tmp_path / "a"))
        manifest = rows.manifest.copy()
        train = manifest.index[manifest["split"] == "train"]
        one = train[0]
        other = next(
            i
            for i in train
            if manifest["group"][i] != manifest["group"][one]
            and manifest["label"][i] == manifest["label"][one]
        )
        manifest.loc[other, "sha256"] = manifest["sha256"][one]
        write_dataset(tmp_path / "dataset", rows.spec, manifest, [rows.pixels()])
        pair = [one, other]
        seed = next(s for s in range(99) if redrawn(manifest, s).loc[pair, "split"].nunique() > 1)
        self.planned(tmp_path, tmp_path, ["dataset"])
        with pytest.raises(
            GridError, match=rf"split` {seed}: 1 exact duplicate is in more than one"
        ):
            self.planned(tmp_path, tmp_path, [seed])

    def test_removals_beyond_a_split_name_it(self, root: Path, tmp_path: Path) -> None:
        raw = small_grid(root, remove={"dbp": 1000, "trv": 1})
        raw["axes"] |= {"mode": ["replacement"], "split": [4]}
        with pytest.raises(
            GridError, match=r"images of `dbp`, but the .* has \d+ at `split` 4. Low"
        ):
            planner.plan(parse_space(raw), tmp_path / "run")


class TestLeakage:
    """What a network saw must stay out of the validation part of every split."""

    def planned(
        self, root: Path, folder: Path, split: list[Any], mode: str = "augmentation"
    ) -> Any:
        files = {}
        for label in ("dbp", "trv"):
            files[label] = str(folder / f"{label}.pkl")
            Path(files[label]).write_bytes((NETWORKS / "a.pkl").read_bytes())
        raw = small_grid(
            root,
            bank=str(folder / "bank"),
            generator={"snapshots": files, "noise": "const"},
        )
        raw["axes"] |= {"split": split, "mode": [mode]}
        return planner.plan(parse_space(raw), folder / "run")

    def record(self, folder: Path, data: Dataset, split: int | str) -> None:
        manifest = data.with_split(split).manifest
        rows = manifest.loc[manifest["split"] == "train", ["sha256", "group"]]
        for label in ("dbp", "trv"):
            rows.to_parquet(folder / f"{label}.trained_on.parquet")

    def test_a_record_is_held_against_each_split(
        self, root: Path, data: Dataset, tmp_path: Path
    ) -> None:
        self.record(tmp_path, data, 3)
        assert self.planned(root, tmp_path, [3]).sources[None].leakage == "none"
        with pytest.raises(GridError) as refused:
            self.planned(root, tmp_path, ["dataset", 3, 4])
        problems = refused.value.problems
        assert len(problems) == 4, "two networks at two of the three splits"
        here, there = (data.with_split(split).manifest for split in (3, 4))
        both = (here["split"] == "train") & (there["split"] == "valid")
        patients = there.loc[both, "group"].nunique()
        assert problems[2].startswith(
            f"`generator.snapshots.dbp` was trained on {both.sum()} validation or test images of "
            f"`axes.split` 4 and on images of {patients} of their patients ("
        )
        assert "test images and on images" in problems[0], "the dataset's own has no name"
        assert self.planned(root, tmp_path, [4], mode="baseline").sources[None].leakage == "none"

    def test_without_a_record_another_split_is_refused(self, root: Path, tmp_path: Path) -> None:
        assert self.planned(root, tmp_path, ["dataset"]).sources[None].leakage == "unknown"
        with pytest.raises(GridError) as refused:
            self.planned(root, tmp_path, ["dataset", 0, 1])
        assert list(refused.value.problems) == [
            "`axes.split` 0, 1: the training images of the networks of `dbp`, `trv` are unknown, "
            "so a resplit may validate on them. Train networks on that split and keep their "
            "record (`x.trained_on.parquet` beside `x.pkl`), use `kind: phantom` or `stub`, or "
            "use only modes without fakes"
        ]
        assert self.planned(root, tmp_path, [0, 1], mode="baseline").cells

    def test_gan_flags_stand_for_a_record(self, tmp_path: Path) -> None:
        data = open_dataset(phantom_dataset(tmp_path, images=120, extend=True))
        with pytest.raises(GridError) as refused:
            self.planned(tmp_path, tmp_path, ["dataset", 6])
        after = data.with_split(6).manifest
        flagged = int((after["gan"] & (after["split"] == "valid")).sum())
        assert flagged > 0
        (problem,) = refused.value.problems
        assert problem.startswith(
            f"`axes.split` 6 validates on {flagged} images with the gan flag, on which the "
            "networks of `dbp`, `trv` were trained. Train networks on that split and"
        )

    def test_flags_that_a_split_keeps_in_training_are_fine(self, tmp_path: Path) -> None:
        rows = open_dataset(phantom_dataset(tmp_path / "a"))
        manifest = rows.manifest.copy()
        always = (manifest["split"] == "train") & (redrawn(manifest, 6)["split"] == "train")
        manifest["gan"] = always
        write_dataset(tmp_path / "dataset", rows.spec, manifest, [rows.pixels()])
        assert self.planned(tmp_path, tmp_path, ["dataset", 6]).sources[None].leakage == "unknown"


def test_a_trial_is_of_its_cells_split(root: Path, data: Dataset, tmp_path: Path) -> None:
    raw = small_grid(root, bank=str(tmp_path / "bank"))
    raw["axes"] |= {"split": [8], "seed": [1]}
    planned = planner.plan(parse_space(raw), tmp_path / "run")
    trial = Trial(planned.cells[0], planned.sources[None], "cpu")
    assert trial.dataset.manifest["split"].equals(data.with_split(8).manifest["split"])
    assert trial.reals.count("dbp") == len(trial.reals.rows("dbp"))
