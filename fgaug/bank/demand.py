"""Demands: sets of needed fakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

Key = tuple[str, float]  # (label, psi)


@dataclass(frozen=True, slots=True)
class Demand:
    """A set of needed fakes: for each (label, psi) the sorted, distinct z_seeds."""

    wanted: Mapping[Key, np.ndarray]

    @classmethod
    def of(cls, parts: Iterable[tuple[str, float, np.ndarray]]) -> Demand:
        """Return the union of (label, psi, z_seeds) parts."""
        gathered: dict[Key, list[np.ndarray]] = {}
        for label, psi, z_seeds in parts:
            gathered.setdefault((label, float(psi)), []).append(np.asarray(z_seeds, np.int64))
        wanted = {key: np.unique(np.concatenate(found)) for key, found in sorted(gathered.items())}
        return cls({key: z_seeds for key, z_seeds in wanted.items() if len(z_seeds)})

    @property
    def count(self) -> int:
        return sum(len(z_seeds) for z_seeds in self.wanted.values())

    def minus(self, index: pd.DataFrame) -> Demand:
        """Return the part of this demand that is missing from the bank's `index`."""
        held = {key: rows["z_seed"].to_numpy() for key, rows in index.groupby(["label", "psi"])}
        left = {}
        for key, z_seeds in self.wanted.items():
            rest = np.setdiff1d(z_seeds, held[key]) if key in held else z_seeds
            if len(rest):
                left[key] = rest
        return Demand(left)

    def pieces(self, rows: int) -> Iterator[tuple[str, float, np.ndarray]]:
        """Yield (label, psi, z_seeds) pieces of at most `rows` images, one shard each."""
        for (label, psi), z_seeds in self.wanted.items():
            for start in range(0, len(z_seeds), rows):
                yield label, psi, z_seeds[start : start + rows]


class PoolUnion:
    """The union of many draws from z_seeds 1..pool, by (label, psi).

    Its memory grows with the pool, not with the number of draws.
    """

    def __init__(self, pool: int) -> None:
        self._pool = pool
        self._drawn: dict[Key, np.ndarray] = {}  # bool [pool + 1], by z_seed

    def add(self, label: str, psi: float, z_seeds: np.ndarray) -> None:
        """Add z_seeds, which need be neither sorted nor distinct."""
        key = (label, float(psi))
        if key not in self._drawn:
            self._drawn[key] = np.zeros(self._pool + 1, bool)
        self._drawn[key][z_seeds] = True

    def is_whole(self, label: str, psi: float) -> bool:
        """Return whether every z_seed of the pool has been drawn."""
        drawn = self._drawn.get((label, float(psi)))
        return drawn is not None and bool(drawn[1:].all())

    def demand(self) -> Demand:
        """Return the draws so far."""
        found = {key: np.flatnonzero(drawn) for key, drawn in sorted(self._drawn.items())}
        return Demand({key: z_seeds for key, z_seeds in found.items() if len(z_seeds)})
