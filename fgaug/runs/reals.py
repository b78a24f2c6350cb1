"""The real images of a cell: selection of patients, and the images that `replacement` removes.

Removals are a prefix of one seeded order, by image as in the thesis.
"""

from __future__ import annotations

import copy
import math
from functools import cached_property

import numpy as np
import pandas as pd

from fgaug.core.seeding import Stream, permutation
from fgaug.errors import GridError
from fgaug.grid.cells import Cell

MAX_SHARES = 16  # cached selections; cells with the same seed come one after the other


def removed_rows(cell: Cell, label: str, candidates: pd.DataFrame, *, flagged: bool) -> np.ndarray:
    """Return the manifest rows of a label that a cell removes.

    Args:
        cell: gives the number or fraction.
        label: of the images.
        candidates: manifest rows that may be removed.
        flagged: whether the dataset has gan flags, in which case the candidates have none.

    Raises:
        GridError: more removals than candidates.
    """
    if cell.remove is None:
        return np.empty(0, np.int64)
    wanted = _removals(dict(cell.remove)[label], len(candidates))
    if wanted > len(candidates):
        flag = " without the gan flag" if flagged else ""
        if cell.split != "dataset":
            named = ("split", cell.split) if cell.fold is None else ("fold", cell.fold)
            flag += " at `{}` {}".format(*named)
        if cell.real_fraction < 1:
            flag += f" at `real_fraction` {cell.real_fraction:g} and seed {cell.seed}"
        raise GridError(
            [
                f"`remove` takes {wanted} images of `{label}`, but the training set has "
                f"{len(candidates)}{flag}. Lower it, or prepare the dataset with `--extend`"
            ]
        )
    if cell.remove_by == "group":
        return _whole_groups(cell, candidates, label, wanted)
    order = permutation(cell.seed, Stream.REMOVED, label, len(candidates))
    removed: np.ndarray = candidates.index.to_numpy(np.int64)[order[:wanted]]
    return removed


def _removals(amount: float | str, removable: int) -> int:
    """Convert `all`, a fraction (below 1) of the removable images, or a count to a count."""
    if amount == "all":
        return removable
    assert not isinstance(amount, str)
    return int(removable * amount) if amount < 1 else int(amount)


def _whole_groups(cell: Cell, candidates: pd.DataFrame, label: str, wanted: int) -> np.ndarray:
    """Return the images of whole patients in seeded order, at least `wanted` images in total."""
    groups = sorted(candidates["group"].unique())
    order = permutation(cell.seed, Stream.REMOVED_GROUPS, label, len(groups))
    gone: list[np.ndarray] = []
    count = 0
    for number in order:
        if count >= wanted:
            break
        rows = candidates.index[candidates["group"] == groups[number]].to_numpy(np.int64)
        gone.append(rows)
        count += len(rows)
    return np.concatenate(gone) if gone else np.empty(0, np.int64)


class Patients:
    """The patients of a training split, with their labels and whether the GAN has seen them."""

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
        """Return which images (bool, in the order of `train`) belong to the selected patients.

        Selects the first `max(1, round(fraction * patients))` patients in a seeded order. One
        patient of each label comes first, so that no label is lost, then patients with the gan
        flag. Within each group, patients with different sets of labels alternate in proportion, so
        that any selection has about the class balance of the whole.

        Raises:
            GridError: too few patients to cover every label.
        """
        order, least = self._order(seed)
        kept = max(1, round(fraction * self.count))
        if kept < least:
            enough = math.ceil(1000 * least / self.count) / 1000
            raise GridError(
                [
                    f"`real_fraction` {fraction:g} keeps {kept} of {self.count} patients, but at "
                    f"seed {seed} at least {least} are needed to cover all {len(self.labels)} "
                    f"labels. Raise it, for example to {enough:g}"
                ]
            )
        chosen: np.ndarray = np.isin(self.of_image, order[:kept])
        return chosen

    def _order(self, seed: int) -> tuple[np.ndarray, int]:
        """Return the patients in order of selection, and how many it takes to cover all labels."""
        rank = np.argsort(permutation(seed, Stream.REAL_FRACTION, "", self.count))
        place = np.empty(self.count)  # relative position among patients of the same kind, 0 to 1
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


class Reals:
    """The training images of one split of a dataset, in an order that depends only on content."""

    def __init__(self, manifest: pd.DataFrame, labels: tuple[str, ...]) -> None:
        train = manifest[manifest["split"] == "train"].sort_values(["label", "sha256", "image_id"])
        self.labels = labels
        self.any_flag = bool(train["gan"].any())
        self._train = train
        self._of = {label: train[train["label"] == label] for label in labels}
        self._n = {label: self.seen(label, of.index) for label, of in self._of.items()}
        self._shares: dict[tuple[float, int], Reals] = {}

    def rows(self, label: str) -> np.ndarray:
        """Return the manifest rows of a label's training images."""
        return self._of[label].index.to_numpy(np.int64)

    def count(self, label: str) -> int:
        """Return n_l: the training images of a label with the gan flag (all, if none has it).

        Ratios multiply n_l. It is counted before removals and before `real_fraction`, so that an
        arm adds the same fakes at every `real_fraction`.
        """
        return self._n[label]

    def seen(self, label: str, rows: pd.Index[int] | np.ndarray) -> int:
        """Return how many of a label's images in `rows` the GAN was trained on."""
        return int(self._of[label].loc[rows, "gan"].sum()) if self.any_flag else len(rows)

    @cached_property
    def _patients(self) -> Patients:
        return Patients(self._train, self.labels)

    def share(self, fraction: float, seed: int) -> Reals:
        """Return the reals of a fraction of the patients; see `Patients.keeps`."""
        if fraction == 1:
            return self
        if (fraction, seed) not in self._shares:
            if len(self._shares) >= MAX_SHARES:
                self._shares.clear()
            kept = copy.copy(self)
            train = self._train[self._patients.keeps(fraction, seed)]
            kept._of = {label: train[train["label"] == label] for label in self.labels}
            self._shares[fraction, seed] = kept
        return self._shares[fraction, seed]

    def removable(self, label: str) -> pd.DataFrame:
        """Return the images that replacement may remove: those the GAN was not trained on."""
        of = self._of[label]
        return of[~of["gan"]] if self.any_flag else of
