"""Selects the fakes of a bank that pass a filter, based on the scores so far.

A search generates and scores fakes until every draw is complete. From then on, the scores on disk
determine what each cell draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fgaug.bank import Store
from fgaug.bank.scores import Scorer, read_scores, unscored
from fgaug.grid.filters import parse

PASSES, FAILS, UNSCORED = 1, 0, -1
MARGIN = 2.0  # binomial standard deviations to score extra, since each step has a start-up time


@dataclass(frozen=True, slots=True)
class Drawn:
    """The fakes of one label that a cell draws, as far as known."""

    z_seeds: np.ndarray  # int64 [n]: the first in drawing order that pass
    whole: bool  # whether the draw is complete and every fake before its last is scored


class FakeSelection:
    """Applies a grid's filters to the scores of one bank, for one split of the dataset.

    Verdicts are cached, so scores added after the first use of a filter are not seen.
    """

    def __init__(self, store: Store, scorers: Mapping[str, Scorer], pool: int) -> None:
        """Select from z_seeds 1..pool of a bank, with its scorers by name."""
        self.store, self.scorers, self.pool = store, scorers, pool
        self._verdicts: dict[tuple[str, str, float], np.ndarray] = {}
        self._counted: dict[tuple[str, str, float], tuple[int, int]] = {}

    def verdicts(self, text: str, label: str, psi: float) -> np.ndarray:
        """Return PASSES, FAILS or UNSCORED for z_seeds 1..pool, int8 [pool].

        A z_seed counts as scored once all scorers of the filter have scored it.
        """
        key = (text, label, psi)
        if key not in self._verdicts:
            self._verdicts[key] = self._judged(text, label, psi)
        return self._verdicts[key]

    def suppose(self, text: str, label: str, psi: float, sample: pd.DataFrame) -> None:
        """Treat `sample` (z_seed and the filter's score columns) as all scores there are."""
        verdicts = np.full(self.pool, UNSCORED, np.int8)
        passes = parse(text).passes(sample)
        verdicts[sample["z_seed"].to_numpy() - 1] = np.where(passes, PASSES, FAILS)
        self._verdicts[text, label, psi] = verdicts
        self._counted.pop((text, label, psi), None)

    def draw(self, text: str, label: str, psi: float, order: np.ndarray, wanted: int) -> Drawn:
        """Return the first `wanted` z_seeds of an order that pass."""
        every = self.verdicts(text, label, psi)
        if wanted and not self._counts(text, label, psi)[1]:
            return Drawn(order[:0], False)
        for start in _starts(order, wanted):
            verdicts = every[start - 1]
            passing = np.flatnonzero(verdicts == PASSES)[:wanted]
            if len(passing) == wanted:
                break
        looked = passing[-1] + 1 if len(passing) else 0
        whole = len(passing) == wanted and not (verdicts[:looked] == UNSCORED).any()
        return Drawn(order[passing], whole)

    def prefix(
        self, text: str, label: str, psi: float, order: np.ndarray, wanted: int
    ) -> np.ndarray:
        """Return the prefix of an order to score next, so that about `wanted` of it pass.

        Unscored fakes are expected to pass at the rate so far, less MARGIN so that one step is
        usually enough; without any scores, all are expected to pass.
        """
        verdicts = self.verdicts(text, label, psi)
        scored, passed = self._counts(text, label, psi)
        if not scored:
            return order[: max(wanted, 1)]
        rate = (passed + 0.5) / (scored + 1)
        for start in _starts(order, wanted):
            along = verdicts[start - 1]
            unknown = along == UNSCORED
            expected = np.cumsum(np.where(unknown, rate, along == PASSES))
            spread = np.sqrt(rate * (1 - rate) * np.cumsum(unknown))
            enough = np.flatnonzero(expected - MARGIN * spread >= wanted - 1e-9)
            if len(enough):
                return order[: enough[0] + 1]
        return order

    def _counts(self, text: str, label: str, psi: float) -> tuple[int, int]:
        """Return how many fakes of the pool are scored, and how many of those pass."""
        key = (text, label, psi)
        if key not in self._counted:
            verdicts = self.verdicts(*key)
            scored, passed = (verdicts != UNSCORED).sum(), (verdicts == PASSES).sum()
            self._counted[key] = int(scored), int(passed)
        return self._counted[key]

    def _judged(self, text: str, label: str, psi: float) -> np.ndarray:
        rule, every = parse(text), np.arange(1, self.pool + 1)
        used = [self.scorers[name] for name in rule.scorers]
        verdicts = np.full(self.pool, FAILS, np.int8)
        for scorer in used:
            lacking = unscored(self.store, scorer, label, psi, every)
            verdicts[np.array(lacking, np.int64) - 1] = UNSCORED
        known = np.flatnonzero(verdicts != UNSCORED)
        found: dict[str, pd.Series[Any]] = {}
        for scorer in used:
            scores = read_scores(self.store, scorer, label, psi, every[known])
            found |= {column: scores[column] for column in scorer.columns}
        verdicts[known[rule.passes(pd.DataFrame(found))]] = PASSES
        return verdicts


def _starts(order: np.ndarray, wanted: int) -> Iterator[np.ndarray]:
    """Yield growing prefixes of an order; usually a short one is enough."""
    size = 4 * wanted + 256
    while size < len(order):
        yield order[:size]
        size *= 4
    yield order
