"""Features of a bank's fakes and of a dataset's reals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgaug.bank import Bank, Shard, open_bank
from fgaug.quality.features.cache import ImageSet, features_of

if TYPE_CHECKING:
    from fgaug.quality.features.networks import FeatureNetwork

Done = Callable[[int], None]  # takes the number of finished images of a set


def no_progress(count: int) -> None:
    """Ignore progress: the default callback."""


def features_of_fakes(
    bank: Bank,
    label: str,
    psi: float,
    z_seeds: np.ndarray,
    network: FeatureNetwork,
    done: Done = no_progress,
) -> NDArray[np.float32]:
    """Return the features of fakes in the requested order, float32 [N, D].

    Computes and caches whole shards, or only the requested fakes if they are less than half of a
    shard.

    Raises:
        BankError: the bank lacks some of the fakes, or a shard is damaged.
    """
    which, row, names = bank.locate(label, psi, np.asarray(z_seeds, np.int64))
    shards = {shard.path: shard for shard in bank.shards}
    found: list[np.ndarray] = []
    at: list[np.ndarray] = []
    for number in np.unique(which):
        here = np.flatnonzero(which == number)
        done_here = _from(done, sum(map(len, at)), len(here))
        found.append(_of_shard(bank, shards[names[number]], row[here], network, done_here))
        at.append(here)
    order = np.argsort(np.concatenate(at))
    features: NDArray[np.float32] = np.concatenate(found)[order]
    return features


def _from(done: Done, before: int, most: int) -> Done:
    """Return the progress callback for one part, which counts at most its requested images."""
    return lambda count: done(before + min(count, most))


def _of_shard(
    bank: Bank, shard: Shard, rows: np.ndarray, network: FeatureNetwork, done: Done
) -> NDArray[np.float32]:
    whole = 2 * len(rows) >= shard.rows
    chosen = np.arange(shard.rows) if whole else rows
    told = hashlib.sha256(f"{shard.sha256}\n{'' if whole else rows.tolist()}".encode())
    images = ImageSet(
        digest=told.hexdigest(),
        count=len(chosen),
        part=_Rows(bank.store.uri, shard.path, shard.sha256, chosen),
    )
    features = features_of(images, network, done)
    return features[rows] if whole else features


@dataclass(frozen=True, slots=True)
class _Rows:
    """Reads rows of a shard, in this process or another."""

    uri: str
    shard: str
    sha256: str
    rows: np.ndarray

    def __call__(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(_pixels(self.uri, self.shard, self.sha256)[self.rows[start:stop]])


@lru_cache(maxsize=4)
def _pixels(uri: str, shard: str, sha256: str) -> np.ndarray:
    del sha256  # part of the cache key: a regenerated shard is read again
    return open_bank(uri).pixels(shard)
