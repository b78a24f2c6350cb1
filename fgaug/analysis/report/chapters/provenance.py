"""Origin: where the numbers come from, and what a reporting checklist asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fgaug.analysis.format import many
from fgaug.analysis.report.chapters.summary import budget_unit, leakage
from fgaug.analysis.report.format import LEVELS, NAMES, listed
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.parts import Code, Facts, Part, Text
from fgaug.grid.cells import CONTROLS
from fgaug.runs.results import USUAL_SPLIT

_OF_ROWS = ("dataset_digest", "recipe_digest", "weights", "snapshots", "version", "host", "device")
_UNTOLD = ("plan", "cells")  # long, and told elsewhere
_NO_SOFTWARE = ("git_commit", "host", "command")  # texts of environment.json beside versions


def provenance_parts(material: Material) -> list[Part]:
    """Return digests, versions, hosts and commands, and the grid as it was resolved."""
    told = {k: v for k, v in material.environment.items() if k not in _UNTOLD}
    pairs = [(str(key), text_of(value)) for key, value in told.items()]
    for name in _OF_ROWS:
        if name in material.rows:
            values = list(dict.fromkeys(text_of(v) for v in material.rows[name].dropna()))
            if values:
                pairs.append((f"{name} (of the rows)", "\n".join(values[:40])))
    parts: list[Part] = [Facts(pairs=tuple(pairs))] if pairs else [Text(text="Not recorded.")]
    if material.space:
        grid = json.dumps(material.space, indent=2, default=str, ensure_ascii=False)
        parts.append(Code(title="The grid, as resolved", text=grid))
    return parts


def checklist_parts(material: Material) -> list[Part]:
    """Return what this run can tell of the things CLAIM and TRIPOD+AI ask a report to tell."""
    head = Text(
        text="What CLAIM and TRIPOD+AI ask for and a run knows, in words of its own, to be "
        "copied where the checklist has it. What only you know is not here: the source and "
        "selection of the patients, how labels were made, the intended use, ethics, funding."
    )
    return [head, Facts(pairs=tuple(_fields(material)))]


def _fields(material: Material) -> list[tuple[str, str]]:
    rows, analysis = material.rows, material.analysis
    arms = rows.drop_duplicates("arm_id")
    modes = arms["mode"]
    tried = int((~modes.isin(["baseline", *CONTROLS])).sum())
    plan = analysis.plan if analysis is not None else None
    planned = f" (frozen with digest {str(material.plan['digest'])[:12]})" if material.plan else ""
    steps = budget_unit(rows, material.space) == "steps"
    stops = rows["status"].eq("pruned").sum()
    return [
        ("Partitions", _partitions(material)),
        ("Sample sizes", _sizes(material)),
        (
            "Primary metric",
            NAMES[material.metric] + planned if plan else "none was named before the run",
        ),
        (
            "Uncertainty",
            f"Obuchowski-Rockette model with seeds in the place of readers, influence sums "
            f"clustered by patient; level E2: {LEVELS['E2']}. {100 * (1 - plan.alpha):g}% "
            "simultaneous intervals; sd in the tables: population, the sample's beside it"
            if plan
            else "spread over seeds only",
        ),
        (
            "Multiplicity",
            "max-T over all arms against their baseline, on the same covariance"
            + "; replacement arms by Holm" * bool(modes.eq("replacement").any())
            if plan
            else "not corrected",
        ),
        ("Arms tried", f"{many(tried, 'arm')} with fakes, {many(len(arms), 'arm')} in all"),
        ("Seeds", _seeds(rows)),
        (
            "Early stopping",
            f"{_kept_weights(material.space, steps)}. "
            + (
                f"{many(int(stops), 'trial')} stopped at a rung by validation scores. "
                * bool(stops)
            )
            + _same_set(material),
        ),
        ("Leakage", leakage(rows)),
        ("Software", _software(material.environment)),
        ("Negative results", _negative(material)),
    ]


def _partitions(material: Material) -> str:
    parts = [_patients(material)]
    used = [USUAL_SPLIT]
    if "split" in material.rows:
        used = list(dict.fromkeys(material.rows["split"].dropna().map(str)))
    drawn = [split for split in used if split != USUAL_SPLIT]
    if USUAL_SPLIT in used:
        parts.append("Split: as the dataset was prepared")
    if drawn:
        also = "Also" if USUAL_SPLIT in used else "Split:"
        parts.append(
            f"{also} {many(len(drawn), 'random split')} into training and validation, drawn anew "
            f"from all but the test set, which stays as it was prepared: {listed(drawn)}"
        )
    return ". ".join([*parts, "Validation and test hold real images only."])


def _patients(material: Material) -> str:
    """Return whether patients stay on one side, as far as the predictions tell who they are."""
    evidence = material.evidence
    if evidence is None or not evidence.images:
        return "Training, validation and test sets by the dataset's groups (patients, where given)"
    images = pd.concat(evidence.images.values())
    if images["group"].map(str).eq(images["image_id"].map(str)).all():
        return (
            "The dataset names no patients: each image counts as one, so images of one patient "
            "may be on two sides"
        )
    return "Training, validation and test sets by patient: no patient is on two sides"


def _kept_weights(space: Mapping[str, Any], steps: bool) -> str:
    """Return which weights of a trial are scored."""
    recipe = space.get("recipe")
    keras = recipe.get("keras") if isinstance(recipe, Mapping) else None
    if isinstance(keras, Mapping) and keras.get("restore_best") is False:
        return "The last weights of a trial are scored, whatever its losses were before"
    best = "The weights of lowest loss on the validation set are scored"
    if not steps:
        return best
    return f"{best}, of as many evaluations for every trial that was not stopped (of each round)"


def _sizes(material: Material) -> str:
    known = material.environment.get("dataset")
    known = known if isinstance(known, Mapping) else {}
    parts = [
        many(known[key], f"{word} image")
        for key, word in (("n_train", "training"), ("n_valid", "validation"), ("n_test", "test"))
        if isinstance(known.get(key), int)
    ]
    if material.evidence is not None:
        for split, images in material.evidence.images.items():
            where = "" if split == "dataset" else f" (split {split})"
            by_label = images["label"].value_counts()
            labels = listed(f"{n:,} {label}" for label, n in by_label.items())
            parts.append(
                f"scored on {many(len(images), 'image')} of "
                f"{many(images['group'].nunique(), 'patient')}{where}: {labels}"
            )
    return "; ".join(parts) or "not recorded"


def _seeds(rows: pd.DataFrame) -> str:
    ok = rows[rows["status"].eq("ok")].groupby("arm_id")["seed"].nunique()
    if ok.empty:
        return "no trial has finished"
    few, most = int(ok.min()), int(ok.max())
    told = many(most, "finished seed") if few == most else f"{few} to {most} finished seeds"
    lost = rows["arm_id"].nunique() - len(ok)
    none = f"; none of {many(lost, 'arm')}" if lost else ""
    return f"{told} an arm{none}; a seed sets weights, batches, augmentation and the draw of fakes"


def _same_set(material: Material) -> str:
    if material.sealed:
        return "The scores here are of the sealed test set, which took no part in that."
    text = "The scores here are of that same validation set, so they are too high for all arms"
    return text + ("; the sealed test set took no part" if material.has_test else "")


def _software(environment: Mapping[str, Any]) -> str:
    told = [
        f"{name} {version}"
        for name, version in environment.items()
        if isinstance(version, str) and name not in _NO_SOFTWARE
    ]
    computing = environment.get("computing")
    if isinstance(computing, Mapping):
        told += [f"{name} {value}" for name, value in computing.items()]
    commit = environment.get("git_commit")
    return ", ".join([*told, *([f"commit {commit}"] if commit else [])]) or "not recorded"


def _negative(material: Material) -> str:
    text = "Every arm tried is in the tables, also those that did not help, failed or were stopped"
    if material.analysis is None or material.analysis.verdicts.empty:
        return text
    bad = material.analysis.verdicts["verdict"].isin(["worse", "not shown"]).sum()
    return f"{text}; {int(bad)} of {len(material.analysis.verdicts)} were worse or not shown"


def text_of(value: Any) -> str:
    """Return a value of a JSON file in lines of text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {text_of(item)}" for key, item in value.items())
    return str(value)
