"""Two sides of a comparison: a trial, an arm or a file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.analysis.compare.one_model import OneModel, describe_model
from fgaug.analysis.compare.paired_predictions import PredictionSet, paired_predictions
from fgaug.analysis.compare.prediction_files import read_lines, read_predictions
from fgaug.analysis.compare.selectors import SelectedTrials, arm_words, pick, split_round
from fgaug.analysis.compare.two_arms import TwoArms, compare_arms
from fgaug.analysis.compare.two_models import TwoModels, compare_models
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError, UserError
from fgaug.runs.looks import Look, open_test
from fgaug.stats import METRICS

PURPOSE = "compare"


def compare(
    a: str, b: str, metric: str | None = None, *, open_test: bool = False
) -> TwoModels | TwoArms:
    """Return the comparison of two sides, each RUN, RUN:CELL, RUN:ARM or a prediction file.

    Two single models are compared on new patients (E0); with several seeds on a side, the recipes
    (E2). A run's predictions are those of its validation images; the sealed test stays sealed
    unless it is asked for, and then the look is written down first.
    The numbers are in frames: `.report` (of two models), `.scores` or `.summary`, `.tests`.

    Args:
        a, b: a run may be given alone if it has one trial. CELL is a cell_id, ARM an arm_id, or
            the first digits of either; `best`, or a mode that has one arm, such as `baseline`.
            `RUN:best#7` is the arm's trial of seed 7. Where there are rounds the last is taken,
            or the one that `@` names: `RUN:CELL@5`.
        metric: the primary one, by which `best` is chosen; None: what the run's plan names.
        open_test: compare on the runs' sealed test images; `best` is chosen on validation images.

    Raises:
        UserError: what cannot be read or found, other images or labels; it counts them.
    """
    sides, planned = _sides((a, b), metric, open_test)
    both = paired_predictions(*sides)
    if len(both.a) == 1 and len(both.b) == 1:
        return compare_models(both)
    return compare_arms(both, metric or (planned or ["auc"])[0])


def describe(text: str, metric: str | None = None, *, open_test: bool = False) -> OneModel:
    """Return what one trained model got right: RUN:ARM#SEED, RUN:CELL or a prediction file.

    Args:
        text: as a side of `compare`; of an arm with several trials one must be named.
        metric: by which `best` is chosen; None: what the run's plan names.
        open_test: on the run's sealed test images; the look is counted.

    Raises:
        UserError: what cannot be read or found, or several trials.
    """
    (side,), _ = _sides((text,), metric, open_test)
    return describe_model(side)


def describe_lines(truth: Path, answers: Path) -> OneModel:
    """Return what one model got right, from two files of one number a line.

    Raises:
        UserError: as `read_lines`.
    """
    return describe_model(read_lines(truth, answers))


def compare_lines(truth: Path, a: Path, b: Path) -> TwoModels:
    """Return the comparison of two models from files of one number a line, in one order.

    `.report` is a frame of what the breast-ultrasound study prints of each.

    Raises:
        UserError: as `read_lines`.
    """
    return compare_models(paired_predictions(read_lines(truth, a), read_lines(truth, b)))


def _sides(
    texts: Sequence[str], metric: str | None, look_at_test: bool
) -> tuple[list[PredictionSet], list[str]]:
    """Return what is named on each side, and the primary metrics that their runs planned."""
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric is one of {', '.join(METRICS)}, got {metric}.")
    found = [_found(text, metric) for text in texts]
    picked = [each for each in found if isinstance(each, SelectedTrials)]
    looks = _looks(picked) if look_at_test else {}
    sides = [
        each if isinstance(each, PredictionSet) else _side_of(each, looks.get(each.run))
        for each in found
    ]
    return sides, [each.planned for each in picked]


def _found(text: str, metric: str | None) -> PredictionSet | SelectedTrials:
    """Return what a side names: a file's predictions, or which trials of a run."""
    text, number = split_round(text)
    path = Path(text)
    return read_predictions(path, number) if path.is_file() else pick(text, number, metric)


def _looks(picked: Sequence[SelectedTrials]) -> dict[Path, Look]:
    """Write down one look at the test set of each run, and return them."""
    looks = {}
    for run in dict.fromkeys(each.run for each in picked):
        here = [each for each in picked if each.run == run]
        cells = [str(cell) for each in here for cell in each.chosen["cell_id"]]
        tested = (RunPaths(run).trial(cell).sealed.is_file() for cell in cells)
        if not any(tested):
            raise RunError(
                f"{run} has no test predictions: its dataset has no test set. Leave --open-test "
                "out, or prepare it with one (`fgaug data prepare --test 0.2`)."
            )
        looks[run] = open_test(RunPaths(run), [each.arm_id for each in here], PURPOSE, cells)
    if not looks:
        raise UserError("--open-test is of a run's sealed test set, and no side is a run.")
    return looks


def _side_of(picked: SelectedTrials, look: Look | None) -> PredictionSet:
    """Return the predictions of some trials of one arm, those that are ok.

    Validation images, or with a look the test images. Failed and pruned trials are noted.

    Raises:
        RunError: no trial that is ok, predictions that are missing or of other images.
    """
    run, rows, chosen = picked.run, picked.rows, picked.chosen
    said = ["validation images, which the stopping of its trials has seen"]
    if look is not None:
        said = [f"test images ({look.counted})"]
    words = arm_words(rows, picked.arm_id)
    lost = chosen[chosen["status"].ne("ok")]
    if len(chosen) == rows["arm_id"].eq(picked.arm_id).sum():
        said += _missing(run, rows, picked.arm_id)
    if len(lost):
        listed = ", ".join(f"seed {row.seed} {row.status}" for row in lost.itertuples())
        said.append(f"left out, as not finished: {listed}")
    kept: list[PredictionSet] = []
    for row in chosen[chosen["status"].eq("ok")].itertuples():
        trial = RunPaths(run).trial(str(row.cell_id))
        try:
            one = read_predictions(trial.sealed if look else trial.predictions, picked.number)
        except UserError as error:
            said.append(f"left out, seed {row.seed}: {error}")
            continue
        name = f"seed {row.seed} (cell {row.cell_id})"
        kept.append(replace(one, name=name, runs=(name,)))
    if not kept:
        raise RunError(f"{run}: no usable trial of {words} ({'; '.join(said)}). Train it first.")
    if "stage" in chosen and (second := int(chosen["stage"].eq("confirm").sum())):
        said.append(f"{second} of the seeds are of a second stage, the others chose its arms")
    if leakage := sorted({*map(str, chosen["leakage"].dropna())} - {"none"}):
        said.append(f"leakage: {', '.join(leakage)}")
    name = f"{run}: {words}, {_seeds(kept)}"
    first = kept[0]
    joined = [paired_predictions(first, other) for other in kept[1:]]
    probability = np.concatenate([first.probability, *(pair.b for pair in joined)])
    return replace(
        first,
        name=name,
        probability=probability,
        runs=tuple(one.runs[0] for one in kept),
        notes=(*first.notes, *said),
        picked=picked.among if look is None else 1,  # the best is chosen on validation images
    )


def _missing(run: Path, rows: pd.DataFrame, arm_id: str) -> list[str]:
    """Return a note of the seeds of an arm that its grid has and that have no row."""
    path = RunPaths(run).environment
    environment = files.read_json(path, RunError) if path.is_file() else {}
    known = {*map(str, rows["cell_id"])}
    for arm in environment.get("arms", ()):
        if arm.get("arm_id") == arm_id:
            lost = [str(seed) for cell, seed in arm["cells"].items() if cell not in known]
            return [f"not trained yet: seeds {', '.join(lost)}"] if lost else []
    return []


def _seeds(kept: Sequence[PredictionSet]) -> str:
    return kept[0].runs[0] if len(kept) == 1 else f"{len(kept)} seeds"
