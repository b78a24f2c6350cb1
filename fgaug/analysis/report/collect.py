"""Collecting the material of a run's report from all parts of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgaug.analysis.findings.analysis import analyse
from fgaug.analysis.findings.evidence import Evidence, load_evidence
from fgaug.analysis.findings.folds import cells_of_runs, folds_of
from fgaug.analysis.format import many
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.collect_fakes import known_fakes, sheets_of
from fgaug.analysis.report.material import Material
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.core.yaml_file import read_yaml
from fgaug.errors import FgaugError, RunError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.runs import confirmation_records, environment, looks, preregistration, results
from fgaug.runs.place import run_at
from fgaug.runs.results import splits_of
from fgaug.training.metrics import evaluate

PURPOSE = "report"  # recorded with a look at the test set


def material(run: str | Path, *, open_test: bool = False) -> Material:
    """Return the material of a run's report; missing items carry the reason in words.

    Args:
        run: the run folder of a search.
        open_test: score the sealed test set; the look is recorded before the set is read.

    Raises:
        RunError: there is no such run, no trial has finished, or there is no test set to open.
    """
    run_paths = run_at(run)
    rows = results.load_results(run)
    if rows.empty:
        raise RunError(f"{run} has no finished trial yet; run `fgaug search` first.")
    recorded = environment.read(run_paths)
    space = read_yaml(run_paths.space)
    cells = {*(recorded.cells or ())}
    missing = len(cells - set(rows["cell_id"]))
    if "stage" in rows:  # the second stage has its own tables
        rows = rows[rows["stage"].ne("confirm")].reset_index(drop=True)
    if open_test:
        _open(run_paths, rows)
    plan, latest = preregistration.read(run_paths), preregistration.read_latest(run_paths)
    planned = plan.analysis if plan else _plan(space)
    analysed = _analysed(run, planned.at_a_look() if open_test else planned, open_test)
    if open_test:
        rows = _tested(rows, analysed["evidence"])
    cells_of: dict[str, list[str]] = {}
    if "evidence" in analysed and folds_of(rows):
        cells_of = cells_of_runs(rows)
        rows = analysed["evidence"].rows
    return Material(
        name=str(space["name"]),
        rows=rows,
        arms=by_arm(rows),
        space=space,
        environment=recorded,
        missing=missing,
        curves=lambda cell_ids: _curves(run_paths, cell_ids, cells_of),
        plan=preregistration.to_dict(plan) if plan else {},
        deviations=preregistration.deviations(plan, latest) if plan and latest else (),
        looks=tuple(
            {**asdict(look), "counted": look.counted} for look in looks.looks_of(run_paths)
        ),
        confirmed=tuple(_confirmed(stage) for stage in confirmation_records.read(run_paths)),
        sealed=open_test,
        **analysed,
        **_strata(space),
        **_sheets(space, rows),
        **_fakes(space, rows),
    )


def _plan(space: dict[str, Any]) -> AnalysisPlan:
    return AnalysisPlan.model_validate(space.get("analysis") or {})


def _open(run: RunPaths, rows: pd.DataFrame) -> None:
    """Record a look at the test predictions of every arm; refuse if there are none."""
    ok = rows[rows["status"].eq("ok")]
    if ok.empty or not run.trial(str(ok["cell_id"].iloc[0])).sealed.is_file():
        raise RunError(
            f"{run.place} has no test predictions to open. Prepare the dataset with `--test` and "
            "search again."
        )
    looks.open_test(run, map(str, ok["arm_id"].unique()), PURPOSE)


def _analysed(run: str | Path, plan: AnalysisPlan, sealed: bool) -> dict[str, Any]:
    try:
        evidence = load_evidence(run, "sealed" if sealed else "valid")
    except FgaugError as error:
        if sealed:
            raise
        return {"no_analysis": f"the predictions cannot be read ({str(error).rstrip('.')})"}
    try:
        return {"evidence": evidence, "analysis": analyse(evidence, plan)}
    except FgaugError as error:
        return {"evidence": evidence, "no_analysis": str(error).rstrip(".")}


def _tested(rows: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Return the rows with test-set scores in place of the validation scores."""
    scores = {}
    splits = dict(zip(evidence.rows["cell_id"], splits_of(evidence.rows), strict=True))
    for cell_id, probability in evidence.probability.items():
        y = evidence.images[splits[cell_id]]["y"].to_numpy()
        found = evaluate(y, probability.astype(np.float64), evidence.labels)
        per_label = ("precision_", "recall_", "specificity_")
        scores[cell_id] = {
            name if name.startswith(per_label) else f"valid_{name}": value
            for name, value in found.items()
        }
    tested = pd.DataFrame.from_dict(scores, orient="index").reindex(rows["cell_id"])
    return rows.assign(**{str(name): tested[name].to_numpy() for name in tested.columns})


def _curves(
    run: RunPaths, cell_ids: Sequence[str], cells_of: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return the curves of runs by cell_id; those of a run with folds are several curves."""
    parts = []
    for cell_id in cell_ids:
        for cell in cells_of.get(cell_id, [cell_id]):
            curve = run.trial(cell).curve
            if curve.is_file():
                part = files.read_table(curve, RunError).to_pandas()
                parts.append(part.assign(cell_id=cell_id))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell_id": []})


def _confirmed(stage: confirmation_records.SecondStage) -> tuple[str, pd.DataFrame]:
    """Return a sentence about a second stage, and its comparisons."""
    arms = ", ".join(arm.arm for arm in stage.shortlist)
    count = many(len(stage.shortlist), "arm")
    head = f"Second stage of {stage.date[:10]}: {count} retrained with fresh seeds"
    if not stage.judged:
        waiting = "not evaluated yet, because some of its cells have not finished"
        return f"{head} ({arms}); {waiting}.", stage.comparisons
    return f"{head}, on the sealed test set: {stage.judged[-1].counted}.", stage.comparisons


def _strata(space: dict[str, Any]) -> dict[str, Any]:
    from fgaug.data import open_dataset

    try:
        dataset = open_dataset(space["dataset"])
    except FgaugError as error:
        return {"no_strata": f"the dataset cannot be read ({str(error).rstrip('.')})"}
    return {"strata": dataset.manifest[["image_id", *dataset.spec.strata]]}


def _sheets(space: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    found, reason = sheets_of(space, rows)
    return {"sheets": found, "no_sheets": reason}


def _fakes(space: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    found, reason = known_fakes(space, rows)
    return {"fakes": found, "no_fakes": reason}
