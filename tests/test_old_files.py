"""Files of an earlier version open: a run and a bank that commit 89238ba wrote."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fgaug as package
from fgaug.study import execute, planner

DATA = Path(__file__).parent / "data"
GRID, RUN, BANK = Path("old_run/grid.yaml"), Path("old_run/run"), Path("old_bank")
ARM, BASELINE = "da29255c0dd7", "bb21f8fa8ad4"
CELLS = {  # cell_id -> arm, seed, validation AUC, as that commit wrote them
    "fb97f5590239": (BASELINE, 1, 0.166667),
    "466a8a05a1b6": (BASELINE, 2, 0.486111),
    "7daa0434eeed": (ARM, 1, 0.194444),
    "4a73029f8ed8": (ARM, 2, 0.486111),
}
CONFIRMED = {
    "612441c4857a": (BASELINE, 1000000, 0.236111),
    "365a6ba4468a": (BASELINE, 1000001, 0.611111),
    "6198d7c6a0f0": (ARM, 1000000, 0.388889),
    "7f3c687fe5fd": (ARM, 1000001, 0.708333),
}
PIXELS = "681e38f4f18f550ab1033dda748c6b296344ef7d8be271ab52d3ac7096f11005"  # of `dbp`, psi 1


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a copy of the old run and bank, and make it the current one."""
    for name in ("old_run", "old_bank"):
        shutil.copytree(DATA / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("every cell is finished: nothing is to be trained")

    monkeypatch.setattr(execute, "execute", refuse)


def trials() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in RUN.glob("trials/*/*")}


@pytest.mark.usefixtures("old")
def test_rows_curves_and_predictions_are_those_that_were_written() -> None:
    run = package.open_run(RUN)
    rows = package.load_results(run)
    found = {
        row["cell_id"]: (row["arm_id"], row["seed"], round(row["valid_auc"], 6))
        for row in rows.to_dict("records")
    }
    assert found == CELLS | CONFIRMED
    assert set(rows.loc[rows["stage"].eq("confirm"), "cell_id"]) == set(CONFIRMED)
    assert rows.equals(run.results())
    curves = run.curves()
    assert curves.groupby("cell_id").size().to_dict() == dict.fromkeys(found, 2)
    assert curves.equals(package.load_curves(str(RUN)))
    predictions = run.predictions()
    assert predictions.groupby("cell_id").size().to_dict() == dict.fromkeys(found, 17)
    assert predictions.equals(package.load_predictions(RUN))
    assert {"image_id", "group", "label", "p_dbp", "p_trv"} <= set(predictions)


@pytest.mark.usefixtures("old")
def test_its_status_and_its_table_by_arm_are_printed(fgaug: Any) -> None:
    run = package.open_run(RUN)
    assert (run.ok, run.pruned, run.failed, run.missing, run.exit_code) == (8, 0, 0, 0, 0)
    assert (run.status().name, run.status().cells, run.status().done) == ("old", 8, 8)
    code, out, _ = fgaug("status", RUN)
    assert code == 0
    assert "8 of 8 cells done: 8 ok" in out
    code, out, _ = fgaug("results", RUN, "--by", "arm", "--format", "csv")
    assert code == 0
    assert [line[:12] for line in out.splitlines()[1:]].count(ARM) == 1
    assert BASELINE in out


@pytest.mark.usefixtures("old")
def test_its_report_is_written() -> None:
    page = package.open_run(RUN).report()
    assert page == RUN / "report" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert "augmentation psi 1 ratio 1" in text
    assert "Second stage of 2026-11-30: 1 arm" in text


@pytest.mark.usefixtures("old")
def test_its_bank_is_read_and_verified(fgaug: Any) -> None:
    bank = package.open_bank(BANK)
    index = bank.index()
    assert index.groupby(["label", "psi"]).size().to_dict() == {("dbp", 1.0): 21, ("trv", 1.0): 16}
    z_seeds = sorted(index.loc[index["label"].eq("dbp"), "z_seed"])
    images = bank.read("dbp", 1.0, z_seeds)
    assert images.shape == (21, 16, 16, 1)
    assert hashlib.sha256(images.tobytes()).hexdigest() == PIXELS
    code, out, _ = fgaug("bank", "info", BANK)
    assert code == 0
    assert "37 images, 4 shards" in out
    code, out, _ = fgaug("bank", "verify", BANK)
    assert code == 0
    assert out.endswith("clean\n")


@pytest.mark.usefixtures("old", "no_training")
def test_a_continued_search_finds_every_cell_finished() -> None:
    planned = planner.plan(GRID, RUN)
    assert {cell.cell_id for cell in planned.cells} == set(CELLS)
    assert planned.todo == ()
    before = trials()
    run = package.search(GRID, RUN, dashboard=False, console=Console(file=io.StringIO()))
    assert (run.root, run.ok, run.missing, run.exit_code) == (RUN, 4, 0, 0)
    assert trials() == before


@pytest.mark.usefixtures("old", "no_training")
def test_its_second_stage_is_repeated_without_training_and_finds_the_same() -> None:
    before = trials()
    run = package.open_run(RUN)
    confirmed = run.confirm([ARM[:4]], seeds=2, console=Console(file=io.StringIO()))
    assert trials() == before
    assert confirmed.exit_code == 0
    first, again = confirmed.stage.judged
    assert (first.look, again.look) == (1, 2)
    assert again.comparisons == first.comparisons
    assert any("not shown" in line for line in confirmed.lines)


@pytest.mark.usefixtures("old")
def test_a_cell_of_it_is_replayed_to_the_same_numbers() -> None:
    quiet = Console(file=io.StringIO())
    run = package.open_run(RUN)
    replayed = run.replay("7daa", device="cpu", tolerance=1e-3, console=quiet)  # other machines
    assert replayed.cell.cell_id == "7daa0434eeed"
    assert replayed.images == 17
    assert replayed.same, (replayed.beyond, replayed.predictions)


@pytest.mark.usefixtures("old")
def test_a_folder_that_is_no_run_is_refused() -> None:
    for load in (package.load_results, package.load_curves, package.load_predictions):
        with pytest.raises(package.RunError, match=r"^old_bank is not a run \(no folder `trials`"):
            load(BANK)
    with pytest.raises(package.RunError, match=r"^old_bank is not a run \(no file environment"):
        package.open_run(BANK)
