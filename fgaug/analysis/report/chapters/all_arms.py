"""Chapter: the table of all arms with their verdicts, and the second stages."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import (
    DASH,
    LEVELS,
    NAMES,
    POINTS,
    effects,
    intervals,
    is_loss,
    many,
    p_value,
    said,
    titled,
)
from fgaug.analysis.report.material import Material, compared, names_of, picks
from fgaug.analysis.report.parts import Part, Table, Text

MOST_ROWS = 60  # arms in the table on the page
WORDS = ("arm", "verdict", "note")


def confirmed_parts(material: Material) -> list[Part]:
    """Return the second stages: arms retrained with fresh seeds, on the sealed test."""
    parts: list[Part] = []
    for number, (head, rows) in enumerate(material.confirmed, start=1):
        parts.append(Text(text=head))
        if rows.empty:
            continue
        metric = str(rows.iloc[0]["metric"])
        text = pd.DataFrame(
            {
                "arm": rows["arm"],
                "against": rows["against"].replace(
                    {"twin": "oversample control", "subset": "random subset"}
                ),
                "seeds": _seeds(rows),
                titled("effect", metric): effects(metric, rows["effect"]),
                "interval": intervals(metric, rows["ci_low"], rows["ci_high"]),
                "p adjusted (E2)": rows["p_value"].map(p_value),
                "verdict": rows["verdict"],
                "note": said(rows["reason"]),
            }
        )
        parts.append(
            Table(
                name=f"confirmed_{number}",
                title="Confirmed on the sealed test set",
                frame=rows,
                text=text,
                words=(*WORDS, "against"),
                note=f"Effect on {NAMES[metric]}, fresh seeds only. Level E2: {LEVELS['E2']}.",
            )
        )
    return parts


def arms_with_verdicts(material: Material) -> pd.DataFrame:
    """Return the rows of `verdicts.csv`, by arm_id: an arm's comparisons and its verdict.

    Empty without an analysis, and where no arm can be compared with a baseline.
    """
    base = compared(material, "baseline")
    if material.analysis is None or base.empty:
        return pd.DataFrame()
    verdicts = pd.DataFrame({"verdict": []})
    if len(material.analysis.verdicts):
        verdicts = material.analysis.verdicts.drop_duplicates("arm_id").set_index("arm_id")
    return _wide(base, compared(material, "twin"), verdicts)


def all_arms(material: Material) -> list[Part]:
    analysis = material.analysis
    assert analysis is not None
    metric, names = material.metric, names_of(material)
    frame = arms_with_verdicts(material)
    if frame.empty:
        return [Text(text="No arm can be compared with a baseline.")]
    frame = frame.sort_values("effect", ascending=is_loss(metric), na_position="last")
    frame.insert(0, "arm", [names.get(str(arm), str(arm)) for arm in frame.index])
    known = frame["effect"].notna()
    text = _printed(frame[known], metric, has_twins="twin_effect" in frame)
    note = (
        f"Effects on {NAMES[metric]}. Confidence intervals are simultaneous over all arms at the "
        f"plan's level ({100 * (1 - analysis.plan.alpha):g}%); p values are adjusted for all "
        f"arms. E2: {LEVELS['E2']}; E1: {LEVELS['E1']}, with patients treated as fixed. "
        f"{POINTS if not is_loss(metric) else 'Negative is better.'}"
    )
    if len(text) > MOST_ROWS:
        note = (
            f"Showing the best {MOST_ROWS} of {many(len(text), 'arm')}; the CSV file lists "
            f"all. {note}"
        )
    picked = picks(material).best
    kinds = tuple("picked" if arm == picked else "" for arm in text.index)
    parts: list[Part] = [
        Table(
            name="verdicts",
            title="Every arm",
            frame=frame.reset_index(),
            text=text.head(MOST_ROWS),
            words=WORDS,
            kinds=kinds[:MOST_ROWS],
            note=note,
        )
    ]
    return [*parts, *_unknown(frame[~known]), *_in_words(frame[known])]


def _in_words(frame: pd.DataFrame) -> list[Part]:
    """Return a folded table of every verdict as a sentence, with what would change it."""
    if "sentence" not in frame or frame.empty:
        return []
    text = pd.DataFrame(
        {
            "arm": frame["arm"],
            "verdict": said(frame["verdict"], DASH),
            "in words": said(frame["sentence"]),
            "what would change it": said(frame["would_change_it"]),
        }
    ).head(MOST_ROWS)
    return [
        Table(
            name="verdicts_in_words",
            title="Verdicts in full",
            frame=text,
            text=text,
            words=tuple(text.columns),
            folded=True,
        )
    ]


def _unknown(frame: pd.DataFrame) -> list[Part]:
    """Return a folded table of the arms without an estimated effect, each with its reason."""
    if frame.empty:
        return []
    text = pd.DataFrame({"arm": frame["arm"], "note": said(frame["reason"])})
    note = f"Showing the first {MOST_ROWS}." if len(text) > MOST_ROWS else ""
    return [
        Table(
            name="verdicts_undefined",
            title=f"{many(len(frame), 'arm')} without an estimated effect",
            frame=frame.reset_index(),
            text=text.head(MOST_ROWS),
            words=WORDS,
            note=note,
            folded=True,
        )
    ]


def _wide(base: pd.DataFrame, twin: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per arm: its comparisons side by side, and its verdict."""
    kept = [
        "n_seeds",
        "n_seeds_against",
        "mean",
        "mean_against",
        "effect",
        "ci_low",
        "ci_high",
        "ci_low_single",
        "ci_high_single",
        "p_raw",
        "p_value",
        "p_patients",
        "run_pairs",
        "seed_share",
        "patient_share",
        "reason",
    ]
    frame = base[[name for name in kept if name in base]]
    if not twin.empty:
        names = [n for n in ("effect", "ci_low", "ci_high", "p_value") if n in twin]
        frame = frame.join(twin[names].add_prefix("twin_"))
    told = [n for n in ("verdict", "sentence", "would_change_it") if n in verdicts]
    return frame.join(verdicts[told])


def _printed(frame: pd.DataFrame, metric: str, *, has_twins: bool) -> pd.DataFrame:
    text = pd.DataFrame({"arm": frame["arm"], "seeds": _seeds(frame)})
    text[titled("gain over baseline", metric)] = effects(metric, frame["effect"])
    text["interval"] = intervals(metric, frame["ci_low"], frame["ci_high"])
    text["p (E2)"] = frame["p_value"].map(p_value)
    text["p (E1)"] = frame["p_patients"].map(p_value)
    text["pairs better"] = said(frame["run_pairs"], DASH)
    if has_twins:
        text[titled("gain over control", metric)] = effects(metric, frame["twin_effect"])
        text["control interval"] = intervals(metric, frame["twin_ci_low"], frame["twin_ci_high"])
        text["control p (E2)"] = frame["twin_p_value"].map(p_value)
    text["verdict"] = said(frame["verdict"], DASH)
    if any(said(frame["reason"])):
        text["note"] = said(frame["reason"])
    return text


def _seeds(frame: pd.DataFrame) -> list[str]:
    """Return the number of seeds on both sides of each comparison."""
    both = zip(frame["n_seeds"], frame["n_seeds_against"], strict=True)
    return [f"{mine:g} / {other:g}" for mine, other in both]
