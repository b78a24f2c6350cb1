"""Chapter: which measures of the fakes are associated with the gain?"""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.findings.quality_gain import MIN_POINTS, points_of, predictors_of
from fgaug.analysis.format import DASH, MINUS, NAMES, number, p_value, p_with, undefined
from fgaug.analysis.report.fakes.sets import networks_in_words
from fgaug.analysis.report.material import Material, compared
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.quality.fake_sets.record import SetRecord
from fgaug.quality.set_measures import MEASURES

_KEY = ["label", "psi", "filter"]
# measures beyond MEASURES, by column: their names; lower is better for all of them
_FURTHER = {
    "copies": "share of copies",
    "nearer": "nearer than a new patient",
    "frequencies": "AUC by high frequencies",
    "variation": "total variation of machines",
}
_LOW = ("fid", "kid", *_FURTHER)


def measures_frame(kept: SetRecord, snapshot: str | None) -> pd.DataFrame:
    """Return one row per (label, psi, filter) with every set measure as a column."""
    sets = kept.frame("sets")
    if "fid" not in sets:
        return pd.DataFrame(columns=[*_KEY, "snapshot"])
    frame = sets[[*_KEY, *MEASURES]]
    copies, spectrum, shares = (kept.frame(name) for name in ("copies", "spectrum", "shares"))
    if "share" in copies:
        named = copies.rename(columns={"share": "copies"})
        frame = frame.merge(named[[*_KEY, "copies", "nearer"]], how="left", on=_KEY)
    if "auc" in spectrum:
        named = spectrum.rename(columns={"auc": "frequencies"})
        frame = frame.merge(named[[*_KEY, "frequencies"]], how="left", on=_KEY)
    if len(shares):
        means = shares.groupby(_KEY)["total_variation"].mean().rename("variation")
        frame = frame.merge(means, how="left", left_on=_KEY, right_index=True)
    return frame.assign(snapshot=snapshot)


def predictor_parts(material: Material) -> list[Part]:
    """Return the rank correlation of every set measure with the gain, or why there is none."""
    known = [
        measures_frame(fakes.kept, fakes.name or None)
        for fakes in material.fakes
        if fakes.kept is not None
    ]
    known = [frame for frame in known if len(frame)]
    if not known or material.analysis is None:
        why = "the sets of fakes have not been measured" if not known else material.no_analysis
        return [Text(text=f"Not computed: {why}.")]
    arms = material.analysis.arms
    by = [networks_in_words(fakes.kept) for fakes in material.fakes if fakes.kept is not None]
    if "snapshot" in material.arms:
        named = material.arms.drop_duplicates("arm_id").set_index("arm_id")["snapshot"]
        arms = arms.assign(snapshot=arms["arm_id"].map(named))
    against = material.analysis.plan.contrast
    rows = compared(material, against).reset_index()
    if rows.empty or rows["effect"].isna().all():
        return [Text(text="Not computed: no arm has a gain yet.")]
    found = predictors_of(points_of(rows, arms, against), pd.concat(known), _LOW)
    if found.empty:
        return [Text(text="Not computed: no arm was trained on measured fakes.")]
    said = _said(found)
    networks = "; ".join(dict.fromkeys(by))
    return (
        [said, _table(found, material, against, networks)]
        if found["rho"].notna().any()
        else [said]
    )


def _said(found: pd.DataFrame) -> Text:
    """Return the result as a sentence; without a small p value no measure is named."""
    tested = found[found["rho"].notna()]
    if tested.empty:
        return Text(
            text=f"Too few arms: a rank correlation requires {MIN_POINTS} sets of fakes that "
            "differ in ψ, filter or networks, each measured and used for training."
        )
    shown = tested[tested["p_holm"] <= 0.05].sort_values("rho", key=abs, ascending=False)
    points = int(tested["points"].max())
    if shown.empty:
        return Text(
            text=f"Over {points} sets of fakes, no measure was shown to be associated with the "
            "gain (Holm-adjusted over the measures, 5%). With so few sets, only a very "
            "strong association could be detected."
        )
    best = shown.iloc[0]
    way = "larger" if best["rho"] > 0 else "smaller"
    return Text(
        text=f"Over {points} sets of fakes, a better {_name(best['measure'])} is associated with "
        f"a {way} gain: rho = {_rho(best['rho'])}, {p_with(best['p_holm'], 'E1', 'Holm')}. "
        "This describes the present grid only: the measure may be a proxy for ψ itself."
    )


def _table(found: pd.DataFrame, material: Material, against: str, networks: str) -> Table:
    text = pd.DataFrame(
        {
            "mode": found["mode"],
            "measure": [_name(each) for each in found["measure"]],
            "sets of fakes": found["points"].map(str),
            "rho": found["rho"].map(_rho),
            "95% interval": [
                DASH if undefined(low) else f"{_rho(low)} to {_rho(high)}"
                for low, high in zip(found["ci_low"], found["ci_high"], strict=True)
            ],
            "p (E1)": found["p_value"].map(p_value),
            "by Holm (E1)": found["p_holm"].map(p_value),
            "note": [each if isinstance(each, str) else "" for each in found["reason"]],
        }
    )
    other = {"twin": "the oversample control"}.get(against, f"the {against}")
    note = (
        f"Spearman's rank correlation of a measure with the gain in {NAMES[material.metric]} "
        f"over {other}, signed so that above 0 a better measure goes with a larger gain (FID, "
        "KID, copies, frequencies, variation: lower is better). Each data point is a set of "
        "fakes (ψ, filter, networks): the mean of the measure over its labels, and the mean "
        "gain of its arms less the mean over all arms of their size. p value: two-sided "
        "permutation test of the gains. Confidence interval: Fisher's transformation with the "
        "variance of Bonett and Wright. Arms share the baseline and the patients, so the result "
        f"concerns these arms on these patients (E1: this recipe, on these patients). {networks}."
    )
    return Table(
        name="predictors",
        title="Rank correlation of measures with the gain",
        frame=found,
        text=text,
        words=("mode", "measure", "note"),
        note=note,
    )


def _name(measure: object) -> str:
    heads = {"fid": "FID", "kid": "KID"}
    return heads.get(str(measure)) or _FURTHER.get(str(measure)) or str(measure)


def _rho(value: float) -> str:
    return number(value, 2).replace("-", MINUS)
