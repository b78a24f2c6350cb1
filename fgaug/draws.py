"""Draws: seeded orders that never change, and the patients that a share of them keeps.

[draws] -> mix.  They come from NumPy's RandomState, whose streams are frozen. Every draw is a
prefix of an order of all there is, so a small one is part of a larger one at the same seed.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import pandas as pd

from fgaug.errors import GridError


@lru_cache(maxsize=4)  # the cells of a seed follow one another; a pool of 10 million takes 80 MB
def permutation(seed: int, purpose: str, label: str, count: int) -> np.ndarray:
    """Return a permutation of range(count) named by (seed, purpose, label); it is read-only."""
    digest = hashlib.sha256(f"{purpose}\n{label}\n{seed}".encode()).digest()
    order: np.ndarray = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(count)
    order.flags.writeable = False
    return order


class Patients:
    """The groups of a training split: which labels they have, which of them the GAN has seen."""

    def __init__(self, train: pd.DataFrame, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.of_image, names = pd.factorize(train["group"], sort=True)
        self.count = len(names)
        self._has = np.zeros((self.count, len(labels)), bool)
        for column, label in enumerate(labels):
            self._has[self.of_image[(train["label"] == label).to_numpy()], column] = True
        self._seen = np.zeros(self.count, bool)
        self._seen[self.of_image[train["gan"].to_numpy(bool)]] = True

    def keeps(self, fraction: float, seed: int) -> np.ndarray:
        """Return which images (bool, in the order of `train`) are of a patient that is kept.

        `max(1, round(fraction * patients))` patients are kept: the first of a seeded order, in
        which one patient of each label comes first, so that no label is lost; then those with gan
        flag; and in either part the sets of labels that patients have alternate in proportion, so
        that a share has about the class balance of the whole.

        Raises:
            GridError: fewer patients than it takes to have each label.
        """
        order, least = self._order(seed)
        kept = max(1, round(fraction * self.count))
        if kept < least:
            enough = math.ceil(1000 * least / self.count) / 1000
            raise GridError(
                [
                    f"`real_fraction` {fraction:g} keeps {kept} of {self.count} patients, but at "
                    f"seed {seed} it takes {least} to have an image of each of "
                    f"{len(self.labels)} labels. Raise it, to {enough:g} for example"
                ]
            )
        chosen: np.ndarray = np.isin(self.of_image, order[:kept])
        return chosen

    def _order(self, seed: int) -> tuple[np.ndarray, int]:
        """Return the patients in the order in which they are kept, and how many are a must."""
        rank = np.argsort(permutation(seed, "real-fraction", "", self.count))
        place = np.empty(self.count)  # of a patient among its like, from 0 to 1
        like = np.unique(np.column_stack([self._seen, self._has]), axis=0, return_inverse=True)[1]
        like = like.ravel()
        for one in np.unique(like):
            members = np.flatnonzero(like == one)
            members = members[np.argsort(rank[members])]
            place[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = np.lexsort((rank, place, ~self._seen))
        first: list[int] = []
        for column in range(len(self.labels)):
            has = order[self._has[order, column]]
            if len(has) and not self._has[first, column].any():
                first.append(int(has[0]))
        return np.array([*first, *order[~np.isin(order, first)]]), len(first)
