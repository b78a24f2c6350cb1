"""Chapter with the verdict: the main result in a few paragraphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from fgaug.analysis.format import (
    BETTER,
    NAMES,
    NOT_INFERIOR,
    NOT_SHOWN,
    THESE_ONLY,
    WORSE,
    effect,
    interval,
    is_loss,
    listed,
    many,
    p_with,
    said,
    undefined,
)
from fgaug.analysis.report.chapters.all_arms import all_arms, confirmed_parts
from fgaug.analysis.report.chapters.summary import best_arm, facts, warnings_of
from fgaug.analysis.report.material import Material, Picks, compared, names_of, picks
from fgaug.analysis.report.parts import Facts, Part, Text

ORDER = (BETTER, THESE_ONLY, NOT_INFERIOR, NOT_SHOWN, WORSE)
NOT_PLANNED = "Deviations from the plan (results that depend on them are exploratory):"
_SEEN = (
    "These scores are from the validation set, on which every checkpoint and the best arm were "
    "selected; "
)
_OUT_OF_FOLD = (
    "These scores are from held-out folds: no network was trained or stopped on the patients it "
    "is scored on. The best arm was selected on them; the corrected gain below accounts for that."
)
_CONFIRM = "`fgaug confirm` evaluates a few arms with fresh seeds on the sealed test set."
_NO_TEST = "the dataset has no test set to confirm them on (`fgaug data prepare --test`)."
_ALTERNATIVES = {"twin": "repeating the real images to the same size", "drop": "adding nothing"}


def verdict_parts(material: Material) -> list[Part]:
    """Return the verdict, what would change it, warnings, facts and a table of arms."""
    head = facts(material.rows, material.space, material.environment, material.missing)
    parts: list[Part] = [Text(text=text, kind="lead") for text in lead(material)]
    warnings = warnings_of(material.rows, material.space, material.missing)
    if material.deviations:
        warnings.append(f"{NOT_PLANNED} {'; '.join(material.deviations)}.")
    parts += [Text(text=text, kind="warning") for text in warnings]
    parts.append(Facts(pairs=tuple(head)))
    if material.analysis is not None:
        parts += [*confirmed_parts(material), *all_arms(material)]
        notes = (text for text in material.analysis.notes if text not in warnings)
        parts += [Text(text=text, kind="note") for text in notes]
    return parts


def lead(material: Material) -> list[str]:
    """Return the leading paragraphs: the verdict for a reader in a hurry."""
    analysis = material.analysis
    if analysis is None:
        return [best_arm(material.arms), f"No verdict: {material.no_analysis}."]
    if analysis.verdicts.empty:
        return [best_arm(material.arms), "No verdict: no arm with fakes can be evaluated yet."]
    counts = Counter(map(str, analysis.verdicts["verdict"]))
    order = [*ORDER, *(word for word in counts if word not in ORDER)]
    told = listed(f"{counts[word]:,} {word}" for word in order if counts[word])
    over = " over the oversample controls" if analysis.plan.contrast == "twin" else ""
    first = (
        f"{many(len(analysis.verdicts), 'arm')} with fakes, evaluated by "
        f"{NAMES[material.metric]}{over} on the {material.images}: "
        f"{told or 'none could be evaluated'}."
    )
    picked = picks(material)
    if picked.best is None:
        return [first]
    lines = [f"{first} {_of_best(material, picked)}"]
    if change := _said_of(material, picked.best, "would_change_it"):
        lines.append(f"What would change this verdict: {change}")
    if material.sealed:
        counted = material.looks[-1]["counted"] if material.looks else "a look not on record"
        return [*lines, f"These scores are from the sealed test set: {counted}."]
    if material.confirmed:
        return lines
    if material.pooled:
        return [*lines, _OUT_OF_FOLD]
    return [*lines, _SEEN + (_CONFIRM if material.has_test else _NO_TEST)]


def _of_best(material: Material, picked: Picks) -> str:
    name, metric = names_of(material)[str(picked.best)], material.metric
    base = _comparison(material, "baseline", str(picked.best))
    if base is None or undefined(base["effect"]):
        why = "" if base is None else str(base["reason"] or "")
        return (
            f"The arm that looks best is {name}; its effect cannot be "
            f"estimated{f': {why}' * bool(why)}."
        )
    text = (
        f"The arm that looks best is {name} ({_said_of(material, picked.best, 'verdict')}): "
        f"{effect(metric, base['effect'], with_unit=True)} against the baseline, simultaneous "
        f"confidence interval {interval(metric, base['ci_low'], base['ci_high'])}, "
        f"{p_with(base['p_value'], 'E2', 'adjusted for all arms')}."
    )
    text += _corrected(material)
    text += _of_filter(material, str(picked.best))
    found = _cheapest(material, str(picked.best))
    if found is None:
        return text + " No control without new images was trained for comparison."
    against, twin = found
    return text + (
        f" Against the cheapest alternative, {_ALTERNATIVES[against]}: "
        f"{_with_interval(material, twin)}."
    )


def _of_filter(material: Material, arm: str) -> str:
    """Return the effect of the arm's filter, if it has one and an unfiltered counterpart."""
    row = _comparison(material, "subset", arm)
    if row is None or undefined(row["effect"]):
        return ""
    told = _with_interval(material, row)
    return f" Effect of its filter, against the same number of unfiltered fakes: {told}."


def _with_interval(material: Material, row: Mapping[Hashable, Any]) -> str:
    metric = material.metric
    return (
        f"{effect(metric, row['effect'], with_unit=True)} "
        f"({interval(metric, row['ci_low'], row['ci_high'])}), "
        f"{p_with(row['p_value'], 'E2', 'adjusted')}"
    )


def _corrected(material: Material) -> str:
    """Return the gain corrected for the selection of the best arm."""
    assert material.analysis is not None
    best = material.analysis.best
    if best.empty:
        return ""
    row = best[best["metric"].eq(material.metric)]
    if row.empty or undefined(row.iloc[0]["corrected_gain"]):
        return ""
    sign = (
        -1 if is_loss(material.metric) else 1
    )  # a gain is an improvement, an effect a difference
    gain = effect(material.metric, sign * row.iloc[0]["corrected_gain"], with_unit=True)
    return f" Corrected for its selection as the best arm, the gain is {gain}."


def _said_of(material: Material, arm: str | None, what: str) -> str:
    """Return one text column of an arm's verdict."""
    assert material.analysis is not None
    verdicts = material.analysis.verdicts
    return "".join(said(verdicts.loc[verdicts["arm_id"].eq(str(arm)), what])[:1])


def _comparison(material: Material, against: str, arm: str) -> dict[Hashable, Any] | None:
    rows = compared(material, against)
    rows = rows[rows.index == arm]
    return rows.to_dict("records")[0] if len(rows) else None


def _cheapest(material: Material, arm: str) -> tuple[str, dict[Hashable, Any]] | None:
    """Return the better of the controls that need no fakes, by mean."""
    found = []
    for against in _ALTERNATIVES:
        row = _comparison(material, against, arm)
        if row is not None and not undefined(row["effect"]):
            found.append((against, row))
    sign = -1 if is_loss(material.metric) else 1
    return max(found, key=lambda item: sign * item[1]["mean_against"], default=None)
