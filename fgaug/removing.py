"""Removals: which reals a cell leaves out, by image or by patient.  [removing] -> mix

By image as the thesis does; either way the first of one seeded order.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fgaug.cells import Cell
from fgaug.draws import permutation
from fgaug.errors import GridError


def removed_rows(cell: Cell, label: str, candidates: pd.DataFrame, *, flagged: bool) -> np.ndarray:
    """Return the manifest rows of a label that a cell leaves out.

    Args:
        cell: names how many.
        label: of the images.
        candidates: rows of the manifest that may be removed.
        flagged: whether some images have a gan flag: the candidates have none then.

    Raises:
        GridError: more removals than there are candidates.
    """
    if cell.remove is None:
        return np.empty(0, np.int64)
    wanted = _removals(dict(cell.remove)[label], len(candidates))
    if wanted > len(candidates):
        flag = " without gan flag" if flagged else ""
        if cell.split != "dataset":
            flag += f" at `split` {cell.split}"
        if cell.real_fraction < 1:
            flag += f" at `real_fraction` {cell.real_fraction:g} and seed {cell.seed}"
        raise GridError(
            [
                f"`remove` asks for {wanted} images of `{label}`, the training set has "
                f"{len(candidates)}{flag}. Lower it, or prepare the dataset with `--extend`"
            ]
        )
    if cell.remove_by == "group":
        return _whole_groups(cell, candidates, label, wanted)
    order = permutation(cell.seed, "removed", label, len(candidates))
    removed: np.ndarray = candidates.index.to_numpy(np.int64)[order[:wanted]]
    return removed


def _removals(asked: float | str, removable: int) -> int:
    """Return a count: `all`, a share (below 1) of what may be removed, or the count itself."""
    if asked == "all":
        return removable
    assert not isinstance(asked, str)
    return int(removable * asked) if asked < 1 else int(asked)


def _whole_groups(cell: Cell, candidates: pd.DataFrame, label: str, wanted: int) -> np.ndarray:
    """Return the images of whole patients, in seeded order, until at least `wanted` are gone."""
    groups = sorted(candidates["group"].unique())
    order = permutation(cell.seed, "removed-groups", label, len(groups))
    gone: list[np.ndarray] = []
    count = 0
    for number in order:
        if count >= wanted:
            break
        rows = candidates.index[candidates["group"] == groups[number]].to_numpy(np.int64)
        gone.append(rows)
        count += len(rows)
    return np.concatenate(gone) if gone else np.empty(0, np.int64)
