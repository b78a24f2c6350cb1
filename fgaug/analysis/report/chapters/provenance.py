"""Chapters on provenance and reporting checklists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fgaug.analysis.format import LEVELS, NAMES, listed, many
from fgaug.analysis.report.chapters.summary import budget_unit, leakage
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.parts import Code, Facts, Part, Text
from fgaug.core.split_names import FOLDS
from fgaug.grid.cells import CONTROLS
from fgaug.runs.environment import Environment
from fgaug.runs.results import USUAL_SPLIT

_OF_ROWS = (
    *("dataset_digest", "recipe_digest", "weights", "computed_in"),
    *("snapshots", "version", "host", "device"),
)


def provenance_parts(material: Material) -> list[Part]:
    """Return digests, versions, hosts and commands, and the resolved grid."""
    recorded = material.environment.software()
    pairs = [(name, text_of(value)) for name, value in recorded.items()]
    for name in _OF_ROWS:
        if name in material.rows:
            values = list(dict.fromkeys(text_of(v) for v in material.rows[name].dropna()))
            if values:
                pairs.append((f"{name} (of the rows)", "\n".join(values[:40])))
    parts: list[Part] = [Facts(pairs=tuple(pairs))] if pairs else [Text(text="Not recorded.")]
    if material.space:
        grid = json.dumps(material.space, indent=2, default=str, ensure_ascii=False)
        parts.append(Code(title="Resolved grid", text=grid))
    return parts


def checklist_parts(material: Material) -> list[Part]:
    """Return the items of the CLAIM and TRIPOD+AI checklists that this run can answer."""
    head = Text(
        text="Items of the CLAIM and TRIPOD+AI checklists that a run can answer, in its own "
        "words, ready to copy. The items that only you can answer are missing: the source "
        "and selection of the patients, how the labels were obtained, the intended use, "
        "ethics and funding."
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
            NAMES[material.metric] + planned if plan else "not specified before the run",
        ),
        (
            "Uncertainty",
            "Obuchowski-Rockette model with seeds as readers and influence values summed by "
            f"patient; level E2: {LEVELS['E2']}. {100 * (1 - plan.alpha):g}% simultaneous "
            "confidence intervals. Tables give the population sd and, beside it, the sample sd"
            if plan
            else "variation over seeds only",
        ),
        (
            "Multiplicity",
            "max-T over all comparisons with the baseline, using the same covariance"
            + "; Holm for replacement arms" * bool(modes.eq("replacement").any())
            if plan
            else "not adjusted",
        ),
        ("Arms tried", f"{many(tried, 'arm')} with fakes, {many(len(arms), 'arm')} in total"),
        ("Seeds", _seeds(rows)),
        (
            "Early stopping",
            f"{_kept_weights(material.space, steps)}. "
            + (f"{many(int(stops), 'trial')} pruned at a rung by validation score. " * bool(stops))
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
    drawn = [split for split in used if split not in (USUAL_SPLIT, FOLDS)]
    if material.pooled:
        parts.append(
            "Cross-validation over the dataset's folds: each is held out once, the next one "
            "selects the checkpoint, the others train. The out-of-fold predictions of a seed are "
            "pooled"
        )
    if USUAL_SPLIT in used:
        parts.append("Split: as prepared with the dataset")
    if drawn:
        also = "Also" if USUAL_SPLIT in used else "Split:"
        parts.append(
            f"{also} {many(len(drawn), 'random split')} into training and validation sets, "
            f"redrawn from all images outside the test set, which is unchanged: {listed(drawn)}"
        )
    sets = "held-out folds" if material.pooled else "validation and test sets"
    return ". ".join([*parts, f"The {sets} contain real images only."])


def _patients(material: Material) -> str:
    """Return whether the split keeps patients together, as far as predictions identify them."""
    evidence = material.evidence
    if evidence is None or not evidence.images:
        return (
            "Training, validation and test sets are split by the dataset's groups "
            "(patients, where given)"
        )
    images = pd.concat(evidence.images.values())
    if images["group"].map(str).eq(images["image_id"].map(str)).all():
        return (
            "The dataset has no patient identifiers: each image counts as its own patient, so "
            "images of one patient may be in more than one set"
        )
    sets = "Folds" if material.pooled else "Training, validation and test sets"
    return f"{sets} are split by patient: no patient is in two{' sets' * (not material.pooled)}"


def _kept_weights(space: Mapping[str, Any], steps: bool) -> str:
    """Return which weights of a trial are scored."""
    recipe = space.get("recipe")
    keras = recipe.get("keras") if isinstance(recipe, Mapping) else None
    if isinstance(keras, Mapping) and keras.get("restore_best") is False:
        return "Each trial is scored with its final weights, whatever its earlier losses"
    best = "Each trial is scored with the weights of lowest loss on the validation set"
    if not steps:
        return best
    return (
        f"{best}, out of the same number of evaluations for every trial that was not pruned "
        "(per round)"
    )


def _sizes(material: Material) -> str:
    dataset = material.environment.dataset
    known = {} if dataset is None else dataset.n_images
    parts = [
        many(known[split], f"{word} image")
        for split, word in (("train", "training"), ("valid", "validation"), ("test", "test"))
        if split in known
    ]
    if material.evidence is not None:
        for split, images in material.evidence.images.items():
            where = "" if split in (USUAL_SPLIT, FOLDS) else f" (split {split})"
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
    none = f"; none for {many(lost, 'arm')}" if lost else ""
    return (
        f"{told} per arm{none}; the seed sets weights, batches, augmentation and the draw of fakes"
    )


def _same_set(material: Material) -> str:
    if material.pooled:
        return (
            "The scores in this report are from the held-out folds, which were not used for this."
        )
    if material.sealed:
        return (
            "The scores in this report are from the sealed test set, which was not used for this."
        )
    text = (
        "The scores in this report are from that same validation set, so they are "
        "optimistic for all arms"
    )
    return text + ("; the sealed test set was not used" if material.has_test else "")


def _software(environment: Environment) -> str:
    libraries = {**environment.versions, **environment.computing}
    if environment.git_commit:
        libraries["commit"] = environment.git_commit
    return ", ".join(f"{name} {version}" for name, version in libraries.items()) or "not recorded"


def _negative(material: Material) -> str:
    text = (
        "The tables include every arm tried, including those that did not help, failed or "
        "were pruned"
    )
    if material.analysis is None or material.analysis.verdicts.empty:
        return text
    bad = material.analysis.verdicts["verdict"].isin(["worse", "not shown"]).sum()
    return (
        f"{text}; {int(bad)} of {len(material.analysis.verdicts)} had the verdict worse or "
        "not shown"
    )


def text_of(value: Any) -> str:
    """Return a JSON value as lines of text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {text_of(item)}" for key, item in value.items())
    return str(value)
