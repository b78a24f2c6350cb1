"""Mixes: which real images and which fakes train a cell.  dataset, cell -> [plan] -> training

Plans hold row numbers and z_seeds, never pixels. Every draw is a prefix of a seeded permutation of
all there is, so a small ratio's draw is part of a larger one's at the same seed, and what else the
bank holds changes nothing. Draws come from NumPy's RandomState, whose streams are frozen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgaug.bank import Demand
from fgaug.cells import Cell
from fgaug.errors import GridError


@dataclass(frozen=True, slots=True)
class MixPlan:
    """The training set of one cell."""

    real: np.ndarray  # int64, rows of the dataset's manifest; repeats are listed again
    fakes: Mapping[str, np.ndarray]  # int64 z_seeds by label, in drawing order
    n_dropped: int  # reals removed

    @property
    def n_real(self) -> int:
        return len(self.real)

    @property
    def n_fake(self) -> int:
        return sum(len(z_seeds) for z_seeds in self.fakes.values())


class Reals:
    """The training part of a dataset, in an order that depends on its content alone."""

    def __init__(self, manifest: pd.DataFrame, labels: tuple[str, ...]) -> None:
        train = manifest[manifest["split"] == "train"].sort_values(["label", "sha256", "image_id"])
        self.labels = labels
        self.any_flag = bool(train["gan"].any())
        self._of = {label: train[train["label"] == label] for label in labels}

    def rows(self, label: str) -> np.ndarray:
        """Return the manifest rows of a label's training images."""
        return self._of[label].index.to_numpy(np.int64)

    def count(self, label: str) -> int:
        """Return n_l: training images of a label with gan flag (all, where no image has one)."""
        of = self._of[label]
        return int(of["gan"].sum()) if self.any_flag else len(of)

    def removable(self, label: str) -> pd.DataFrame:
        """Return the images that replacement may remove: those the GAN has not seen."""
        of = self._of[label]
        return of[~of["gan"]] if self.any_flag else of


def plan(cell: Cell, reals: Reals, pool: int) -> MixPlan:
    """Return the training set of a cell, to the letter of its mode.

    Raises:
        GridError: more fakes than the pool holds, more removals than there are images, or a label
            without a real to repeat.
    """
    removed = {label: _removed(cell, reals, label) for label in reals.labels}
    kept = {
        label: np.setdiff1d(reals.rows(label), removed[label], assume_unique=True)
        for label in reals.labels
    }
    dropped = sum(len(rows) for rows in removed.values())
    if cell.mode == "oversample":
        repeats: list[np.ndarray] = [
            _repeats(cell, label, kept[label], fakes_wanted(cell, reals, label))
            for label in reals.labels
        ]
        return MixPlan(np.concatenate([*kept.values(), *repeats]), {}, dropped)
    if cell.mode == "synthetic":
        real = np.empty(0, np.int64)
        dropped = 0
    else:
        real = np.concatenate(list(kept.values()))
    fakes = {}
    if cell.uses_fakes:
        fakes = {label: _fakes(cell, reals, label, pool) for label in reals.labels}
        fakes = {label: z_seeds for label, z_seeds in fakes.items() if len(z_seeds)}
    return MixPlan(real, fakes, dropped)


def demand(cells: Iterable[Cell], reals: Reals, pool: int) -> Demand:
    """Return every fake that `cells` train on."""
    parts = []
    for cell in cells:
        if cell.uses_fakes:
            assert cell.psi is not None
            for label, z_seeds in plan(cell, reals, pool).fakes.items():
                parts.append((label, cell.psi, z_seeds))
    return Demand.of(parts)


def fakes_wanted(cell: Cell, reals: Reals, label: str) -> int:
    """Return how many fakes (or repeats) of a label a cell adds: int(n_l x ratio) or the count."""
    if cell.fakes is not None:
        return dict(cell.fakes)[label]
    assert cell.ratio is not None
    return int(reals.count(label) * cell.ratio)


def check(cell: Cell, reals: Reals, pool: int) -> list[str]:
    """Return why a cell cannot be mixed, one line a problem; empty where it can."""
    try:
        mixed = plan(cell, reals, pool)
    except GridError as error:
        return list(error.problems)
    if cell.uses_fakes and not mixed.n_fake:
        return [f"{cell.described} adds no fake. Raise the ratio or the counts, or drop the mode"]
    return [
        f"{cell.described} leaves no training image of `{label}`. "
        "Raise its fakes, or remove fewer reals"
        for label in reals.labels
        if not len(mixed.fakes.get(label, ())) and not np.isin(reals.rows(label), mixed.real).any()
    ]


def _fakes(cell: Cell, reals: Reals, label: str, pool: int) -> np.ndarray:
    wanted = fakes_wanted(cell, reals, label)
    if wanted > pool:
        raise GridError(
            [
                f"`pool` holds {pool} fakes a label, but {cell.described} needs {wanted} of "
                f"`{label}` ({reals.count(label)} real). Raise `pool` or lower the ratio"
            ]
        )
    return _permutation(cell.seed, "fakes", label, pool)[:wanted] + 1  # z_seeds count from 1


def _removed(cell: Cell, reals: Reals, label: str) -> np.ndarray:
    """Return the manifest rows of a label that a cell leaves out."""
    if cell.remove is None:
        return np.empty(0, np.int64)
    candidates = reals.removable(label)
    wanted = _removals(dict(cell.remove)[label], len(candidates))
    if wanted > len(candidates):
        flag = " without gan flag" if reals.any_flag else ""
        raise GridError(
            [
                f"`remove` asks for {wanted} images of `{label}`, the training set has "
                f"{len(candidates)}{flag}. Lower it, or prepare the dataset with `--extend`"
            ]
        )
    if cell.remove_by == "group":
        return _whole_groups(cell, candidates, label, wanted)
    order = _permutation(cell.seed, "removed", label, len(candidates))
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
    order = _permutation(cell.seed, "removed-groups", label, len(groups))
    gone: list[np.ndarray] = []
    count = 0
    for number in order:
        if count >= wanted:
            break
        rows = candidates.index[candidates["group"] == groups[number]].to_numpy(np.int64)
        gone.append(rows)
        count += len(rows)
    return np.concatenate(gone) if gone else np.empty(0, np.int64)


def _repeats(cell: Cell, label: str, rows: np.ndarray, wanted: int) -> np.ndarray:
    """Return `wanted` repeats of a label's reals: whole passes first, then part of one."""
    if wanted and not len(rows):
        raise GridError(
            [
                f"`controls: oversample` has no real of `{label}` left to repeat "
                f"for {cell.described}"
            ]
        )
    if not wanted:
        return np.empty(0, np.int64)
    order = rows[_permutation(cell.seed, "repeats", label, len(rows))]
    return np.resize(order, wanted)


def _permutation(seed: int, purpose: str, label: str, count: int) -> np.ndarray:
    """Return a permutation of range(count) named by (seed, purpose, label)."""
    digest = hashlib.sha256(f"{purpose}\n{label}\n{seed}".encode()).digest()
    order: np.ndarray = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(count)
    return order
