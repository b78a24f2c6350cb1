"""Gives trackers the arms of a search at its end: means, intervals, verdicts and the report.

All numbers are columns of the report's tables, computed by the report's functions.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug.core import mirror
from fgaug.core.paths import RunPaths
from fgaug.errors import FgaugError
from fgaug.runs import confirmation_records, results
from fgaug.study.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from fgaug.analysis.report.material import Material
    from fgaug.study.tune.tracked import TrackedArm, TrackedSearch

WITH_ARMS = ("mlflow", "wandb")  # trackers that group cells by arm
MEANS = ("seeds", "failed", "pruned", "n_real", "n_fake")  # of `by_arm`, and:
MEAN_ENDINGS = ("_mean", "_sd_sample")
SEALED = "test"  # folder of the report on the sealed test set, below the report's
_log = logging.getLogger("fgaug")


def finish(planned: Plan, console: Console) -> None:
    """Summarise a search for its trackers, and upload what they wrote if the run is at a URI."""
    summarise(planned, console)
    for written in (planned.run.tensorboard, planned.run.mlflow, planned.run.wandb):
        mirror.push(written)


def summarise(planned: Plan, console: Console) -> None:
    """Write the run's report, and give it to the grid's trackers with the arms as they stand.

    Does nothing for a grid without such trackers, or before the first trial has finished. What
    cannot be analysed or written is a warning: a search does not fail for its trackers.

    Args:
        planned: the plan of the search.
        console: prints the report's path.
    """
    names = [name for name in planned.space.loggers if name in WITH_ARMS]
    if not names:
        return
    known = results.statuses_of(planned.run, [cell.cell_id for cell in planned.grid_cells])
    if not known:
        return
    from fgaug.study.tune.loggers import loggers_of

    try:
        search = _search_of(planned, known)
    except FgaugError as error:
        _log.warning(f"The trackers get no means, verdicts and report: {error}")
        return
    page = planned.run.report.relative_to(planned.run.root).as_posix()
    say = f"report: {planned.run.place}/{page}"
    console.print(say, highlight=False, soft_wrap=True, markup=False)
    for logger in loggers_of(names, planned.run, planned.grid_cells):
        logger.summarise(search)


def _search_of(planned: Plan, known: Mapping[str, str]) -> TrackedSearch:
    """Write the report of a search, and return what trackers show of it.

    Args:
        planned: the plan of the search.
        known: the status of each finished cell, by cell_id.
    """
    from fgaug.analysis.report.chapters.verdict import lead
    from fgaug.analysis.report.collect import material
    from fgaug.analysis.report.write import write_report
    from fgaug.study.tune.tracked import TrackedSearch

    found = material(planned.run.root)
    page = write_report(found, planned.run.report)
    by_arm: dict[str, list[str]] = {}
    for cell in planned.grid_cells:
        by_arm.setdefault(cell.arm_id, []).append(known.get(cell.cell_id, "missing"))
    counts = Counter(status for of_arm in by_arm.values() for status in of_arm)
    whole = "missing" if counts["missing"] else "failed" if counts["failed"] else "ok"
    return TrackedSearch(
        arms=tuple(_arms(planned, found, {k: _overall(v) for k, v in by_arm.items()})),
        status=whole,
        lead="\n\n".join(lead(found)),
        counts={name: counts[name] for name in ("ok", "pruned", "failed", "missing")},
        report=_files(page.parent),
    )


def _arms(planned: Plan, found: Material, statuses: Mapping[str, str]) -> Iterator[TrackedArm]:
    """Yield the arms of a grid with their numbers and verdicts."""
    from fgaug.analysis.report.chapters.all_arms import arms_with_verdicts
    from fgaug.study.tune.tracked import arms_of

    means, verdicts = _means(found), arms_with_verdicts(found)
    confirmed = second_stages(planned.run)
    for arm_id, arm in arms_of(planned.grid_cells).items():
        word, numbers = confirmed.get(arm_id, ("", {}))
        own = _numbers("arm", means, arm_id) | _numbers("verdict", verdicts, arm_id)
        yield replace(
            arm,
            status=statuses[arm_id],
            numbers=own | numbers,
            verdict=_text(verdicts, arm_id, "verdict"),
            confirmed=word,
            note=_note(found, verdicts, arm_id),
        )


def _means(found: Material) -> pd.DataFrame:
    """Return the means over seeds by arm_id; of cells with rounds, those of the last round."""
    last = found.arms.drop_duplicates("arm_id", keep="last").set_index("arm_id")
    kept = [name for name in map(str, last) if name in MEANS or name.endswith(MEAN_ENDINGS)]
    return last[kept]


def second_stages(run: RunPaths) -> dict[str, tuple[str, dict[str, float]]]:
    """Return the verdict and the numbers of each arm's latest second stage, by arm_id."""
    found = {}
    for stage in confirmation_records.read(run):
        for row in stage.comparisons.to_dict("records"):
            if row["against"] == "baseline":
                names = confirmation_records.NUMBERS
                numbers = {f"confirmed/{name}": float(row[name]) for name in names}
                found[str(row["arm_id"])] = (str(row["verdict"]), numbers)
    return found


def _numbers(group: str, frame: pd.DataFrame, arm_id: str) -> dict[str, float]:
    """Return the numbers in an arm's row of a table, named `group/column`."""
    if arm_id not in frame.index:
        return {}
    row = frame.loc[arm_id]
    return {
        f"{group}/{name}": math.nan if value is None else float(value)
        for name, value in row.items()
        if value is None or isinstance(value, Real)
    }


def _text(frame: pd.DataFrame, arm_id: str, column: str) -> str:
    if arm_id not in frame.index or column not in frame:
        return ""
    value = frame.loc[arm_id, column]
    return value if isinstance(value, str) else ""


def _note(found: Material, verdicts: pd.DataFrame, arm_id: str) -> str:
    """Return an arm's verdict in full, or in words why there is none."""
    parts = [_text(verdicts, arm_id, name) for name in ("sentence", "would_change_it")]
    if found.analysis is None:
        parts = [f"No verdict: {found.no_analysis}."]
    told = found.arms.loc[found.arms["arm_id"].eq(arm_id), "note"]
    return "\n\n".join(part for part in (*parts, *map(str, told.tail(1))) if part)


def _overall(statuses: Iterable[str]) -> str:
    """Return one status for several cells."""
    seen = {*statuses}
    return next(status for status in ("missing", "failed", "ok", "pruned") if status in seen)


def _files(folder: Path) -> Mapping[str, Path]:
    """Return the files of a report by their names relative to its folder.

    The report on the sealed test set, if there is one, stays where it is.
    """
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder): path for path in paths}
    return {name.as_posix(): path for name, path in named.items() if name.parts[0] != SEALED}
