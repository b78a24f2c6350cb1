"""Detect one-hot labels, one column per class, as in the ISIC archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fgaug.data.problems import listed
from fgaug.data.tables.cells import Cells, clean

BITS: Mapping[str, int] = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}


def one_hot_columns(cells: Cells, least: int = 3) -> list[str]:
    """Return the longest run of adjacent 0/1 columns with a single 1 in each row.

    Args:
        cells: cells of the table.
        least: minimum number of columns in a run.
    """
    bits = [_bits([row[place] for row in cells.rows]) for place in range(len(cells.header))]
    for length in range(len(bits), least - 1, -1):
        for start in range(len(bits) - length + 1):
            run = [column for column in bits[start : start + length] if column is not None]
            if len(run) == length and _is_one_hot(np.stack(run)):
                return cells.header[start : start + length]
    return []


def cure_of_one_hot(columns: Sequence[str]) -> str:
    """Explain how to add a label column to a table with one-hot columns, without a final stop."""
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f"the columns {listed(columns)} are one-hot (a single 1 in each row). Add a label column "
        "and name it with --label-col; with pandas, table['label'] = "
        f"table[[{names}]].astype(float).idxmax(axis=1)"
    )


def _bits(values: Sequence[str]) -> np.ndarray | None:
    """Return uint8 [rows], or None if a value is neither 0 nor 1."""
    if not all(clean(value) in BITS for value in values):
        return None
    return np.array([BITS[clean(value)] for value in values], dtype=np.uint8)


def _is_one_hot(run: np.ndarray) -> bool:
    """Return whether each row has a single 1, and each column at least one."""
    return bool((run.sum(axis=0) == 1).all() and run.any(axis=1).all())
