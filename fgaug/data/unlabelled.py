"""Images without a label: stored beside a dataset, for GANs alone.

They lie in a folder of their own, never in a dataset's manifest, so no classifier can read them.
Their split follows their patients: an image of a validation or test patient trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from fgaug.core.pixels import ImageArray
from fgaug.data.problems import counted, listed
from fgaug.errors import DataError

KEEP = "keep"  # the value of --unlabelled


class JoinedPixels:
    """Two arrays of images, uint8 [N, H, W, C], as one that is read by row numbers."""

    def __init__(self, first: ImageArray, second: ImageArray) -> None:
        self._first, self._second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return copies of the images of these rows, in their order."""
        rows = np.asarray(rows, np.int64)
        early = rows < len(self._first)
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        found[early] = self._first[rows[early]]
        found[~early] = self._second[rows[~early] - len(self._first)]
        return found


def follow(unlabelled: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """Return the unlabelled rows with the split of their patients; others are training images.

    Args:
        unlabelled: one row per image, with group.
        labelled: one row per image, with group and split.
    """
    of_group = labelled.groupby("group")["split"].first()
    split = unlabelled["group"].map(of_group).astype(object).fillna("train")
    return unlabelled.assign(split=split)


def split_all(table: pd.DataFrame, split: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """Return the table with `split` and `gan`; images without a label do not change the draw.

    Args:
        table: one row per image; the label is missing where there is none.
        split: splits the images with a label.

    Raises:
        DataError: a given split puts one patient in two splits, or the labels cannot be split.
    """
    unknown = table["label"].isna()
    if not unknown.any():
        return split(table)
    if "split" in table:
        several = table.groupby("group")["split"].nunique()
        if len(torn := several.index[several > 1]):
            raise DataError(
                f"{counted(len(torn), 'group')} in more than one split: {listed(torn)}. Omit the "
                "split column to have the split drawn by group."
            )
    done = split(table[~unknown].reset_index(drop=True))
    rest = follow(table[unknown], done)
    if "split" in table:  # patients without any label keep the split that is given
        alone = ~rest["group"].isin(done["group"])
        rest.loc[alone, "split"] = table.loc[rest.index[alone], "split"]
    rest["gan"] = rest["gan"].astype(bool) if "gan" in rest else False
    whole = pd.concat([done.set_index(table.index[~unknown]), rest]).sort_index()
    return whole.astype({"gan": bool})
