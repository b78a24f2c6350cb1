"""What is read of a run's folder: rows, predictions in one order, what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_run import Arm, World, evidence_of, grid_of, write_run
from small_grid import grid as small_grid
from small_grid import phantom_dataset

from fgaug.analysis.findings.analysis import analyse as analyse_fully
from fgaug.analysis.findings.arms import arm_table, compared
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.load import parse_space
from fgaug.runs import folder
from fgaug.runs.looks import open_test
from fgaug.runs.results import write_row
from fgaug.runs.row import identity_columns
from fgaug.study import planner

WORLD = World(patients=24, seeds=3)
analyse = partial(analyse_fully, resamples=20)


def small() -> list[Arm]:
    baseline, twin, arm = grid_of((1.0,), (2,), twin=1.2)
    return [baseline, twin, replace(arm, failed=1, missing=1)]


def rewrite(path: Path, frame: pd.DataFrame) -> None:
    import pyarrow as pa

    files.write_table(path, pa.Table.from_pandas(frame, preserve_index=False))


def test_a_folder_says_the_same_as_the_run_in_memory(odd_root: Path) -> None:
    loaded, direct = (
        load_evidence(write_run(odd_root / "run", small(), WORLD)),
        evidence_of(small(), WORLD),
    )
    assert loaded.labels == direct.labels
    assert loaded.probability.keys() == direct.probability.keys()
    for cell, found in loaded.probability.items():
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, direct.probability[cell])
    assert loaded.images["dataset"]["y"].tolist() == direct.images["dataset"]["y"].tolist()
    (lost,) = loaded.missing.to_dict("records")
    assert (lost["arm_id"], lost["seed"], lost["status"]) == (small()[2].arm_id, 13, "missing")
    a, b = (analyse(each, AnalysisPlan()) for each in (loaded, direct))
    pd.testing.assert_frame_equal(a.comparisons, b.comparisons)
    pd.testing.assert_frame_equal(a.absent, b.absent)


def test_images_in_another_order_are_brought_into_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small(), WORLD)
    before = load_evidence(run)
    cell = list(before.probability)[1]
    file = RunPaths(run).trial(cell).predictions
    rewrite(file, pd.read_parquet(file).iloc[::-1])
    after = load_evidence(run)
    np.testing.assert_array_equal(after.probability[cell], before.probability[cell])


@pytest.mark.parametrize("harm", ["other", "fewer", "damaged", "gone"])
def test_a_cell_that_cannot_be_compared_is_named(tmp_path: Path, harm: str) -> None:
    run = write_run(tmp_path / "run", small(), WORLD)
    cell = list(load_evidence(run).probability)[1]
    file = RunPaths(run).trial(cell).predictions
    frame = pd.read_parquet(file)
    if harm == "other":
        rewrite(file, frame.assign(image_id=["x", *frame["image_id"][1:]]))
    elif harm == "fewer":
        rewrite(file, frame.iloc[1:])
    elif harm == "damaged":
        file.write_bytes(b"PAR1 not")
    else:
        file.unlink()
    with pytest.raises(RunError, match=cell):
        load_evidence(run)


def test_of_a_trial_with_rounds_the_last_counts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small(), WORLD)
    cell = next(iter(load_evidence(run).probability))
    trial = RunPaths(run).trial(cell)
    frame = pd.read_parquet(trial.predictions)
    swapped = frame.assign(p_benign=frame["p_malignant"], p_malignant=frame["p_benign"])
    rewrite(trial.predictions, pd.concat([frame.assign(round=2), swapped.assign(round=1)]))
    raw = json.loads(trial.result.read_text())
    row = raw["rows"][0]
    files.write_json(trial.result, {**raw, "rows": [{**row, "round": r} for r in (1, 2)]})
    found = load_evidence(run)
    np.testing.assert_allclose(found.probability[cell][:, 1], frame["p_malignant"], rtol=1e-6)
    assert found.rows["cell_id"].is_unique
    assert found.rows.loc[found.rows["cell_id"].eq(cell), "round"].tolist() == [2]


def test_the_sealed_test_stays_shut_until_a_look_is_written_down(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small(), WORLD)
    with pytest.raises(RunError, match="sealed"):
        load_evidence(run, "sealed")
    arms = sorted({arm.arm_id for arm in small()})
    open_test(RunPaths(run), arms[:-1], "report")
    with pytest.raises(RunError, match="sealed"):
        load_evidence(run, "sealed")
    open_test(RunPaths(run), arms, "report")
    found = load_evidence(run, "sealed")
    assert found.images["dataset"]["image_id"].str.startswith("sealed").all()
    assert len(found.probability) == 7
    valid = load_evidence(run)
    assert not np.array_equal(*(next(iter(e.probability.values())) for e in (found, valid)))


def test_a_run_without_names_still_counts_what_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small(), WORLD)
    environment = json.loads(RunPaths(run).environment.read_text())
    del environment["arms"]
    files.write_json(RunPaths(run).environment, environment)
    found = load_evidence(run)
    assert found.missing["arm_id"].isna().tolist() == [True]
    analysis = analyse(found, AnalysisPlan())
    assert analysis.absent["status"].tolist() == ["failed", "missing"]
    assert any("not recorded as part of any arm: 1 cell." in note for note in analysis.notes)


def test_no_trial_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    with pytest.raises(RunError, match="no finished trial"):
        load_evidence(tmp_path)


def test_arms_know_their_baseline_and_twins() -> None:
    shared = {"axes": {"recipe.model": "b"}, "split": "1"}
    arms = [
        Arm(),
        Arm(mode="augmentation", psi=1.0, ratio=2, n_fake=800),
        Arm(mode="oversample", ratio=2, n_fake=800),
        Arm(mode="oversample", ratio=2, remove="b=9", n_fake=800),
        Arm(mode="drop", remove="b=9"),
        Arm(mode="replacement", psi=1.0, ratio=2, remove="b=9", n_fake=800),
        Arm(mode="replacement", psi=1.0, ratio=2, remove="b=5", n_fake=800),
        Arm(mode="synthetic", psi=1.0, ratio=2, n_real=0, n_fake=800),
        Arm(real_fraction=0.5),
        Arm(mode="augmentation", psi=1.0, ratio=2, real_fraction=0.5, n_fake=400),
        Arm(**shared),  # type: ignore[arg-type]
        Arm(mode="augmentation", psi=1.0, ratio=2, n_fake=800, **shared),  # type: ignore[arg-type]
    ]
    table = arm_table(evidence_of(arms, WORLD).rows).set_index("arm_id")
    ids = [arm.arm_id for arm in arms]
    found = {
        i: table.loc[ids[i], ["baseline_id", "twin_id", "drop_id"]].tolist()
        for i in (1, 5, 6, 7, 9, 11)
    }
    assert found == {
        1: [ids[0], ids[2], None],
        5: [ids[0], ids[3], ids[4]],
        6: [ids[0], None, None],
        7: [ids[0], None, None],
        9: [ids[8], None, None],
        11: [ids[10], None, None],
    }
    assert table["family"].nunique() == 3
    assert table["group"].nunique() == 2
    assert set(compared(table)["mode"]) == {"augmentation", "replacement", "synthetic"}


def test_an_arm_whose_cells_are_all_missing_is_an_arm() -> None:
    arms = small()
    arms[2] = replace(arms[2], failed=0, missing=3)
    found = analyse(evidence_of(arms, WORLD), AnalysisPlan())
    arm = found.arms[found.arms["arm_id"].eq(arms[2].arm_id)].iloc[0]
    assert (arm["mode"], arm["psi"], arm["ok"], arm["missing"]) == ("augmentation", 1.0, 0, 3)
    row = found.comparisons.iloc[0]
    assert np.isnan(row["p_value"])
    assert "3 missing" in row["reason"]
    assert len(found.absent) == 3


def test_a_search_names_its_cells_before_they_have_a_row(tmp_path: Path) -> None:
    phantom_dataset(tmp_path, images=60)
    axes = {"mode": ["augmentation", "replacement"], "psi": [0.5], "ratio": [1], "seed": [1, 2]}
    changes = {"axes": axes, "controls": ["oversample", "drop"], "remove": {"dbp": 3, "trv": 3}}
    space = parse_space(small_grid(tmp_path, **changes))
    planned = planner.plan(space, tmp_path / "run")
    planned.run.root.mkdir()
    folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    cells = {cell.arm_id: cell for cell in planned.grid_cells}
    first = planned.grid_cells[0]
    row = {**identity_columns(first), "status": "failed", "error": "out of luck"}
    write_row(planned.run.trial(first.cell_id), row)
    found = analyse(load_evidence(planned.run.root), AnalysisPlan())
    assert len(found.absent) == len(planned.grid_cells) == 12
    assert set(found.absent["cell_id"]) == {cell.cell_id for cell in planned.grid_cells}
    assert sorted(found.absent["seed"]) == [1] * 6 + [2] * 6
    arms = found.arms.set_index("arm_id")
    for arm_id, cell in cells.items():
        assert (arms.loc[arm_id, "mode"], arms.loc[arm_id, "missing"]) == (
            cell.mode,
            2 - (cell.arm_id == first.arm_id),
        )
    replaced = arms[arms["mode"].eq("replacement")].iloc[0]
    names = {cells[replaced[f"{name}_id"]].mode for name in ("baseline", "twin", "drop")}
    assert names == {"baseline", "oversample", "drop"}
    assert cells[replaced["twin_id"]].remove == cells[replaced["drop_id"]].remove is not None
    added = arms[arms["mode"].eq("augmentation")].iloc[0]
    assert cells[added["twin_id"]].remove is None
    assert added["drop_id"] is None
