"""The axis `snapshot`: several generators in one grid, each with a bank of its own."""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.analysis.report import write
from fgaug.bank import open_bank
from fgaug.core.paths import RunPaths
from fgaug.data import Dataset, open_dataset
from fgaug.errors import GridError
from fgaug.grid.cells import Cell, Context, cells_of, from_dict, to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.space import Space
from fgaug.runs.results import load_results
from fgaug.runs.row import identity_columns
from fgaug.study import execute, generators, planner, replay, search
from fgaug.training import predict
from gan_worker.filling.fill import fill

NETWORKS = Path(__file__).parent / "data" / "stylegan2"
PHANTOM = {"generator": {"kind": "phantom"}, "bank": "banks/p"}
STUB = {"generator": {"kind": "stub"}, "bank": "banks/s"}
AXES = {"mode": ["augmentation"], "psi": [0.3, 0.7], "ratio": [1, 8], "seed": [3, 5]}
QUIET = Console(quiet=True)


class SameWeights(dict[str, str]):
    """Weights of one content for every recipe."""

    def __missing__(self, key: str) -> str:
        return "sha-of-weights"


def expanded(space: Space, contexts: Mapping[str | None, Context]) -> tuple[Cell, ...]:
    return cells_of(space, expand(space), contexts)


def context(kind: str) -> Context:
    return Context(
        dataset_digest="d" * 64, generator={"kind": kind}, pool=30000, weights=SameWeights()
    )


CONTEXTS = {kind: context(kind) for kind in ("phantom", "stub")}


def grid(snapshot: Any, axes: dict[str, Any] | None = None, /, **top: Any) -> Space:
    raw = {"name": "g", "dataset": "d", "axes": {**AXES, **(axes or {})}, **top}
    raw["axes"] |= {"snapshot": snapshot}
    return parse_space(copy.deepcopy(raw))


def cells(axes: dict[str, Any] | None = None, /, **top: Any) -> tuple[Cell, ...]:
    top = {"controls": ["oversample"], **top}
    return expanded(grid([PHANTOM, STUB], axes, **top), {None: context("none"), **CONTEXTS})


def alone(kind: str) -> tuple[Cell, ...]:
    """Return the cells of the same grid with one generator, at the top."""
    raw = {"name": "g", "dataset": "d", "axes": AXES, "controls": ["oversample"]}
    space = parse_space({**raw, "generator": {"kind": kind}, "bank": "b"})
    return expanded(space, {None: CONTEXTS[kind]})


def problems(snapshot: Any, axes: dict[str, Any] | None = None, /, **top: Any) -> list[str]:
    with pytest.raises(GridError) as refused:
        grid(snapshot, axes, **top)
    return list(refused.value.problems)


def ids(found: tuple[Cell, ...]) -> set[str]:
    return {cell.cell_id for cell in found}


class TestCells:
    def test_modes_without_fakes_ignore_it(self) -> None:
        counts = Counter((cell.mode, cell.snapshot) for cell in cells())
        assert counts == {
            ("baseline", None): 2,
            ("oversample", None): 4,
            ("augmentation", "phantom"): 8,
            ("augmentation", "stub"): 8,
        }
        assert [cell.seed for cell in cells()] == [3] * 11 + [5] * 11

    def test_a_cell_has_one_name_by_either_way(self) -> None:
        assert ids(cells()) == ids(alone("phantom")) | ids(alone("stub"))
        assert len(ids(cells())) == 22
        arms = {cell.arm_id for cell in cells()}
        assert arms == {cell.arm_id for cell in (*alone("phantom"), *alone("stub"))}

    def test_a_name_is_no_part_of_the_identity(self) -> None:
        named = [{**PHANTOM, "name": "a"}, {**STUB, "name": "b"}]
        contexts = {"a": CONTEXTS["phantom"], "b": CONTEXTS["stub"]}
        found = expanded(grid(named, controls=["oversample"]), {None: context("none"), **contexts})
        assert ids(found) == ids(cells())

    def test_rows_and_words(self) -> None:
        words = {cell.described for cell in cells()}
        assert "augmentation psi 0.3 ratio 1 snapshot stub seed 3" in words
        assert "baseline seed 3" in words
        for cell in cells():
            assert identity_columns(cell)["snapshot"] == cell.snapshot
            assert from_dict(to_dict(cell)) == cell
        assert "snapshot" not in identity_columns(alone("stub")[0])

    def test_exclude_and_include_name_snapshots(self) -> None:
        found = cells(exclude=[{"snapshot": "stub", "psi": 0.3}])
        assert Counter(c.snapshot for c in found) == {None: 6, "phantom": 8, "stub": 4}
        entry = {"mode": "synthetic", "psi": 1, "ratio": 1, "seed": 3}
        new = [c for c in cells(include=[entry]) if c.mode == "synthetic"]
        assert [c.snapshot for c in new] == ["phantom", "stub"], "what it leaves out is the grid's"
        new = [c for c in cells(include=[{**entry, "snapshot": "stub"}]) if c.mode == "synthetic"]
        assert [c.snapshot for c in new] == ["stub"]

    def test_what_is_resolved_is_the_same_grid(self) -> None:
        entry = {"mode": "synthetic", "psi": 1, "ratio": 1, "snapshot": ["stub"]}
        space = grid(
            [PHANTOM, STUB], exclude=[{"snapshot": "phantom", "psi": 0.3}], include=[entry]
        )
        again = parse_space(yaml.safe_load(space.to_yaml()))
        assert expand(again) == expand(space)
        assert again == space
        assert again.to_yaml() == space.to_yaml()

    def test_keys_of_banks_are_not_written_down(self) -> None:
        secret = {**STUB, "bank": "s3://key:secret@bucket/bank"}
        assert "secret" not in grid([PHANTOM, secret]).to_yaml()


class TestNames:
    def network(self, file: str, bank: str, **more: Any) -> dict[str, Any]:
        return {"generator": {"snapshots": {"b": file, "a": "z.pkl"}}, "bank": bank, **more}

    def names(self, *entries: dict[str, Any]) -> list[str | None]:
        return [entry.name for entry in grid(list(entries)).axes.snapshot]

    def test_kind_or_the_first_labels_file(self) -> None:
        found = self.names(PHANTOM, STUB, self.network("nets/early (1).pkl", "c"))
        assert found == ["phantom", "stub", "early-1-"]

    def test_the_place_tells_apart_what_is_alike(self) -> None:
        found = self.names(
            self.network("one/net.pkl", "a"),
            PHANTOM,
            self.network("two/net.pkl", "b"),
            {**STUB, "name": "net"},
        )
        assert found == ["net-1", "phantom", "net-3", "net"]

    @pytest.mark.parametrize(
        ("entries", "expected"),
        [
            (
                [{**PHANTOM, "name": "x"}, {**STUB, "name": "x"}],
                "`axes.snapshot`: names repeat: x. Give each entry its own",
            ),
            (
                [{**PHANTOM, "name": "a b"}],
                "must consist of letters, digits, dots, dashes and underscore",
            ),
            (
                [{**PHANTOM, "name": ""}],
                "`axes.snapshot.0.name`: must consist of letters, digits, dots",
            ),
            (
                [PHANTOM, {**STUB, "bank": "./banks/q/../p/"}],
                "`axes.snapshot`: several entries share the bank ",
            ),
            (
                [{**PHANTOM, "bank": "s3://b/x"}, {**STUB, "bank": "s3://b/x/"}],
                "`axes.snapshot`: several entries share the bank s3://b/x. Give each entry",
            ),
            ([{"generator": {"kind": "stub"}}], "`axes.snapshot.0.bank` is missing"),
            ([{"bank": "b"}], "`axes.snapshot.0.generator` is missing"),
            ([{**STUB, "bnak": "x"}], "`axes.snapshot.0.bnak`: unknown key, did you mean `bank`?"),
            (
                [{"bank": "b", "generator": {"kind": "stub", "nose": 1}}],
                "`axes.snapshot.0.generator.nose`: unknown key, did you mean `noise`?",
            ),
            (["nets/a.pkl"], "`axes.snapshot.0`: must be a mapping of keys to values"),
        ],
    )
    def test_mistakes(self, entries: list[Any], expected: str) -> None:
        (problem,) = problems(entries)
        assert expected in problem


class TestTogether:
    def test_a_generator_at_the_top_as_well(self) -> None:
        found = problems([PHANTOM], bank="b", generator={"kind": "stub"})
        assert found == [
            f"`{key}` is given at the top level and by each value of `axes.snapshot`. "
            "Drop it at the top level"
            for key in ("bank", "generator")
        ]

    def test_with_other_mistakes_at_once(self) -> None:
        found = problems([PHANTOM], pool=0, exclude=[{"psi": 9}])
        assert found == [
            "`pool`: must be at least 1, got 0",
            "`exclude.0.psi`: no cell has 9; the cells have 0.3, 0.7",
        ]

    def test_names_that_are_not_there(self) -> None:
        entry = {"mode": "augmentation", "psi": 1, "ratio": 1}
        assert problems([PHANTOM, STUB], include=[{**entry, "snapshot": "stubb"}]) == [
            "`include.0.snapshot`: no value of `axes.snapshot` is named stubb, did you mean "
            "`stub`?"
        ]
        assert problems([PHANTOM, STUB], include=[{**entry, "snapshot": "9"}]) == [
            "`include.0.snapshot`: no value of `axes.snapshot` is named 9; the names are phantom, "
            "stub"
        ]
        top = {"bank": "b", "generator": {"kind": "stub"}}
        assert problems([], include=[{**entry, "snapshot": "a"}], **top) == [
            "`include.0.snapshot`: no value of `axes.snapshot` is named a; the names are none"
        ]
        assert problems([PHANTOM, STUB], exclude=[{"snapshot": "stubb"}]) == [
            "`exclude.0.snapshot`: no cell has stubb, did you mean `stub`?"
        ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a phantom dataset that has a test set."""
    folder = tmp_path_factory.mktemp("snapshots")
    phantom_dataset(folder, images=120, test=0.2, valid=0.4)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return open_dataset(root / "dataset")


def two(root: Path, folder: Path, **top: Any) -> dict[str, Any]:
    """Return a small grid over a phantom and a stub generator, banks below `folder`."""
    raw = small_grid(root, **top)
    del raw["bank"], raw["generator"]
    raw["axes"]["snapshot"] = [
        {**each, "bank": str(folder / kind)}
        for kind, each in (("phantom", PHANTOM), ("stub", STUB))
    ]
    return raw


def networks(folder: Path, name: str, noise: str = "const") -> dict[str, Any]:
    """Return an entry whose two labels come from copies of one small network."""
    files = {}
    for label in ("dbp", "trv"):
        files[label] = str(folder / f"{name}-{label}.pkl")
        Path(files[label]).write_bytes((NETWORKS / "a.pkl").read_bytes())
    generator = {"snapshots": files, "noise": noise}
    return {"generator": generator, "bank": str(folder / f"bank-{name}"), "name": name}


class TestPlans:
    def test_each_snapshot_has_its_source(self, root: Path, tmp_path: Path) -> None:
        planned = planner.plan(parse_space(two(root, tmp_path)), tmp_path / "run")
        first, second = planned.needs
        assert [s.source.snapshot for s in (first, second)] == ["phantom", "stub"]
        assert [s.source.generator.kind for s in (first, second)] == ["phantom", "stub"]
        assert first.missing.count == first.demand.count == second.missing.count > 0
        assert planned.missing_bytes == 4 * first.missing.count * 32 * 32
        assert list(planned.sources) == [None, "phantom", "stub"]
        assert planned.sources[None].bank is None
        assert planned.sources["stub"].bank == str(tmp_path / "stub")
        assert planned.sources["stub"].snapshots != planned.sources["phantom"].snapshots

    def test_the_same_cell_as_with_one_generator(self, root: Path, tmp_path: Path) -> None:
        both = planner.plan(parse_space(two(root, tmp_path)), tmp_path / "run").cells
        one = planner.plan(parse_space(small_grid(root)), tmp_path / "run").cells
        assert ids(one) < ids(both)

    def test_one_generator_under_two_names_is_refused(self, root: Path, tmp_path: Path) -> None:
        raw = two(root, tmp_path)
        raw["axes"]["snapshot"][1] |= {"generator": {"kind": "phantom"}}
        with pytest.raises(GridError) as refused:
            planner.plan(parse_space(raw), tmp_path / "run")
        assert list(refused.value.problems) == [
            "`axes.snapshot`: phantom-1 and phantom-2 give the same images. Drop one of them"
        ]

    def test_what_is_wrong_names_the_entry(self, root: Path, tmp_path: Path) -> None:
        raw = two(root, tmp_path)
        files = {"dbp": str(NETWORKS / "a.pkl"), "x": str(tmp_path / "none.pkl")}
        raw["axes"]["snapshot"][1]["generator"] = {"snapshots": files}
        with pytest.raises(GridError) as refused:
            planner.plan(parse_space(raw), tmp_path / "run")
        key = "`axes.snapshot.1.generator.snapshots"
        assert list(refused.value.problems) == [
            f"{key}` has no network for label `trv`",
            f"{key}.x`: the dataset has no such label; its labels are `dbp`, `trv`",
        ]

    def test_a_bank_of_other_fakes_is_refused(self, root: Path, tmp_path: Path) -> None:
        raw = two(root, tmp_path)
        needs = planner.plan(parse_space(raw), tmp_path / "run").needs[1]
        fill(
            needs.source.store,
            needs.source.spec,
            generators.label_sources(needs.source),
            needs.missing,
        )
        raw["axes"]["snapshot"][1]["generator"] = {"kind": "stub", "noise": "none"}
        with pytest.raises(
            GridError, match=r"^small: 1 .*\n.*`axes.snapshot.1.bank`: .* different"
        ):
            planner.plan(parse_space(raw), tmp_path / "run")

    def test_leaks_are_looked_for_in_each(self, root: Path, data: Dataset, tmp_path: Path) -> None:
        raw = small_grid(root)
        del raw["bank"], raw["generator"]
        entries = [networks(tmp_path, "a"), networks(tmp_path, "b", "none")]
        raw["axes"] |= {"snapshot": entries, "split": ["dataset", 3]}
        manifest = data.with_split(3).manifest
        kept = (manifest["split"] == "train") & (data.manifest["split"] == "train")
        for label in ("dbp", "trv"):
            rows = manifest.loc[kept, ["sha256", "group"]]
            rows.to_parquet(tmp_path / f"a-{label}.trained_on.parquet")
        with pytest.raises(GridError) as refused:
            planner.plan(parse_space(raw), tmp_path / "run")
        (problem,) = refused.value.problems
        assert problem.startswith(
            "`axes.split` 3: the training images of the networks of `dbp`, `trv` in the "
            "snapshot b are unknown, so "
        )
        raw["exclude"] = [{"snapshot": "b", "split": 3}]
        sources = planner.plan(parse_space(raw), tmp_path / "run").sources
        assert {name: each.leakage for name, each in sources.items()} == {
            None: "none",
            "a": "none",
            "b": "unknown",
        }
        for label in ("dbp", "trv"):
            held_out = data.manifest[data.manifest["split"] == "valid"][["sha256", "group"]]
            held_out.to_parquet(tmp_path / f"b-{label}.trained_on.parquet")
        with pytest.raises(GridError, match=r"`axes.snapshot.1.generator.snapshots.trv` was tra"):
            planner.plan(parse_space(raw), tmp_path / "run")

    def test_a_dry_run_shows_each_bank(self, fgaug: Any, root: Path, tmp_path: Path) -> None:
        path = written(tmp_path, two(root, tmp_path))
        code, out, _ = fgaug("search", path, "--out", tmp_path / "run", "--dry-run")
        assert code == 0
        for kind in ("phantom", "stub"):
            line = next(line for line in out.splitlines() if line.startswith(f"snapshot {kind}, "))
            assert f"bank {tmp_path / kind}: " in line
        assert out.count("dbp psi 1: ") == 2

    def test_a_bank_that_the_grid_does_not_have_is_not_filled(
        self, root: Path, tmp_path: Path
    ) -> None:
        path = written(tmp_path, two(root, tmp_path))
        with pytest.raises(
            GridError, match=r"other is not a bank of `axes.snapshot`. Give one of these: "
        ):
            execute.fill_for_grid(path, str(tmp_path / "other"), QUIET)


def written(folder: Path, raw: dict[str, Any]) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def searched(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return the run of a search over two splits and two snapshots."""
    folder = tmp_path_factory.mktemp("searched")
    raw = two(root, folder, keep_models="all")
    raw["axes"] |= {"split": ["dataset", 2], "seed": [1]}
    found = search.search(written(folder, raw), folder / "run", dashboard=False, console=QUIET)
    assert (found.ok, found.exit_code) == (6, 0)
    return RunPaths(folder / "run")


@pytest.mark.slow
class TestSearch:
    def test_one_row_a_cell(self, searched: RunPaths) -> None:
        frame = load_results(searched.root)
        named = frame.fillna({"snapshot": ""})[["mode", "snapshot", "split"]]
        assert set(named.itertuples(index=False, name=None)) == {
            *(("baseline", "", split) for split in ("dataset", "2")),
            *(
                ("augmentation", snapshot, split)
                for snapshot in ("phantom", "stub")
                for split in ("dataset", "2")
            ),
        }
        of = {kind: frame[frame["snapshot"] == kind]["snapshots"] for kind in ("phantom", "stub")}
        assert of["stub"].nunique() == of["phantom"].nunique() == 1
        assert of["stub"].iloc[0] != of["phantom"].iloc[0]
        assert frame[frame["mode"] == "baseline"]["snapshots"].isna().all()
        assert not pd.read_parquet(searched.results)["split"].isna().any()

    def test_banks_hold_what_each_split_draws(self, searched: RunPaths, data: Dataset) -> None:
        """n_l is counted in each split, so the larger of two draws is what a bank holds."""
        sizes = []
        for split in ("dataset", 2):
            manifest = data.with_split(split).manifest
            sizes.append(manifest[manifest["split"] == "train"].groupby("label").size())
        wanted = np.maximum(*sizes)
        for kind in ("phantom", "stub"):
            held = open_bank(searched.root.parent / kind).index().groupby("label").size()
            assert held.to_dict() == wanted.to_dict()

    def test_what_is_judged_is_of_the_split(self, searched: RunPaths, data: Dataset) -> None:
        for row in load_results(searched.root).to_dict("records"):
            split = row["split"] if row["split"] == "dataset" else int(row["split"])
            manifest = data.with_split(split).manifest
            of = manifest.groupby("split")["image_id"].agg(sorted)
            trial = searched.trial(row["cell_id"])
            predicted = pd.read_parquet(trial.predictions)
            assert sorted(predicted["image_id"]) == of["valid"]
            assert sorted(pd.read_parquet(trial.sealed)["image_id"]) == of["test"]
            assert row["n_real"] == len(of["train"])
            # a kept model knows whose images it learnt from
            again = predict.predict(trial.model, data.root).set_index("image")
            assert sorted(again.index) == of["valid"]
            trv = predicted.set_index("image_id")["p_trv"]
            assert np.abs(again["p_trv"] - trv.reindex(again.index)).max() < 1e-6

    def test_a_second_search_trains_nothing(self, searched: RunPaths, fgaug: Any) -> None:
        results = sorted(searched.root.glob("trials/*/result.json"))
        before = [path.stat().st_mtime_ns for path in results]
        grid_file = searched.root.parent / "grid.yaml"
        code, out, _ = fgaug("search", grid_file, "--out", searched.root, "--dry-run")
        assert (code, "finished: 6, to train: 0" in out) == (0, True)
        again = search.search(grid_file, searched.root, dashboard=False, console=QUIET)
        assert again.ok == 6
        assert [path.stat().st_mtime_ns for path in results] == before

    def test_a_bank_is_filled_with_what_its_own_cells_need(self, searched: RunPaths) -> None:
        folder, said = searched.root.parent, io.StringIO()
        bank = str(folder / "stub")
        console = Console(file=said, soft_wrap=True)
        execute.fill_for_grid(folder / "grid.yaml", bank, console)
        held = len(open_bank(bank).index())
        assert said.getvalue() == f"bank {bank} already holds all {held} fakes of the grid\n"

    def test_cells_are_replayed(self, searched: RunPaths) -> None:
        frame = load_results(searched.root)
        row = frame[(frame["snapshot"] == "stub") & (frame["split"] == "2")].iloc[0]
        assert replay.replay(searched.root, row["cell_id"], console=QUIET).same

    def test_the_report_names_them(self, searched: RunPaths) -> None:
        page = write.report(searched.root).read_text(encoding="utf-8")
        for words in ("snapshot stub", "snapshot phantom", "split 2", "split dataset"):
            assert words in page
