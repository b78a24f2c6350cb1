"""The thesis's grids against its printed tables, without its images: dry runs by counts."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_grid import grid, phantom_dataset, write_grid

from fgaug.cli.show_plan import amount_lines, amounts_of
from fgaug.core.paths import RunPaths
from fgaug.data import open_dataset
from fgaug.errors import GridError
from fgaug.grid.load import load_space, parse_space
from fgaug.study import dry_run, estimate, generators, planner, scorers
from fgaug.study.plan import Plan

CLONE = Path(__file__).parent.parent
PUBLISHED = CLONE / "reports" / "published"
COUNTS = {
    "source": "a table",
    "size": 32,
    "labels": {
        "dbp": {"train_gan": 20, "train_no_gan": 7, "valid": 9},
        "trv": {"train_gan": 11, "train_no_gan": 5, "valid": 8},
    },
}


def shipped(name: str) -> Path:
    return CLONE / "search_spaces" / f"thesis_{name}.yaml"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stand in an empty folder: none of the paths of the grids is there."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("elsewhere")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def plans(elsewhere: Path) -> dict[str, Plan]:
    names = ("augmentation", "replacement", "counts", "equal_steps")
    return {name: dry_run.dry_plan(shipped(name)) for name in names}


def printed(*tables: str) -> pd.DataFrame:
    """Return rows of the published tables that have a ratio."""
    frame = pd.read_csv(PUBLISHED / "thesis_tables.csv", dtype={"table": str, "ratio": str})
    return frame[frame["table"].isin(tables) & (frame["ratio"] != "bl")]


@pytest.mark.parametrize(
    ("name", "tables", "mode"),
    [
        ("augmentation", ("4.2", "4.3", "4.4", "4.5"), "augmentation"),
        ("equal_steps", ("4.2", "4.3", "4.4", "4.5"), "augmentation"),
        ("replacement", ("4.7", "4.8"), "replacement"),
    ],
)
def test_arms_and_fakes_are_those_of_the_tables(
    plans: dict[str, Plan], name: str, tables: tuple[str, ...], mode: str
) -> None:
    planned, rows = plans[name], printed(*tables)
    arms = {(cell.psi, cell.ratio) for cell in planned.cells if cell.mode == mode}
    assert arms == set(zip(rows.psi.astype(float), rows.ratio.astype(float), strict=True))
    amounts = amounts_of(planned.cells, planned.reals)
    found = {each.amount: dict(each.added) for each in amounts if each.mode == mode}
    rows = rows.drop_duplicates("ratio")
    published = zip(rows.ratio, rows.fakes_dbp, rows.fakes_trv, strict=True)
    assert found == {ratio: {"dbp": dbp, "trv": trv} for ratio, dbp, trv in published}


def test_removals_are_all_of_the_reals_that_no_network_saw(plans: dict[str, Plan]) -> None:
    table = pd.read_csv(PUBLISHED / "thesis_table_4_6.csv").set_index("planes")["train_no_gan"]
    amounts = amounts_of(plans["replacement"].cells, plans["replacement"].reals)
    removed = [dict(each.removed) for each in amounts if each.mode == "replacement"]
    assert removed == [{"dbp": table["dbp"], "trv": table["trv"]}] * 3
    assert removed[0] == {"dbp": 1368, "trv": 854}


@pytest.mark.parametrize("name", ["augmentation", "equal_steps"])
def test_the_counts_are_those_of_table_3_1(plans: dict[str, Plan], name: str) -> None:
    table = pd.read_csv(PUBLISHED / "thesis_table_3_1.csv").set_index("plane")
    rows = plans[name].dataset.manifest
    for label in ("dbp", "trv"):
        of = rows[rows["label"] == label]
        assert (of["split"] == "train").sum() == table.loc[label, "training"]
        assert (of["split"] == "valid").sum() == table.loc[label, "validation"]
    networks = pd.read_csv(PUBLISHED / "thesis_gan.csv").set_index("network")["train_images"]
    assert rows.groupby("label")["gan"].sum().to_dict() == networks.to_dict()


@pytest.mark.parametrize("name", ["replacement", "counts"])
def test_the_counts_are_those_of_table_4_6(plans: dict[str, Plan], name: str) -> None:
    table = pd.read_csv(PUBLISHED / "thesis_table_4_6.csv").set_index("planes")
    rows = plans[name].dataset.manifest
    for label in ("dbp", "trv"):
        of = rows[rows["label"] == label]
        train = of[of["split"] == "train"]
        assert train["gan"].sum() == table.loc[label, "train_gan"]
        assert (~train["gan"]).sum() == table.loc[label, "train_no_gan"]
        assert (of["split"] == "valid").sum() == table.loc[label, "validation"]


def test_designs(plans: dict[str, Plan]) -> None:
    """Seeds, budgets and noise are the thesis's; equal steps and twins are the added grid's."""
    five = [693, 44, 803, 916, 532]
    sizes = {name: len(planned.cells) for name, planned in plans.items()}
    assert sizes == {"augmentation": 185, "replacement": 25, "counts": 6, "equal_steps": 230}
    for name, planned in plans.items():
        space = planned.space
        assert list(space.seeds) == five[: 3 if name == "counts" else 5]
        assert space.pool == 30000
        assert space.generator is not None
        assert space.generator.noise == "seeded"
        assert (space.recipe.model, space.recipe.batch_size) == ("resnet18", 64)
        if name != "equal_steps":
            assert (space.budget.max, space.budget.patience) == (20, 5)
    first, equal = plans["augmentation"], plans["equal_steps"]
    assert equal.space.axes == first.space.axes
    assert equal.space.budget.max == 21 * (4276 // 64)
    (repeats,) = {
        tuple(each.added.items())
        for each in amounts_of(equal.cells, equal.reals)
        if (each.mode, each.amount) == ("oversample", "8")
    }
    assert dict(repeats) == {"dbp": 20960, "trv": 13248}
    (counted,) = (a for a in amounts_of(plans["counts"].cells, plans["counts"].reals) if a.amount)
    assert dict(counted.added) == {"dbp": 3000, "trv": 3000}
    assert dict(counted.removed) == {"dbp": 500, "trv": 500}


def test_what_a_pool_of_30000_takes_is_told(plans: dict[str, Plan]) -> None:
    (needs,) = plans["augmentation"].needs
    assert set(needs.missing.wanted) == {
        (label, psi) for label in ("dbp", "trv") for psi in (0.3, 0.5, 0.7, 1.0)
    }
    assert all(
        20960 <= len(z) <= 30000 for (x, _), z in needs.missing.wanted.items() if x == "dbp"
    )
    assert needs.missing_bytes == needs.missing.count * 128 * 128


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the measurement out, which takes resnet18 seconds."""
    monkeypatch.setattr(estimate, "trial_seconds", lambda *_: 3600.0)


@pytest.mark.usefixtures("untimed")
def test_a_dry_run_says_what_is_not_here_and_prints_each_amount(
    fgaug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))
    code, out, err = fgaug("search", shipped("replacement"), "--dry-run")
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first.startswith("dataset data/thesis-extended is not on this machine")
    assert "published counts in the grid (thesis, table 4.6); a search needs the dataset" in first
    assert rest[0] == "network nets/thesis/dbp.pkl is not on this machine"
    assert rest[2] == "no pretrained weights of resnet18 are on this machine"
    assert "25 cells in 5 arms" in out
    assert re.search(r"finished: \d", out) is None
    rows = [line.split() for line in rest if line.startswith("  replacement")]
    assert rows == [
        ["replacement", "5", "13100", "8280", "1368", "854"],
        ["replacement", "6", "15720", "9936", "1368", "854"],
        ["replacement", "7", "18340", "11592", "1368", "854"],
    ]
    assert "with blank images" in out
    assert not re.search(r"\b[0-9a-f]{12}\b", out), "names of cells need the dataset"
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_a_search_without_the_dataset_is_refused_as_ever(
    fgaug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = fgaug("search", shipped("augmentation"))
    assert code == 2
    assert "`dataset`: The dataset folder data/thesis does not exist" in err
    assert not list(tmp_path.iterdir())


def counted(root: Path, **changes: Any) -> Plan:
    space = parse_space({**grid(root, dataset=str(root / "none"), counts=COUNTS), **changes})
    parts = generators.describe_source, scorers.scorer_of
    return dry_run.plan_by_counts(space, RunPaths(root / "run"), *parts)


def test_a_small_grid_is_timed_on_black_images(fgaug: Any, tmp_path: Path) -> None:
    path = write_grid(tmp_path, dataset=str(tmp_path / "none"), counts=COUNTS)
    code, out, _ = fgaug("search", path, "--dry-run")
    assert code == 0
    assert "60 images of 32 px (train 43, valid 17)" in out
    assert "time: about" in out
    assert [p.name for p in tmp_path.iterdir()] == ["grid.yaml"]


def test_what_counts_do_not_tell_is_refused_in_one_message(tmp_path: Path, fgaug: Any) -> None:
    axes = {**grid(tmp_path)["axes"], "split": ["dataset", 3], "real_fraction": [0.5, 1]}
    axes |= {"filter": ["agrees"], "mode": ["replacement"]}
    with pytest.raises(GridError) as refused:
        counted(tmp_path, axes=axes, remove={"dbp": 1, "trv": 1}, remove_by="group")
    for key in ("axes.split", "axes.real_fraction", "axes.filter", "remove_by: group"):
        assert f"`{key}`" in str(refused.value)
    path = write_grid(tmp_path, dataset=str(tmp_path / "none"), counts=COUNTS)
    code, _, err = fgaug("search", path, "--dry-run", "--shard", "1/2")
    assert code == 2
    assert "--shard needs cell ids" in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"remove": {"dbp": 8, "trv": 5}}, r"takes 8 images of `dbp`, .* has 7 without the gan"),
        ({"remove": {"dbp": 1, "nose": 1}}, "`remove` must name the labels `dbp`, `trv`"),
        ({"remove": {"dbp": 1, "trv": 1}, "pool": 5}, "`pool` holds 5"),
        ({"remove": {"dbp": 1, "trv": 1}, "recipe": {"model": "resnet81"}}, "did you mean"),
        ({"remove": {"dbp": 1, "trv": 1}, "confirmation": {}}, "tests arms on the test set"),
    ],
)
def test_counts_are_checked_as_a_dataset_is(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    axes = {**grid(tmp_path)["axes"], "mode": ["replacement"]}
    with pytest.raises(GridError, match=words):
        counted(tmp_path, axes=axes, **changes)


def test_a_network_that_is_there_is_read_and_one_that_is_not_stands_in(
    tmp_path: Path, fgaug: Any
) -> None:
    files = {label: str(tmp_path / f"{label}.pkl") for label in ("dbp", "trv")}
    (tmp_path / "trv.pkl").write_bytes(b"not a pickle")
    changes = {"dataset": str(tmp_path / "none"), "generator": {"snapshots": files}}
    path = write_grid(tmp_path, **changes, counts=COUNTS)
    code, _, err = fgaug("search", path, "--dry-run")
    assert code == 2
    assert "trv.pkl" in err
    assert "dbp.pkl" not in err
    (tmp_path / "trv.pkl").unlink()
    assert [
        line for line in counted(tmp_path, **changes).absent if line.startswith("network")
    ] == [f"network {file} is not on this machine" for file in files.values()]


def test_a_bank_that_cannot_be_compared_counts_as_empty(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    from gan_worker.filling.fill import fill

    (needs,) = planner.plan(parse_space(grid(tmp_path)), tmp_path / "run").needs
    fill(
        needs.source.store,
        needs.source.spec,
        generators.label_sources(needs.source),
        needs.missing,
    )
    assert counted(tmp_path).needs[0].present > 0
    files = {label: str(tmp_path / f"{label}.pkl") for label in ("dbp", "trv")}
    planned = counted(tmp_path, generator={"snapshots": files})
    assert planned.needs[0].present == 0
    assert "counts as empty" in planned.absent[-1]


def test_counts_of_a_grid_whose_dataset_is_there_are_compared_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = open_dataset(phantom_dataset(tmp_path)).manifest
    table = pd.crosstab(manifest["label"], manifest["split"])
    right = {
        label: {"train_gan": int(of["train"]), "valid": int(of["valid"])}
        for label, of in table.iterrows()
    }
    plain = planner.plan(parse_space(grid(tmp_path)), tmp_path / "run")
    counts = {**COUNTS, "labels": right}
    with caplog.at_level(logging.WARNING, "fgaug"):
        planned = planner.plan(parse_space(grid(tmp_path, counts=counts)), tmp_path / "run")
    assert "counts" not in caplog.text
    assert not planned.absent
    assert [cell.cell_id for cell in planned.cells] == [cell.cell_id for cell in plain.cells]
    path = write_grid(tmp_path, counts=COUNTS)
    with caplog.at_level(logging.WARNING, "fgaug"):
        planned = dry_run.dry_plan(path, tmp_path / "run")
    assert "does not match the grid's `counts`" in caplog.text
    assert f"{right['dbp']['train_gan']} training images of `dbp` instead of 27" in caplog.text
    assert len(planned.dataset) == len(manifest)
    (tmp_path / "dataset" / "manifest.parquet").unlink()
    with pytest.raises(GridError, match="not a finished dataset"):
        dry_run.dry_plan(path, tmp_path / "run")


def test_counts_that_are_wrong_are_refused_by_key() -> None:
    wrong = {
        **COUNTS,
        "labels": {"dbp": {"valid": 0}, "trv": {"train": 5, "valid": 5}},
        "chanels": 1,
    }
    with pytest.raises(GridError) as refused:
        parse_space({**grid(Path("x")), "counts": wrong})
    for words in (
        "`counts.labels.dbp.valid`: must be at least 1",
        "`counts.labels.trv.train`: unknown key",
        "`counts.chanels`: unknown key, did you mean `channels`?",
    ):
        assert words in str(refused.value)
    nothing = {"dbp": {"valid": 1}, "trv": {"train_gan": 1, "valid": 1}}
    with pytest.raises(
        GridError, match="has no training images; give `train_gan` or `train_no_gan`"
    ):
        parse_space({**grid(Path("x")), "counts": {**COUNTS, "labels": nothing}})


def test_the_resolved_grid_keeps_its_counts() -> None:
    space = load_space(shipped("replacement"))
    again = parse_space(yaml.safe_load(space.to_yaml()))
    assert again.counts == space.counts
    assert "counts" not in yaml.safe_load(parse_space(grid(Path("x"))).to_yaml())


def test_shares_of_patients_have_a_line_each(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    axes = {**grid(tmp_path)["axes"], "real_fraction": [0.5, 1]}
    planned = planner.plan(parse_space(grid(tmp_path, axes=axes)), tmp_path / "run")
    lines = list(amount_lines(planned.cells, planned.reals))
    assert len(lines) == 5
    assert sum("0.5 of the patients" in line for line in lines) == 2
    assert len({len(line) for line in lines}) == 1, "columns stand below each other"
