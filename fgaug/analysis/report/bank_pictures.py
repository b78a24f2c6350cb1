"""Output of `fgaug bank quality --out`: tables, a figure and the closest pairs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from fgaug.analysis.report.parts import Picture, Plot
from fgaug.bank import Bank
from fgaug.core import contact_sheet, files
from fgaug.data import Dataset, open_dataset
from fgaug.quality.fake_sets.record import TABLES, SetRecord

MOST_BLOCKS = 8  # sets (label, psi) in the picture of pairs


def write_quality(bank: Bank, dataset: str | Path, kept: SetRecord, out: Path) -> None:
    """Write each table as CSV, precision against recall as SVG and PNG, and the closest pairs."""
    from fgaug.analysis.report.drawing import LIGHT, encoded
    from fgaug.analysis.report.fakes.sets import known_parts

    for name in TABLES:
        if len(frame := kept.frame(name)):
            files.write_text(out / f"{name}.csv", frame.to_csv(index=False))
    for part in known_parts(kept):
        if isinstance(part, Plot):
            for kind in ("svg", "png"):
                name = part.name.removeprefix("fakes_1_")
                data = encoded(part.draw(LIGHT), kind)
                with files.atomic_write(out / f"{name}.{kind}") as temporary:
                    temporary.write_bytes(data)
    picture = pairs_of(bank, open_dataset(dataset), kept)
    if picture is not None:
        with files.atomic_write(out / "pairs.png") as temporary:
            temporary.write_bytes(picture.png)


def pairs_of(bank: Bank, dataset: Dataset, kept: SetRecord, number: int = 1) -> Picture | None:
    """Return the closest fakes and training images side by side; None if there are no pairs.

    Shows the nearest pairs of each label and psi over all fakes, unfiltered, starting with the
    sets that have the most copies.
    """
    pairs, copies = kept.frame("pairs"), kept.frame("copies")
    pairs = pairs[pairs["filter"].eq("none")]
    if pairs.empty:
        return None
    shares: dict[tuple[str, float], float] = {}
    if "share" in copies:
        own = copies[copies["filter"].eq("none")].to_dict("records")
        shares = {(str(row["label"]), float(row["psi"])): float(row["share"]) for row in own}
    sets = [
        ((str(label), float(cast(Any, psi))), rows)
        for (label, psi), rows in pairs.groupby(["label", "psi"], sort=False)
    ]
    sets.sort(key=lambda each: -shares.get(each[0], 0.0))
    blocks = [_block(bank, dataset, *key, rows) for key, rows in sets[:MOST_BLOCKS]]
    drawn = contact_sheet.draw(
        [[block] for block in blocks], bank.spec.size, bank.spec.channels, "--psi"
    )
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return Picture(
        name=f"fakes_{number}_pairs",
        title="The closest fakes and training images",
        caption="The number above each fake is its distance to the training image below it, its "
        "nearest neighbour of the same label in feature space "
        f"({kept.head['features']}). Each set shows its closest pairs, and each training "
        "image once. A copy would match in every detail.",
        png=buffer.getvalue(),
    )


def _block(
    bank: Bank, dataset: Dataset, label: str, psi: float, pairs: pd.DataFrame
) -> contact_sheet.Block:
    rows_of = dict(zip(dataset.manifest["image_id"], range(len(dataset)), strict=True))
    known = pairs[pairs["image_id"].isin(rows_of)].sort_values("rank")

    def images() -> list[np.ndarray]:
        real = dataset.pixels()[[rows_of[each] for each in known["image_id"]]]
        return [bank.read(label, psi, known["z_seed"].astype(int).tolist()), real]

    return contact_sheet.Block(
        heading=f"{label}, psi {psi:g}",
        rows=("fake", "training image"),
        columns=tuple(f"{distance:.3g}" for distance in known["distance"]),
        images=images,
    )
