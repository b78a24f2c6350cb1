"""Floors: the scores of a perfect generator, measured with reals against reals.

Measures of finite sets have a floor above their ideal (FID), or a ceiling below it (precision,
recall), that depends on the sizes of both sets. It is measured with repeated random cuts of the
reals into two disjoint parts. With N reals and n fakes, the sample, in place of the fakes, has
m = min(n, N // 2) images, and the reference has all others: the sample cannot have more than half
of the reals. So if n exceeds N / 2, the floor is that of smaller sets than those with which the
fakes were measured, and *higher*. The comparable value of the fakes is `at_sizes_of`, from m fakes
against the same references.

Cuts keep patients whole if groups are given: a generator draws new patients, and images of one
patient on both sides would lower the floor. The sd over cuts is that of the cuts only; all are
cuts of the same N images. A generator that copies its training images can beat the floor: it has
seen the reference, whereas the sample has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError
from fgaug.quality.arrays import Features, checked, checked_pair
from fgaug.quality.frechet import fid
from fgaug.quality.kernel import kid
from fgaug.quality.neighbours import precision_recall

MEASURES = ("fid", "kid", "precision", "recall")
Cut = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows of the reference, rows of the sample
Measures = Callable[[Features, Features], dict[str, float]]  # of fakes against reals, by name
_OF_CUTS = ("floor_n_reference", "floor_n_sample", "floor_cuts", "floor_by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and sd of measures over cuts: MEASURES, or those of another `measuring`."""

    mean: Mapping[str, float]
    sd: Mapping[str, float]  # divided by cuts - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The scores of reals against reals, and the cuts that gave them."""

    values: Spread
    cuts: tuple[Cut, ...]
    by: str  # unit that is never on both sides: image, or group
    measuring: Measures  # function that gave the values, for comparable values of fakes

    @property
    def n_reference(self) -> int:
        """Return the number of images in each reference."""
        return len(self.cuts[0][0])

    @property
    def n_sample(self) -> int:
        """Return the number of images in each sample."""
        return len(self.cuts[0][1])


def measures_of(real: ArrayLike, fake: ArrayLike, k: int = 3) -> dict[str, float]:
    """Return MEASURES of fakes against reals."""
    a, b = checked_pair(real, fake, ("real", "fake"), least=k + 1)
    return _measures(a, b, k)


def real_floor(
    real: ArrayLike,
    n: int,
    *,
    groups: Sequence[object] | pd.Series | None = None,
    cuts: int = 10,
    k: int = 3,
    seed: int = 0,
    measuring: Measures | None = None,
) -> Floor:
    """Return the scores of reals against reals, at sizes as near to N and n as N reals allow.

    Args:
        real: [N, D].
        n: number of fakes for which the floor is.
        groups: patient of each real; with None or a single patient, cuts are by image.
        cuts: number of random cuts.
        k: neighbours of precision and recall; every part keeps more than k images.
        seed: random seed of the cuts.
        measuring: measures to use instead of MEASURES, with up to k neighbours.

    Raises:
        UserError: there are too few reals, or fewer than two cuts.
    """
    array = checked(real, "real", least=2 * (k + 1))
    if cuts < 2:
        raise UserError(f"A floor needs at least 2 cuts, got {cuts}. Use 10.")
    alone = np.arange(len(array))
    patients = alone if groups is None else _numbers(groups)
    if len(patients) != len(array):
        raise UserError(
            f"groups must name the patient of each of {len(array)} reals, got {len(patients)}."
        )
    one = not patients.any()  # patient for all
    parts = _cuts(alone if one else patients, n, cuts, seed)
    if min(len(parts[0][0]), len(parts[0][1])) <= k:
        raise UserError(
            f"A cut of the {len(array)} reals by patient leaves a part with no more than {k} "
            "images. Give more reals, or no groups."
        )
    by = "image" if groups is None or one else "group"
    measure = measuring or partial(_measures, k=k)
    values = _spread([measure(array[a], array[b]) for a, b in parts])
    return Floor(values=values, cuts=parts, by=by, measuring=measure)


def at_sizes_of(floor: Floor, real: ArrayLike, fake: ArrayLike) -> Spread:
    """Return the measures of fakes at a floor's sizes, which are comparable with the floor.

    Args:
        floor: floor of these reals for this number of fakes.
        real: [N, D], the reals of the floor.
        fake: [n, D], n at least the floor's sample; each reference is compared with a random part
            of that size.
    """
    a, b = checked_pair(real, fake, ("real", "fake"), least=floor.n_sample)
    found = []
    for index, (reference, _) in enumerate(floor.cuts):
        drawn = np.random.default_rng(index).permutation(len(b))[: floor.n_sample]
        found.append(floor.measuring(a[reference], b[drawn]))
    return _spread(found)


def beside_floor(floor: Floor, real: ArrayLike, fake: ArrayLike) -> dict[str, float | int | str]:
    """Return the columns of the floor for a table with measures of fakes.

    `<measure>_at_floor` of the fakes at the floor's sizes and `floor_<measure>` of the reals, each
    with its `_sd` over cuts, and the sizes, number and unit of the cuts.

    Args:
        floor: floor of these reals for this number of fakes.
        real: [N, D], the reals of the floor.
        fake: [n, D].
    """
    return beside_floors([(floor, real, fake)])


def beside_floors(
    parts: Iterable[tuple[Floor, ArrayLike, ArrayLike]],
) -> dict[str, float | int | str]:
    """Return the columns of `beside_floor` for measures from several feature networks.

    Args:
        parts: floor, reals and fakes of each network, for the same images. The cuts depend on the
            patients and the number of fakes alone, so all networks share them.
    """
    found = [_beside(*part) for part in parts]
    assert all(row[name] == found[0][name] for row in found for name in _OF_CUTS)
    measured = {k: v for row in found for k, v in row.items() if k not in _OF_CUTS}
    return {**measured, **{name: found[0][name] for name in _OF_CUTS}}


def _beside(floor: Floor, real: ArrayLike, fake: ArrayLike) -> dict[str, float | int | str]:
    same = at_sizes_of(floor, real, fake)
    row: dict[str, float | int | str] = {}
    for name in floor.values.mean:
        row[f"{name}_at_floor"] = same.mean[name]
        row[f"{name}_at_floor_sd"] = same.sd[name]
        row[f"floor_{name}"] = floor.values.mean[name]
        row[f"floor_{name}_sd"] = floor.values.sd[name]
    return {
        **row,
        "floor_n_reference": floor.n_reference,
        "floor_n_sample": floor.n_sample,
        "floor_cuts": len(floor.cuts),
        "floor_by": floor.by,
    }


def _numbers(groups: Sequence[object] | pd.Series) -> NDArray[np.int64]:
    """Return the patients as 0, 1, 2, ...; unnamed ones count as one patient."""
    return pd.factorize(pd.Series(groups), use_na_sentinel=False)[0].astype(np.int64)


def distances_of(real: Features, fake: Features) -> dict[str, float]:
    """Return FID and KID of fakes against reals, float [N, D] and [n, D]."""
    return {"fid": fid(real, fake), "kid": kid(real, fake)}


def neighbours_of(real: Features, fake: Features, k: int) -> dict[str, float]:
    """Return precision and recall of fakes against reals, float [N, D] and [n, D]."""
    precision, recall = precision_recall(real, fake, k)
    return {"precision": precision, "recall": recall}


def _measures(real: Features, fake: Features, k: int) -> dict[str, float]:
    return {**distances_of(real, fake), **neighbours_of(real, fake, k)}


def _spread(found: Sequence[Mapping[str, float]]) -> Spread:
    values = {name: np.array([each[name] for each in found]) for name in found[0]}
    return Spread(
        mean={name: float(each.mean()) for name, each in values.items()},
        sd={name: float(each.std(ddof=1)) for name, each in values.items()},
    )


def _cuts(patients: NDArray[np.int64], n: int, count: int, seed: int) -> tuple[Cut, ...]:
    """Return random cuts by whole patients, all with the sizes of the smallest parts."""
    wanted = min(n, len(patients) // 2)
    sizes = np.bincount(patients)
    parts = []
    for index in range(count):
        random = np.random.default_rng([seed, index])
        order = random.permutation(len(sizes))
        reached = np.cumsum(sizes[order])
        taken = min(int(np.searchsorted(reached, wanted)) + 1, len(sizes) - 1)
        mixed = random.permutation(len(patients))
        sampled = np.isin(patients[mixed], order[:taken])
        parts.append((mixed[~sampled], mixed[sampled]))
    n_reference = min(len(reference) for reference, _ in parts)
    n_sample = min(wanted, *(len(sample) for _, sample in parts))
    return tuple((a[:n_reference], b[:n_sample]) for a, b in parts)
