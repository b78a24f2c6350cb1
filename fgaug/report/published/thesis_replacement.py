"""Section on replacement.  replaced -> [thesis_replacement] -> thesis_page"""

from __future__ import annotations

import pandas as pd

from fgaug.report.parts import Section, Table, Text
from fgaug.report.published.comparisons import LEVEL
from fgaug.report.published.replaced import NO_THIRD_ARM, removable, replaced, worth
from fgaug.report.published.source import METRICS, WORDS, Thesis
from fgaug.report.wording import p_text, signed

_SHOWN = ("0.01", "0.005", "half")


def replacement_section(thesis: Thesis) -> Section:
    """Return the non-inferiority tests and why they settle nothing."""
    frame = replaced(thesis)
    gains = {metric: worth(thesis, metric) for metric in METRICS}
    about = (
        f"The {removable(thesis):,} real images that the cells do without are worth about "
        f"{gains['acc'].difference:.3f} accuracy and {gains['auc'].difference:.3f} AUC (baseline "
        "of table 4.7 less that of table 4.1, judged on different validation halves). A margin of "
        "0.01 is about that whole worth: adding nothing would pass it. At half the worth "
        f"{_passing(frame)} pass after Holm's correction."
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
            word = "half the worth" if name == "half" else name
            told[f"margin {word}"] = f"{p_text(p)} ({p_text(holm)})"
        told["TOST 0.01"] = p_text(by.loc["0.01", "p_tost"])
        rows.append(told)
    text = pd.DataFrame(rows)
    return Table(
        name="replacement",
        title="Replacement cells against the baseline with all reals: p of non-inferiority",
        frame=frame,
        text=text,
        words=("metric",),
        kinds=tuple(text["metric"]),
        note=f"p one-sided, in brackets with Holm over the four cells; level {LEVEL}. No margin "
        "was named before the runs: these were chosen by looking back, so a small p is no "
        "verdict. Other margins are in the CSV.",
    )
