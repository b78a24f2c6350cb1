"""Two sides of a comparison: a trial, an arm or a file each.  runs, files -> [here] -> commands"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug import frozen_plan, paths, results
from fgaug.analysis.evidence import last_rounds, screened
from fgaug.analysis.same_images import Side, same_images
from fgaug.analysis.two_arms import TwoArms, compare_arms
from fgaug.analysis.two_models import TwoModels, compare_models
from fgaug.analysis_plan import LOWER_IS_BETTER
from fgaug.arm_names import arm_name, further_axes
from fgaug.cells import CONTROLS, MODES
from fgaug.errors import RunError, UserError
from fgaug.paths import RunPaths
from fgaug.stats import METRICS
from fgaug.study.chosen_round import in_round, of_round, split_round
from fgaug.study.prediction_files import read_lines, read_predictions

NOT_NEW = ("baseline", *CONTROLS)  # modes without fakes: never the best arm
SHOWN = 12  # arms that a message lists
COLUMNS = {"auc": "valid_auc", "accuracy": "valid_acc", "brier": "valid_brier"}


def compare(a: str, b: str, metric: str | None = None) -> TwoModels | TwoArms:
    """Return the comparison of two sides, each RUN, RUN:CELL, RUN:ARM or a prediction file.

    Two single models are compared on new patients (E0); with several seeds on a side, the recipes
    (E2). A run's predictions are those of its validation images; the sealed test stays sealed.
    The numbers are in frames: `.report` (of two models), `.scores` or `.summary`, `.tests`.

    Args:
        a, b: a run may be given alone if it has one trial. CELL is a cell_id, ARM an arm_id, or
            the first digits of either; `best`, or a mode that has one arm, such as `baseline`.
            Where there are rounds the last is taken, or the one that `@` names: `RUN:CELL@5`.
        metric: the primary one, by which `best` is chosen; None: what the run's plan names.

    Raises:
        UserError: what cannot be read or found, other images or labels; it counts them.
    """
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric is one of {', '.join(METRICS)}, got {metric}.")
    sides = [_side(text, metric) for text in (a, b)]
    both = same_images(sides[0][0], sides[1][0])
    if len(both.a) == 1 and len(both.b) == 1:
        return compare_models(both)
    planned = [plan for _, plan in sides if plan is not None]
    return compare_arms(both, metric or (planned or ["auc"])[0])


def compare_lines(truth: Path, a: Path, b: Path) -> TwoModels:
    """Return the comparison of two models from files of one number a line, in one order.

    `.report` is a frame of what the breast-ultrasound study prints of each.

    Raises:
        UserError: as `read_lines`.
    """
    return compare_models(same_images(read_lines(truth, a), read_lines(truth, b)))


def _side(text: str, metric: str | None) -> tuple[Side, str | None]:
    """Return a side, and the primary metric of its run's plan (None of a file)."""
    text, number = split_round(text)
    path = Path(text)
    if path.is_file():
        return read_predictions(path, number), None
    run, selector = path, ""
    if not path.is_dir():
        run, selector = _split(text)
    planned = metric or planned_metric(run)
    every = results.load_results(run)
    rows = last_rounds(every)
    if rows.empty:
        raise RunError(f"{run} has no finished trial yet; run `fgaug search` first.")
    if number is None:
        chosen, picked = _chosen(run, rows, selector, planned)
    else:
        judged = in_round(str(run), every, number) if selector == "best" else rows
        chosen, picked = _chosen(run, judged, selector, planned)
        chosen = of_round(text, every, rows[rows["cell_id"].isin(chosen["cell_id"])], number)
    return replace(_side_of(run, rows, chosen, number), picked=picked), planned


def _split(text: str) -> tuple[Path, str]:
    """Return run and selector of `RUN:SELECTOR`; a run's own path may hold colons."""
    head, colon, tail = text.rpartition(":")
    while colon:
        if Path(head).is_dir() and tail:
            return Path(head), tail
        if Path(head).is_file():
            raise UserError(f"{head} is a file: it takes nothing behind a colon, got :{tail}.")
        head, colon, more = head.rpartition(":")
        tail = f"{more}:{tail}"
    raise UserError(
        f"{text}: no such run or file. Give RUN:CELL, RUN:ARM, RUN:best, RUN:baseline, or a CSV "
        "or Parquet file of predictions; with @5 behind it, its round 5."
    )


def _side_of(run: Path, rows: pd.DataFrame, chosen: pd.DataFrame, number: int | None) -> Side:
    """Return the validation predictions of some trials of one arm, those that are ok.

    Args:
        run: its folder.
        rows: all rows of the run.
        chosen: those of the arm or trial; failed and pruned ones are noted.
        number: of the round; None: the last.

    Raises:
        RunError: no trial that is ok, predictions that are missing or of other images.
    """
    said = ["validation images, which the stopping of its trials has seen"]
    words = arm_words(rows, str(chosen["arm_id"].iloc[0]))
    lost = chosen[chosen["status"].ne("ok")]
    if len(chosen) == rows["arm_id"].eq(chosen["arm_id"].iloc[0]).sum():
        said += _missing(run, rows, str(chosen["arm_id"].iloc[0]))
    if len(lost):
        listed = ", ".join(f"seed {row.seed} {row.status}" for row in lost.itertuples())
        said.append(f"left out, as not finished: {listed}")
    kept: list[Side] = []
    for row in chosen[chosen["status"].eq("ok")].itertuples():
        path = RunPaths(run).trial(str(row.cell_id)).predictions
        try:
            one = read_predictions(path, number)
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
    joined = [same_images(first, other) for other in kept[1:]]
    probability = np.concatenate([first.probability, *(pair.b for pair in joined)])
    return replace(
        first,
        name=name,
        probability=probability,
        runs=tuple(one.runs[0] for one in kept),
        notes=(*first.notes, *said),
    )


def arm_words(rows: pd.DataFrame, arm_id: str) -> str:
    """Return the words that name an arm, with its id."""
    first = rows[rows["arm_id"].eq(arm_id)].iloc[0]
    arm = {str(name): value for name, value in first.items() if name != "round"}
    return f"{arm_name(arm, further_axes(rows))} (arm {arm_id})"


def _missing(run: Path, rows: pd.DataFrame, arm_id: str) -> list[str]:
    """Return a note of the seeds of an arm that its grid has and that have no row."""
    path = RunPaths(run).environment
    environment = paths.read_json(path, RunError) if path.is_file() else {}
    known = {*map(str, rows["cell_id"])}
    for arm in environment.get("arms", ()):
        if arm.get("arm_id") == arm_id:
            lost = [str(seed) for cell, seed in arm["cells"].items() if cell not in known]
            return [f"not trained yet: seeds {', '.join(lost)}"] if lost else []
    return []


def _chosen(run: Path, rows: pd.DataFrame, selector: str, metric: str) -> tuple[pd.DataFrame, int]:
    """Return the rows that a selector means, and of how many arms they were picked as best."""
    if not selector:
        if rows["cell_id"].nunique() == 1:
            return rows, 1
        raise UserError(f"{run} has {len(rows)} trials: say which. {_arms_of(run, rows)}")
    if selector == "best":
        return _best(run, rows, metric)
    if selector in MODES:
        same = rows[rows["mode"].eq(selector)]
        if same["arm_id"].nunique() == 1:
            return same, 1
        count = same["arm_id"].nunique()
        raise UserError(
            f"{run}: `{selector}` must name one arm, and {count} have that mode. "
            f"{_arms_of(run, same if count else rows)}"
        )
    exact = rows[rows["cell_id"].eq(selector) | rows["arm_id"].eq(selector)]
    if len(exact):
        return exact, 1
    arms = rows[rows["arm_id"].astype(str).str.startswith(selector)]
    cells = rows[rows["cell_id"].astype(str).str.startswith(selector)]
    found = arms["arm_id"].nunique() + cells["cell_id"].nunique()
    if found == 1:
        return (arms if len(arms) else cells), 1
    which = f"{found} arms and trials begin so" if found else "none has it"
    raise UserError(
        f"{run}: `{selector}` must be an arm_id, a cell_id or the first digits of one; {which}. "
        f"{_arms_of(run, rows)}"
    )


def _best(run: Path, rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, int]:
    """Return the rows of the arm with fakes of the best mean over seeds, and of how many."""
    usable = rows[rows["status"].eq("ok") & ~rows["mode"].isin(NOT_NEW) & screened(rows)]
    means = _values(usable, metric).groupby(usable["arm_id"]).mean().dropna()
    if means.empty:
        raise UserError(f"{run}: no arm with fakes has a {metric} yet. Name an arm instead.")
    best = str(means.idxmin() if metric in LOWER_IS_BETTER else means.idxmax())
    return rows[rows["arm_id"].eq(best)], len(means)


def _values(rows: pd.DataFrame, metric: str) -> pd.Series[float]:
    if metric == "balanced_accuracy":
        recalls = rows[[name for name in map(str, rows) if name.startswith("recall_")]]
        return pd.Series(recalls.astype(float).mean(axis=1, skipna=False))
    return pd.Series(rows[COLUMNS.get(metric, "valid_loss")].astype(float))


def planned_metric(run: Path) -> str:
    """Return the primary metric that a run's plan names; auc where it names none."""
    frozen = frozen_plan.read(RunPaths(run))
    return "auc" if frozen is None else str(frozen.analysis.metric)


def _arms_of(run: Path, rows: pd.DataFrame) -> str:
    """Return a list of a run's arms, as they may be named."""
    names = list(dict.fromkeys(map(str, rows["arm_id"])))
    seeds = rows.groupby("arm_id")["cell_id"].nunique()
    lines = [f"  {run}:{name}  {arm_words(rows, name)}, {seeds[name]} seeds" for name in names]
    more = [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join(["Its arms:", *lines[:SHOWN], *more])


def _seeds(kept: Sequence[Side]) -> str:
    return kept[0].runs[0] if len(kept) == 1 else f"{len(kept)} seeds"
