"""Mixes: which real images and which fakes train a cell.  dataset, cell -> [plan] -> training

Plans hold row numbers and z_seeds, never pixels. Every draw is a prefix of a seeded permutation of
all there is, so a small ratio's draw is part of a larger one's at the same seed, and what else the
bank holds changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fgaug.axes import Split
from fgaug.bank import Demand
from fgaug.cells import Cell
from fgaug.draws import Patients, permutation
from fgaug.errors import GridError

MAX_SHARES = 16  # tables of shares kept; the cells of a seed follow one another


@dataclass(frozen=True, slots=True)
class MixPlan:
    """The training set of one cell."""

    real: np.ndarray  # int64, rows of the dataset's manifest; repeats are listed again
    fakes: Mapping[str, np.ndarray]  # int64 z_seeds by label, in drawing order
    n_dropped: int  # reals left out, by `real_fraction` and by removals
    n_dropped_seen: int  # of them, those that the GAN saw: with gan flag (all, without flags)

    @property
    def n_real(self) -> int:
        return len(self.real)

    @property
    def n_fake(self) -> int:
        return sum(len(z_seeds) for z_seeds in self.fakes.values())


class Reals:
    """The training part of one split of a dataset, in an order set by its content alone."""

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
        """Return n_l: training images of a label with gan flag (all, where no image has one).

        Ratios multiply it, and it is counted before any removal: a share of the patients has the
        n_l of them all, so that an arm adds the same fakes at every `real_fraction`.
        """
        return self._n[label]

    def seen(self, label: str, rows: pd.Index[int] | np.ndarray) -> int:
        """Return how many of a label's images the GAN was trained on (all, without flags)."""
        return int(self._of[label].loc[rows, "gan"].sum()) if self.any_flag else len(rows)

    @cached_property
    def _patients(self) -> Patients:
        return Patients(self._train, self.labels)

    def share(self, fraction: float, seed: int) -> Reals:
        """Return the reals of a share of the patients; see `Patients.keeps`."""
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
        """Return the images that replacement may remove: those the GAN has not seen."""
        of = self._of[label]
        return of[~of["gan"]] if self.any_flag else of


def plan(cell: Cell, reals: Reals, pool: int) -> MixPlan:
    """Return the training set of a cell, to the letter of its mode; `reals` are of its split.

    Raises:
        GridError: more fakes than the pool holds, more removals than there are images, or a label
            without a real to repeat.
    """
    here = reals.share(cell.real_fraction, cell.seed)
    removed = {label: _removed(cell, here, label) for label in reals.labels}
    kept = {
        label: np.setdiff1d(here.rows(label), removed[label], assume_unique=True)
        for label in reals.labels
    }
    out = {
        label: np.setdiff1d(reals.rows(label), rows, assume_unique=True)
        for label, rows in kept.items()
    }
    dropped = sum(len(rows) for rows in out.values())
    seen = sum(reals.seen(label, rows) for label, rows in out.items())
    if cell.mode == "oversample":
        repeats: list[np.ndarray] = [
            _repeats(cell, label, kept[label], fakes_wanted(cell, reals, label))
            for label in reals.labels
        ]
        return MixPlan(np.concatenate([*kept.values(), *repeats]), {}, dropped, seen)
    if cell.mode == "synthetic":
        real = np.empty(0, np.int64)
        dropped = seen = 0  # none is used, so none is missed
    else:
        real = np.concatenate(list(kept.values()))
    fakes = {}
    if cell.uses_fakes:
        fakes = {label: _fakes(cell, reals, label, pool) for label in reals.labels}
        fakes = {label: z_seeds for label, z_seeds in fakes.items() if len(z_seeds)}
    return MixPlan(real, fakes, dropped, seen)


def demand(cells: Iterable[Cell], reals: Mapping[Split, Reals], pool: int) -> Demand:
    """Return every fake that `cells` train on; `reals` are those of each split."""
    parts = []
    for cell in cells:
        if cell.uses_fakes:
            assert cell.psi is not None
            for label, z_seeds in plan(cell, reals[cell.split], pool).fakes.items():
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
    return permutation(cell.seed, "fakes", label, pool)[:wanted] + 1  # z_seeds count from 1


def _removed(cell: Cell, reals: Reals, label: str) -> np.ndarray:
    """Return the manifest rows of a label that a cell leaves out."""
    if cell.remove is None:
        return np.empty(0, np.int64)
    candidates = reals.removable(label)
    wanted = _removals(dict(cell.remove)[label], len(candidates))
    if wanted > len(candidates):
        flag = " without gan flag" if reals.any_flag else ""
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
    order = rows[permutation(cell.seed, "repeats", label, len(rows))]
    return np.resize(order, wanted)
