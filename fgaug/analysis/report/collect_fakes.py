"""Records of a bank's fakes, and contact sheets of them, for a run's report."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from fgaug.analysis.report.bank_pictures import pairs_of
from fgaug.analysis.report.fakes.sets import KnownFakes
from fgaug.analysis.report.parts import Picture
from fgaug.bank import Bank, open_bank
from fgaug.bank.score_columns import SCORERS
from fgaug.bank.scores import all_scores, scorers_of
from fgaug.core import contact_sheet
from fgaug.data import Dataset, open_dataset
from fgaug.errors import BankError, FgaugError
from fgaug.grid.arm_words import PSI_BY_LABEL
from fgaug.quality.fake_sets.measure import kept_of
from fgaug.quality.fake_sets.reals import quantiles_of
from fgaug.quality.fake_sets.record import SetRecord

LEVEL = 0.95
SHOWN = 8  # fakes per label and psi on a sheet
MOST_SHEETS = 4  # banks


def known_fakes(
    space: Mapping[str, Any], rows: pd.DataFrame
) -> tuple[tuple[KnownFakes, ...], str]:
    """Return the records of each bank of a grid at the run's psis, or why there are none."""
    psis = _psis(rows)
    if not psis:
        return (), "no arm uses fakes"
    found: list[KnownFakes] = []
    reasons: list[str] = []
    for number, (name, uri) in enumerate(banks_of(space), start=1):
        try:
            dataset = open_dataset(_dataset_of(space, name))
            found.append(_known(name, str(uri), dataset, psis, number))
        except (FgaugError, OSError) as error:
            reasons.append(str(error).rstrip("."))
    return tuple(found), "; ".join(reasons) or "the grid names no bank"


def _psis(rows: pd.DataFrame) -> list[float]:
    """Return the psis of a run's fakes, including those of single labels."""
    found = set(pd.to_numeric(rows["psi"]).dropna())
    if PSI_BY_LABEL in rows:
        for text in rows[PSI_BY_LABEL].dropna():
            found |= {float(psi) for psi in re.findall(r"=(-?[\d.e+-]+)(?= |$)", str(text))}
    return sorted(found)


def _dataset_of(space: Mapping[str, Any], bank: str) -> str:
    """Return the dataset that a bank's fakes are compared with."""
    prepared = (space.get("axes") or {}).get("dataset") or {}
    return str(prepared[bank]["path"] if bank in prepared else space["dataset"])


def _known(
    name: str, uri: str, dataset: Dataset, psis: Sequence[float], number: int
) -> KnownFakes:
    bank = open_bank(uri)
    scores, kept = scores_of(bank, psis), _newest(bank, dataset, psis)
    command = f"{bank.store.place()} --dataset {dataset.place}"
    return KnownFakes(
        name=name,
        kept=kept,
        no_kept=f"The bank has not been measured: run `fgaug bank quality {command}`.",
        scores=scores,
        no_scores=f"The bank has no scores: run `fgaug bank score {command}`.",
        pairs=None if kept is None else pairs_of(bank, dataset, kept, number),
    )


def _newest(bank: Bank, dataset: Dataset, psis: Sequence[float]) -> SetRecord | None:
    """Return the newest measurements against a dataset, restricted to the run's psis."""
    known = kept_of(bank.store, dataset.spec.digest)
    if not known:
        return None
    newest = max(known, key=lambda each: str(each.head["measured_at"]))
    tables = {
        table: [row for row in rows if "psi" not in row or row["psi"] in psis]
        for table, rows in newest.tables.items()
    }
    return SetRecord(head=newest.head, tables=tables) if tables["sets"] else None


def scores_of(bank: Bank, psis: Sequence[float]) -> pd.DataFrame | None:
    """Return the scores of a bank's fakes, one row per (label, psi); None if it has no scores.

    Columns: n; quantiles of numeric scores, `<score>_q05` and so on; the shares of boolean scores
    with Wilson intervals `_low`, `_high`. The first of several scorers with one name counts.
    """
    whole: pd.DataFrame | None = None
    for name in SCORERS:
        scorer = next((each for each in scorers_of(bank.store) if each.name == name), None)
        if scorer is None:
            continue
        scores = all_scores(bank.store, scorer)
        told = pd.DataFrame(
            {"label": label, "psi": psi, "n": len(part), **_summary(part)}
            for (label, psi), part in scores[scores["psi"].isin(psis)].groupby(["label", "psi"])
        )
        if told.empty:
            continue
        if whole is not None:
            told = told.drop(columns="n")
            whole = whole.merge(told, how="outer", on=["label", "psi"])
        else:
            whole = told
    return whole


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in part.columns.drop(["label", "psi", "z_seed"]):
        values = part[name]
        if values.dtype == bool:
            test = binomtest(int(values.sum()), len(values))
            ends = test.proportion_ci(LEVEL, "wilson")
            row |= {name: values.mean(), f"{name}_low": ends.low, f"{name}_high": ends.high}
        elif pd.api.types.is_numeric_dtype(values):
            row |= quantiles_of(str(name), values.to_numpy(float))
    return row


def sheets_of(space: Mapping[str, Any], rows: pd.DataFrame) -> tuple[tuple[Picture, ...], str]:
    """Return a contact sheet of each bank of a grid at the run's psis, or why there are none."""
    psis = _psis(rows)
    if not psis:
        return (), "no arm uses fakes"
    found: list[Picture] = []
    reasons: list[str] = []
    for name, uri in banks_of(space)[:MOST_SHEETS]:
        try:
            found.append(_sheet(name, str(uri), psis, len(found) + 1))
        except (FgaugError, OSError) as error:
            reasons.append(str(error).rstrip("."))
    return tuple(found), "; ".join(reasons) or "the grid names no bank"


def banks_of(space: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return (name of the snapshot entry or "", URI) of each bank of a grid."""
    axes = space.get("axes") or {}
    named = axes.get("snapshot")
    if prepared := axes.get("dataset"):
        return [(name, each["bank"]) for name, each in prepared.items() if each.get("bank")]
    if named:
        return [(str(entry["name"]), entry["bank"]) for entry in named]
    return [("", space["bank"])] if space.get("bank") else []


def _sheet(name: str, uri: str, psis: Sequence[float], number: int) -> Picture:
    bank = open_bank(uri)
    index = bank.index()
    index = index[index["psi"].isin(psis)]
    held = {key: part["z_seed"].to_numpy() for key, part in index.groupby(["label", "psi"])}
    blocks = []
    for label in dict.fromkeys(index["label"].map(str)):
        known = [psi for psi in psis if (label, psi) in held]
        common = reduce(np.intersect1d, [held[label, psi] for psi in known])[:SHOWN].tolist()

        def images(label: str = label, known: list[float] = known, z: list[int] = common) -> Any:
            return [bank.read(label=label, psi=psi, z_seeds=z) for psi in known]

        if common:
            blocks.append(
                contact_sheet.Block(
                    heading=str(label),
                    rows=tuple(f"psi {psi:g}" for psi in known),
                    columns=tuple(f"z {z}" for z in common),
                    images=images,
                )
            )
    if not blocks:
        raise BankError(f"{uri} holds no z_seed that is present at every psi of the run.")
    drawn = contact_sheet.draw(
        [[b] for b in blocks], bank.spec.size, bank.spec.channels, "fewer psis"
    )
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return Picture(
        name=f"fakes_{number}",
        title=f"Fakes of {name}" if name else "Fakes at each ψ",
        caption="Images from the bank, one block per label, one row per ψ and one column per "
        "z_seed. The images are not selected: they are the lowest z_seeds that the bank "
        "holds at every ψ.",
        png=buffer.getvalue(),
    )
