"""Strata in the fakes: a classifier of machines, sites or operators, applied to fakes.

A classifier learns the stratum (machine, site, operator) of the training reals, from the features
of a network or from simple statistics of their appearance, whichever separates reals better. Its
predictions for reals are out of fold by patient. Its predictions for fakes are compared with those
for reals of the same label, errors included (chi-square). They are also corrected for its
confusion matrix: the shares q of the strata solve predictions = sum of q_k x P(predicted | k) by
least squares on the simplex, the adjusted count of Forman 2008 (doi:10.1007/s10618-008-0097-y) for
several strata.

Appearance is how an image was recorded, whatever it shows: gray levels, gain over depth, grain.
The settings of a machine change these numbers, anatomy hardly does; networks trained on
photographs mostly ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgaug.errors import UserError
from fgaug.quality.snapshots.training_filter import STRENGTH, fitted, out_of_fold, skill
from fgaug.quality.spectrum import radial_power
from fgaug.stats import patient_rows

MIN_PATIENTS = 5  # per stratum; rarer ones are left out, as no classifier can learn them
STRENGTHS = {"appearance": 1.0}  # inverse regularisation; STRENGTH for other inputs
RESAMPLES, LEVEL = 1000, 0.95
MISSING = 1 / 3  # of the reals' share: a stratum with a smaller upper limit is missing
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_BANDS = 8  # rows from top to bottom: an ultrasound beam comes from above
_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Machines:
    """A classifier of strata, with its out-of-fold performance on reals."""

    inputs: str  # name of its inputs
    strata: tuple[str, ...]  # those with MIN_PATIENTS patients
    left_out: tuple[str, ...]  # those with fewer
    truth: Ints  # [N], true stratum of each real used
    called: Ints  # [N], predicted out of fold
    groups: np.ndarray  # [N]
    rows: Ints  # [N], indices among the given reals
    accuracy: float  # balanced over strata, out of fold
    least: float  # the accuracy from which its predictions are informative
    model: Callable[[np.ndarray], np.ndarray]  # probabilities, trained on all reals

    @property
    def tells(self) -> bool:
        """Whether it can distinguish the machines of reals at all."""
        return self.accuracy >= self.least

    def call(self, inputs: Mapping[str, np.ndarray]) -> Ints:
        """Return the predicted stratum of each image, int [n], from inputs by name."""
        likeliest: Ints = self.model(inputs[self.inputs]).argmax(axis=1)
        return likeliest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """The strata of one set of fakes against those of the reals of its label."""

    real: Floats  # [K], true shares of the reals
    fake: Floats  # [K], estimated shares of the fakes
    low: Floats  # [K], LEVEL, over new patients and new fakes
    high: Floats
    called_real: Floats  # [K], shares of the predictions for reals, and for fakes
    called_fake: Floats
    missing: tuple[bool, ...]  # [K]: the upper limit is below MISSING of the reals' share
    total_variation: float  # half the sum of |fake - real|: 0 is alike, 1 nothing in common
    tv_low: float
    tv_high: float
    tv_chance: float  # upper limit, at LEVEL, for fakes with the reals' strata
    chi_square: float  # of the predictions
    p_value: float  # of chi_square, resampling whole patients


def learn_machines(
    inputs: Mapping[str, np.ndarray],
    strata: Sequence[object],
    groups: np.ndarray,
    seed: int = 0,
) -> Machines:
    """Return a classifier of the strata of training reals.

    Args:
        inputs: float [N, D] each, by name; uses those that predict the reals' strata best.
        strata: stratum of each real; reals without one are left out.
        groups: patient of each real, [N].
        seed: random seed of the folds.

    Raises:
        UserError: fewer than two strata have MIN_PATIENTS patients.
    """
    names = np.array(["" if each is None or each != each else str(each) for each in strata])
    known = [str(name) for name in np.unique(names) if name]
    patients = {name: len(np.unique(groups[names == name])) for name in known}
    kept = tuple(name for name, count in patients.items() if count >= MIN_PATIENTS)
    if len(kept) < 2:
        told = ", ".join(f"{name} {count}" for name, count in patients.items()) or "none"
        raise UserError(
            f"A classifier of strata needs two or more with at least {MIN_PATIENTS} patients "
            f"each; their patients are: {told}."
        )
    rows = np.flatnonzero(np.isin(names, kept))
    truth = np.searchsorted(kept, names[rows]).astype(np.int64)
    judged = {
        name: out_of_fold(values[rows], truth, groups[rows], seed, STRENGTHS.get(name, STRENGTH))
        for name, values in inputs.items()
    }
    best = max(judged, key=lambda name: skill(judged[name], truth)[0])
    accuracy, least = skill(judged[best], truth)
    return Machines(
        inputs=best,
        strata=kept,
        left_out=tuple(name for name in patients if name not in kept),
        truth=truth,
        called=judged[best].argmax(axis=1).astype(np.int64),
        groups=groups[rows],
        rows=rows,
        accuracy=accuracy,
        least=least,
        model=fitted(inputs[best][rows], truth, STRENGTHS.get(best, STRENGTH)),
    )


def shares_of(machines: Machines, reals: NDArray[np.bool_], called: Ints, seed: int = 0) -> Shares:
    """Return the strata of fakes compared with those of the reals of their label.

    Intervals and p resample whole patients, of all reals of the classifier, and the predictions
    for fakes.

    Args:
        machines: the result of `learn_machines`.
        reals: bool [N], which of the classifier's reals have the fakes' label.
        called: int [n], the result of `Machines.call`.
        seed: random seed of the resampling.

    Raises:
        UserError: there are no reals, or no fakes.
    """
    if not len(called) or not reals.any():
        raise UserError("A comparison of strata needs at least one fake and one real.")
    calls = np.bincount(called, minlength=len(machines.strata))
    confusion, real, real_calls = _of_reals(machines, reals, np.arange(len(reals)))
    fake, chi_square = _shares(calls, confusion), _chi_square(calls, real_calls)
    drawn = _resampled(machines, reals, calls, seed)
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = np.quantile(drawn.fake, ends, axis=0)
    tv_low, tv_high = np.quantile(drawn.apart, ends)
    return Shares(
        real=real,
        fake=fake,
        low=low,
        high=high,
        called_real=real_calls / real_calls.sum(),
        called_fake=calls / calls.sum(),
        missing=tuple((high < MISSING * real).tolist()),
        total_variation=_variation(fake, real),
        tv_low=float(tv_low),
        tv_high=float(tv_high),
        tv_chance=float(np.quantile(drawn.apart_by_chance, LEVEL)),
        chi_square=chi_square,
        p_value=float((1 + (drawn.by_chance >= chi_square).sum()) / (1 + len(drawn.by_chance))),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """B resamples of patients and fakes."""

    fake: Floats  # [B, K], shares of the fakes
    apart: Floats  # [B], their total variation from the reals' shares
    apart_by_chance: Floats  # [B], the same for fakes with the reals' shares
    by_chance: Floats  # [B], chi-square if fakes are predicted as reals are


def _resampled(machines: Machines, reals: NDArray[np.bool_], calls: Ints, seed: int) -> _Drawn:
    confusion, real, real_calls = _of_reals(machines, reals, np.arange(len(reals)))
    n_fake, n_real = int(calls.sum()), int(real_calls.sum())
    pooled = (calls + real_calls) / (n_fake + n_real)
    patients = patient_rows(machines.groups, len(reals))
    random = np.random.default_rng(seed)
    fake, apart, alike, by_chance = [], [], [], []
    for _ in range(RESAMPLES):
        chosen = random.integers(len(patients), size=len(patients))
        rows = np.concatenate([patients[patient] for patient in chosen])
        if not reals[rows].any():
            continue
        matrix, shares, new_calls = _of_reals(machines, reals, rows)
        # Jeffreys' prior: a machine that was never predicted for a fake can still occur
        fake.append(_shares(random.dirichlet(calls + 0.5), matrix))
        apart.append(_variation(fake[-1], shares))
        same = _shares(random.multinomial(n_fake, real @ confusion), matrix)
        alike.append(_variation(same, shares))
        # shift the reals from the pooled mean as far as these patients moved from theirs
        moved = np.maximum(0, pooled + new_calls / new_calls.sum() - real_calls / n_real)
        others = n_real * moved / moved.sum()
        by_chance.append(_chi_square(random.multinomial(n_fake, pooled), others))
    return _Drawn(
        fake=np.array(fake),
        apart=np.array(apart),
        apart_by_chance=np.array(alike),
        by_chance=np.array(by_chance),
    )


def _variation(first: Floats, second: Floats) -> float:
    """Return the total variation of two distributions."""
    return float(np.abs(first - second).sum() / 2)


def _of_reals(
    machines: Machines, reals: NDArray[np.bool_], rows: Ints
) -> tuple[Floats, Floats, Ints]:
    """Return P(predicted | true) [K, K], and the label's true shares and predictions [K] of rows.

    A stratum without an image among the rows counts as predicted perfectly.
    """
    count = len(machines.strata)
    truth, called, own = machines.truth[rows], machines.called[rows], reals[rows]
    table = np.bincount(truth * count + called, minlength=count * count).reshape(count, count)
    table = table + np.diag(table.sum(axis=1) == 0)
    confusion = table / table.sum(axis=1, keepdims=True)
    shares = np.bincount(truth[own], minlength=count) / own.sum()
    return confusion, shares, np.bincount(called[own], minlength=count)


def _shares(calls: Ints | Floats, confusion: Floats) -> Floats:
    """Return the shares [K] that fit the predictions best, given P(predicted | true)."""
    from scipy.optimize import nnls

    found = nnls(confusion.T, calls / calls.sum())[0]
    shares: Floats = found / found.sum() if found.sum() else np.full(len(calls), 1 / len(calls))
    return shares


def _chi_square(first: Floats | Ints, second: Floats | Ints) -> float:
    """Return Pearson's statistic of two rows of counts, without strata that both lack."""
    table = np.stack([first, second]).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float((np.square(table - expected) / expected).sum())


def appearance(images: np.ndarray) -> np.ndarray:
    """Return simple statistics of the appearance of images, float64 [N, D].

    Quantiles, mean and sd of the gray levels (the mean over channels), the mean of each of eight
    bands of rows, and the power at each radius of the spectrum.

    Args:
        images: uint8 [N, H, H, C], memory-mapped or not; at least `spectrum.MIN_SIZE` px.
    """
    found = []
    for start in range(0, len(images), _BATCH):
        gray = images[start : start + _BATCH].mean(axis=3)
        levels = np.quantile(gray, _QUANTILES, axis=(1, 2)).T
        moments = np.stack([gray.mean(axis=(1, 2)), gray.std(axis=(1, 2))], axis=1)
        bands = [band.mean(axis=(1, 2)) for band in np.array_split(gray, _BANDS, axis=1)]
        found.append(np.concatenate([levels, moments, np.stack(bands, axis=1)], axis=1))
    return np.concatenate([np.concatenate(found), radial_power(images)], axis=1)
