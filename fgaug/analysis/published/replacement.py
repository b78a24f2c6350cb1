"""Replacement: what the cells of tables 4.7 and 4.8 can and cannot show (level E1)."""

from __future__ import annotations

import pandas as pd

from fgaug.analysis.format import p_value, signed
from fgaug.analysis.published.comparisons import ALPHA, LEVEL
from fgaug.analysis.published.source import METRICS, WORDS, Thesis, spread_of
from fgaug.analysis.report.parts import Section, Table, Text
from fgaug.stats import adjust, equivalence
from fgaug.stats.inference import TTest
from fgaug.stats.seeds import welch_of

MARGINS = (0.005, 0.01, 0.015, 0.02)  # none was specified before the runs: a reader may choose
NO_THIRD_ARM = (
    "The arm with the same reals removed and nothing added was not published, so nothing "
    "supports the claim that fakes can replace real images: no margin distinguishes fakes from "
    "adding nothing."
)
_SHOWN = ("0.01", "0.005", "half")


def removable(thesis: Thesis) -> int:
    """Return the number of real images that the replacement cells leave out."""
    labels = thesis.replacement_split.set_index("planes").drop(index="total")
    return int(labels["train_no_gan"].astype(int).sum())


def worth(thesis: Thesis, metric: str) -> TTest:
    """Return the gain from the removable reals: the baseline of table 4.7 less that of table 4.1.

    The two were evaluated on different validation halves, so this is a rough estimate and no test
    of assay sensitivity.
    """
    return welch_of(
        spread_of(thesis.replacement_baseline, metric), spread_of(thesis.baseline, metric)
    )


def replaced(thesis: Thesis) -> pd.DataFrame:
    """Return one row per replacement cell, metric and margin, against the baseline with all reals.

    Columns: table, psi, ratio, metric, difference, se, df, p_difference, ci90_low, ci90_high,
    margin, margin_is (fixed, or half the gain from the reals), p_noninferior,
    p_noninferior_holm (over the cells of one metric and margin), p_tost, passes (by Holm), level.
    The margins were chosen after the fact.
    """
    rows = []
    for metric in METRICS:
        full = spread_of(thesis.replacement_baseline, metric)
        tests = [
            (cell, welch_of(spread_of(cell, metric), full))
            for _, cell in thesis.replacement.iterrows()
        ]
        half = worth(thesis, metric).difference / 2
        for margin, kind in (*((m, "fixed") for m in MARGINS), (half, "half the reals' worth")):
            found = [equivalence(test, margin, alpha=ALPHA) for _, test in tests]
            holm = adjust([one.p_noninferior for one in found])
            for (cell, test), one, p_holm in zip(tests, found, holm, strict=True):
                rows.append(
                    {
                        "table": cell["table"],
                        "psi": cell["psi"],
                        "ratio": cell["ratio"],
                        "metric": metric,
                        "difference": test.difference,
                        "se": test.se,
                        "df": test.df,
                        "p_difference": test.p_value,
                        "ci90_low": one.ci_low,
                        "ci90_high": one.ci_high,
                        "margin": margin,
                        "margin_is": kind,
                        "p_noninferior": one.p_noninferior,
                        "p_noninferior_holm": p_holm,
                        "p_tost": one.p_value,
                        "passes": bool(p_holm < ALPHA),
                        "level": LEVEL,
                    }
                )
    return pd.DataFrame(rows)


def replacement_section(thesis: Thesis) -> Section:
    """Return the non-inferiority tests, and why they are inconclusive."""
    frame = replaced(thesis)
    gains = {metric: worth(thesis, metric) for metric in METRICS}
    about = (
        f"The {removable(thesis):,} real images that the cells leave out bring a gain of about "
        f"{gains['acc'].difference:.3f} in accuracy and {gains['auc'].difference:.3f} in AUC "
        "(baseline of table 4.7 less that of table 4.1, evaluated on different validation "
        "halves). A margin of 0.01 is about that whole gain: adding nothing would pass. With "
        f"half the gain as the margin, {_passing(frame)} pass after Holm's correction."
    )
    return Section(
        key="replacement",
        title="Replacement",
        parts=(
            Text(text=f"Verdict: not shown. {NO_THIRD_ARM}", kind="lead"),
            Text(text=about),
            _table(frame),
        ),
    )


def _passing(frame: pd.DataFrame) -> str:
    half = frame[frame["margin_is"].ne("fixed")]
    passed = int(half["passes"].sum())
    return f"{passed or 'none'} of {len(half)} tests"


def _table(frame: pd.DataFrame) -> Table:
    kind = frame["margin"].map("{:g}".format).where(frame["margin_is"].eq("fixed"), "half")
    rows = []
    for (metric, psi, ratio), cell in frame.assign(kind=kind).groupby(
        ["metric", "psi", "ratio"], sort=False
    ):
        first, by = cell.iloc[0], cell.set_index("kind")
        told = {
            "metric": WORDS[str(metric)],
            "psi": f"{psi:g}",
            "ratio": f"{ratio:g}",
            "difference": signed(first["difference"], 3),
            "90% interval": f"{signed(first['ci90_low'], 3)} to {signed(first['ci90_high'], 3)}",
        }
        for name in _SHOWN:
            p, holm = by.loc[name, "p_noninferior"], by.loc[name, "p_noninferior_holm"]
            word = "half the gain" if name == "half" else name
            told[f"margin {word}"] = f"{p_value(p)} ({p_value(holm)})"
        told["TOST 0.01"] = p_value(by.loc["0.01", "p_tost"])
        rows.append(told)
    text = pd.DataFrame(rows)
    return Table(
        name="replacement",
        title="Replacement cells against the baseline with all reals: p of non-inferiority",
        frame=frame,
        text=text,
        words=("metric",),
        kinds=tuple(text["metric"]),
        note=f"One-sided p, in brackets adjusted by Holm over the four cells; level {LEVEL}. No "
        "margin was specified before the runs: these were chosen in hindsight, so a small "
        "p is not a verdict. The CSV file lists further margins.",
    )
