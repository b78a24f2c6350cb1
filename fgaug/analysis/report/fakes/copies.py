"""Chapter on copies: do the fakes replicate training images?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fgaug.analysis.format import count, listed, many, p_value, undefined
from fgaug.analysis.report.fakes.format import (
    MOST_ROWS,
    WORDS,
    cut,
    notes_of,
    percent,
    percents,
    set_columns,
    why,
    without_empty_note,
)
from fgaug.analysis.report.parts import Part, Table, Text
from fgaug.quality.copies import NEAR
from fgaug.quality.fake_sets.record import SetRecord


def copy_parts(kept: SetRecord, number_: int = 1) -> list[Part]:
    """Return the share of fakes flagged as copies of training images, with its interval."""
    frame = kept.frame("copies")
    if "share" not in frame:
        return [Text(text=why(frame, "The search for copies was not possible"))]
    rows = frame.to_dict("records")
    text = pd.DataFrame(
        {
            **set_columns(frame),
            "fakes": frame["n_fake"].map(count),
            "flagged as copies": [percent(row["share"]) for row in rows],
            "95% interval": [percents(row["share_low"], row["share_high"]) for row in rows],
            "exact": frame["exact"].map(count),
            "near": [percent(row["near"]) for row in rows],
            "near, 95% interval": [percents(row["near_low"], row["near_high"]) for row in rows],
            "p-value, nearer than by chance": frame["p_value"].map(p_value),
            "nearer than a new patient": [percent(row["nearer"]) for row in rows],
            "nearer, 95% interval": [
                percents(row["nearer_low"], row["nearer_high"]) for row in rows
            ],
            "authentic": [percent(row["authentic"]) for row in rows],
            "authentic reals": [percent(row["authentic_held"]) for row in rows],
            "note": notes_of(frame),
        }
    )
    first = frame[frame["share"].notna()].iloc[0]
    note = (
        "A fake is flagged as a copy if it lies nearer to a training image of its label than "
        f"all but {percent(first['alpha'])} of held-out reals do, or at distance zero. Images "
        f"that copy nothing are flagged at a rate of at most {percent(first['alpha'])} on "
        f"average (the false positive rate); with the {count(first['n_patients'])} held-out "
        f"patients of the first row it may be as high as {percent(first['false_alarms_high'])} "
        f"(97.5% limit). With fewer than {count(round(1 / first['alpha']) - 1)} held-out reals "
        f"of a label, only exact copies are flagged. Near: nearer than all but {percent(NEAR)} "
        "of held-out reals; the confidence interval and the one-sided p value (null hypothesis: "
        f"no more than {percent(NEAR)} are near) resample held-out patients and fakes. Nearer "
        "than a new patient: the probability that a fake lies nearer to the training images "
        "than a held-out real does; 50% if the two are alike (Meehan et al. 2020). Authentic: "
        "farther from its nearest training image than that image is from its own nearest "
        "neighbour (Alaa et al. 2022), beside the share of held-out reals. A low ψ moves all "
        "fakes towards the dense centre, and so nearer to training images without any copying: "
        "inspect the pairs."
    )
    return [
        Text(text=_copies_said(rows)),
        Table(
            name=f"fakes_{number_}_copies",
            title="Fakes flagged as copies",
            frame=frame,
            text=without_empty_note(text).head(MOST_ROWS),
            words=WORDS,
            note=cut(text, note),
        ),
    ]


def _copies_said(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return a sentence on which sets of fakes lie nearer than new patients would."""
    exact = sum(int(row["exact"]) for row in rows if not undefined(row["exact"]))
    head = f"{many(exact, 'exact copy')} among the measured sets. " if exact else ""
    head = head.replace("exact copys", "exact copies")
    more = [row for row in rows if row["p_value"] <= 0.05]
    if not more:
        return head + (
            "No set of fakes was shown to lie nearer to the training images than new patients "
            "do (one-sided test at 5%, each set on its own); this does not prove that there are "
            "no copies."
        )
    told = listed(
        f"{row['label']} at ψ {row['psi']:g}"
        f"{'' if row['filter'] == 'none' else ' (' + str(row['filter']) + ')'}: "
        f"{percent(row['near'])}"
        for row in more[:6]
    )
    rest = f" and {many(len(more) - 6, 'more set')}" if len(more) > 6 else ""
    return (
        f"{head}Nearer to the training images than new patients are (share near, of which "
        f"{percent(NEAR)} is expected by chance; each set on its own): {told}{rest}. Copies "
        "cause this, but so does a low ψ without any copies."
    )
