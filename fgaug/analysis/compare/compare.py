"""Comparing two sides, each a trial, an arm or a prediction file."""

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
from fgaug.analysis.findings.folds import folds_of
from fgaug.errors import RunError, UserError
from fgaug.runs import environment
from fgaug.runs.looks import Look, open_test
from fgaug.runs.place import run_at
from fgaug.stats import METRICS

PURPOSE = "compare"


def compare(
    a: str, b: str, metric: str | None = None, *, open_test: bool = False
) -> TwoModels | TwoArms:
    """Return the comparison of two sides, each RUN, RUN:CELL, RUN:ARM or a prediction file.

    Two single models are compared on new patients (E0); with several seeds on a side, their
    recipes are compared (E2). Uses a run's validation predictions; with `open_test` it records a
    look and uses the sealed test predictions. The numbers are in frames: `.report` (of two
    models), `.scores` or `.summary`, `.tests`.

    Args:
        a, b: RUN alone works for a run with one trial. CELL is a cell_id and ARM an arm_id, or
            the first digits of either; ARM may also be `best`, or a mode with one arm, such as
            `baseline`. `RUN:best#7` is the arm's trial with seed 7. Of several rounds the last
            counts, or the one after `@`: `RUN:CELL@5`.
        metric: the primary metric, which selects `best`; by default that of the run's plan.
        open_test: compare on the sealed test images; `best` is selected on validation images.

    Raises:
        UserError: a side cannot be read or found, or images or labels differ; it counts them.
    """
    sides, planned = _sides((a, b), metric, open_test)
    both = paired_predictions(*sides)
    if len(both.a) == 1 and len(both.b) == 1:
        return compare_models(both)
    return compare_arms(both, metric or (planned or ["auc"])[0])


def describe(text: str, metric: str | None = None, *, open_test: bool = False) -> OneModel:
    """Return the scores of one trained model: RUN:ARM#SEED, RUN:CELL or a prediction file.

    Args:
        text: as a side of `compare`; must name one trial of an arm with several.
        metric: the metric that selects `best`; by default that of the run's plan.
        open_test: use the run's sealed test images; counts as a look.

    Raises:
        UserError: the side cannot be read or found, or has several trials.
    """
    (side,), _ = _sides((text,), metric, open_test)
    return describe_model(side)


def describe_lines(truth: Path, answers: Path) -> OneModel:
    """Return the scores of one model, from two files with one number per line.

    Raises:
        UserError: as `read_lines`.
    """
    return describe_model(read_lines(truth, answers))


def compare_lines(truth: Path, a: Path, b: Path) -> TwoModels:
    """Return the comparison of two models from files with one number per line, in the same order.

    `.report` is a frame with what the breast-ultrasound study prints for each model.

    Raises:
        UserError: as `read_lines`.
    """
    return compare_models(paired_predictions(read_lines(truth, a), read_lines(truth, b)))


def _sides(
    texts: Sequence[str], metric: str | None, look_at_test: bool
) -> tuple[list[PredictionSet], list[str]]:
    """Return the predictions of each side, and the primary metrics planned by their runs."""
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric must be one of {', '.join(METRICS)}, got {metric}.")
    found = [_found(text, metric) for text in texts]
    picked = [each for each in found if isinstance(each, SelectedTrials)]
    looks = _looks(picked) if look_at_test else {}
    sides = [
        each if isinstance(each, PredictionSet) else _side_of(each, looks.get(each.run))
        for each in found
    ]
    return sides, [each.planned for each in picked]


def _found(text: str, metric: str | None) -> PredictionSet | SelectedTrials:
    """Return the predictions of a file, or the selected trials of a run."""
    text, number = split_round(text)
    path = Path(text)
    return read_predictions(path, number) if path.is_file() else pick(text, number, metric)


def _looks(picked: Sequence[SelectedTrials]) -> dict[Path, Look]:
    """Record one look at the test set of each run, and return the looks."""
    looks = {}
    for run in dict.fromkeys(each.run for each in picked):
        here = [each for each in picked if each.run == run]
        cells = [str(cell) for each in here for cell in each.chosen["cell_id"]]
        tested = (run_at(run).trial(cell).sealed.is_file() for cell in cells)
        if not any(tested):
            raise RunError(
                f"{run} has no test predictions: its dataset has no test set. Leave out "
                "--open-test, or prepare the dataset with a test set (`fgaug data prepare "
                "--test 0.2`)."
            )
        looks[run] = open_test(run_at(run), [each.arm_id for each in here], PURPOSE, cells)
    if not looks:
        raise UserError("--open-test opens the sealed test set of a run, but no side is a run.")
    return looks


def _side_of(picked: SelectedTrials, look: Look | None) -> PredictionSet:
    """Return the predictions of the finished trials among some trials of one arm.

    Uses validation images, or test images with a look. Failed and pruned trials are noted.

    Raises:
        RunError: no trial has finished, or predictions are missing or of other images.
    """
    run, rows, chosen = picked.run, picked.rows, picked.chosen
    said = ["validation images, which were also used to stop its trials"]
    folds = folds_of(rows[rows["arm_id"].eq(picked.arm_id)])
    if folds:
        said = ["images held out of training, which did not stop its trials"]
    if look is not None:
        said = [f"test images ({look.counted})"]
    words = arm_words(rows, picked.arm_id)
    lost = chosen[chosen["status"].ne("ok")]
    if len(chosen) == rows["arm_id"].eq(picked.arm_id).sum():
        said += _missing(run, rows, picked.arm_id)
    if len(lost):
        listed = ", ".join(f"seed {row.seed} {row.status}" for row in lost.itertuples())
        said.append(f"left out because not finished: {listed}")
    kept: list[PredictionSet] = []
    ok = chosen[chosen["status"].eq("ok")]
    for cells in _runs(ok, folds, said):
        row = cells.iloc[0]
        trials = [run_at(run).trial(str(cell)) for cell in cells["cell_id"]]
        paths = [trial.sealed if look else trial.predictions for trial in trials]
        try:
            one = _pooled([read_predictions(path, picked.number) for path in paths])
        except UserError as error:
            said.append(f"left out, seed {row['seed']}: {error}")
            continue
        name = f"seed {row['seed']} (cell {row['cell_id']})"
        if len(cells) > 1:
            name = f"seed {row['seed']} (pooled over {len(cells)} folds)"
        kept.append(replace(one, name=name, runs=(name,)))
    if not kept:
        raise RunError(f"{run}: no usable trial of {words} ({'; '.join(said)}). Train it first.")
    if "stage" in chosen and (second := int(chosen["stage"].eq("confirm").sum())):
        said.append(f"{second} of the seeds are from a second stage; the others selected its arms")
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
        picked=picked.among if look is None else 1,  # the best is selected on validation images
    )


def _runs(ok: pd.DataFrame, folds: Sequence[int], said: list[str]) -> list[pd.DataFrame]:
    """Return the finished cells of each run: one cell, or one per fold in a grid with folds.

    A seed that lacks a fold is left out and noted in `said`, unless a single cell was named.
    """
    if not folds or len(ok) == 1:
        if folds:
            said.append(f"fold {int(ok['fold'].iloc[0])} of {len(folds)} only")
        return [ok.iloc[[place]] for place in range(len(ok))]
    found = []
    for seed, cells in ok.groupby("seed", sort=False):
        gone = sorted({*folds} - {*folds_of(cells)})
        if gone:
            said.append(f"left out, seed {seed}: no result of fold {', '.join(map(str, gone))}")
        else:
            found.append(cells.sort_values("fold", kind="stable"))
    return found


def _pooled(parts: Sequence[PredictionSet]) -> PredictionSet:
    """Return the predictions of all folds of a seed as those of one run."""
    first = parts[0]
    if len(parts) == 1:
        return first
    ids, groups = [part.image_id for part in parts], [part.group for part in parts]
    return replace(
        first,
        image_id=tuple(i for each in ids if each is not None for i in each),
        label=tuple(label for part in parts for label in part.label),
        group=None if None in groups else tuple(g for each in groups if each for g in each),
        probability=np.concatenate([part.probability for part in parts], axis=1),
    )


def _missing(run: Path, rows: pd.DataFrame, arm_id: str) -> list[str]:
    """Return a note on the seeds of an arm that are in the grid but have no row."""
    folder = run_at(run)
    if not folder.environment.is_file():
        return []
    known = {*map(str, rows["cell_id"])}
    for arm in environment.read(folder).arms:
        if arm.arm_id == arm_id:
            lost = [str(seed) for cell, seed in arm.seeds.items() if cell not in known]
            return [f"not trained yet: seeds {', '.join(lost)}"] if lost else []
    return []


def _seeds(kept: Sequence[PredictionSet]) -> str:
    return kept[0].runs[0] if len(kept) == 1 else f"{len(kept)} seeds"
