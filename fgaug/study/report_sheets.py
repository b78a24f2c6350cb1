"""Sheets of a run's fakes for its report.  bank -> sheets -> [report_sheets] -> report"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from fgaug import sheets
from fgaug.bank import open_bank
from fgaug.errors import BankError, FgaugError
from fgaug.report.parts import Picture

SHOWN = 8  # fakes of a label and psi on a sheet
MOST_SHEETS = 4  # banks


def sheets_of(space: Mapping[str, Any], rows: pd.DataFrame) -> tuple[tuple[Picture, ...], str]:
    """Return a sheet of fakes for each bank of a grid, at the psis of its run; or why none."""
    psis = sorted(pd.to_numeric(rows["psi"]).dropna().unique())
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
    """Return (name of its snapshot entry, empty where there is none, URI) of a grid's banks."""
    named = (space.get("axes") or {}).get("snapshot")
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
                sheets.Block(
                    heading=str(label),
                    rows=tuple(f"psi {psi:g}" for psi in known),
                    columns=tuple(f"z {z}" for z in common),
                    images=images,
                )
            )
    if not blocks:
        raise BankError(f"{uri} holds no z_seed at all the psis of the run.")
    drawn = sheets.draw([[b] for b in blocks], bank.spec.size, bank.spec.channels, "fewer psis")
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return Picture(
        name=f"fakes_{number}",
        title=f"Fakes of {name}" if name else "Fakes at each ψ",
        caption="From the bank: the same z_seeds in columns, a row a ψ, a block a label. Not "
        "chosen: the lowest z_seeds that the bank holds at every ψ.",
        png=buffer.getvalue(),
    )
