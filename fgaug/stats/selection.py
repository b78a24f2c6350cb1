"""Selection of the best arm corrected for optimism, and resampling of seeds and patients.

Both take a function `score` from image rows (with repeats) to the metric of every run on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, Floats, Ints, patient_codes

Score: TypeAlias = Callable[[Ints], Floats]  # image rows -> [R]
FEWEST_SEEDS = 4  # below this too few seeds are left out: only patients are resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One bootstrap sample: images and runs in it, and those left out."""

    rows: Ints  # images, with repeats
    runs: Ints  # runs, with repeats
    rows_out: Ints  # images never drawn
    runs_out: Ints  # runs never drawn; all of them if runs are not resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The best arm, with its naive gain and its gain corrected for selection."""

    best: int  # arm with the highest mean; the first if tied
    naive: float  # its mean
    naive_gain: float  # its mean minus the baseline's
    corrected: float  # mean score of the selected arms on what was left out
    corrected_gain: float  # minus the baseline's score there
    n_draws: int  # draws used; those with nothing left out or an undefined metric are skipped
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """The difference of two arms with its bootstrap distribution."""

    difference: float  # arm 0 minus arm 1, on all images
    values: Floats  # [B], of each draw
    se: float  # their standard deviation, ddof 1
    ci_low: float  # percentile interval
    ci_high: float
    reason: str | None


def selected_gain(
    score: Score, arm: ArrayLike, draws: Iterable[Draw], *, images: int, baseline: int = 0
) -> Selection:
    """Return the gain of the best arm, naive and corrected for its selection.

    In each draw, the arm that is best on the drawn sample is scored on what was left out; the mean
    of these scores is the corrected value (bootstrap bias corrected cross-validation: Tsamardinos,
    Greasidou and Borboudakis 2018, Machine Learning 107:1895, algorithm 3). The baseline competes
    too.

    Args:
        score: metric of every run on given image rows, larger is better.
        arm: int [R], 0..A - 1.
        draws: from `crossed_draws`.
        images: N.
        baseline: index of the baseline arm.
    """
    index = _arms(arm)
    runs = np.arange(index.size)
    means = _arm_means(score(np.arange(images)), index, runs)
    if not np.isfinite(means).all():
        return Selection(
            best=-1,
            naive=NAN,
            naive_gain=NAN,
            corrected=NAN,
            corrected_gain=NAN,
            n_draws=0,
            reason="the metric is undefined for some runs",
        )
    best, picked = int(means.argmax()), []
    for draw in draws:
        if not draw.rows_out.size or not draw.runs_out.size:
            continue
        inside = _arm_means(score(draw.rows), index, draw.runs)
        outside = _arm_means(score(draw.rows_out), index, draw.runs_out)
        # an arm with no seed left out cannot be scored
        candidates = np.where(np.isfinite(outside), inside, -np.inf)
        if np.isfinite(inside).all() and np.isfinite(outside[baseline]):
            chosen = int(candidates.argmax())
            picked.append((outside[chosen], outside[chosen] - outside[baseline]))
    corrected, gain = np.mean(picked, axis=0) if picked else (NAN, NAN)
    return Selection(
        best=best,
        naive=float(means[best]),
        naive_gain=float(means[best] - means[baseline]),
        corrected=float(corrected),
        corrected_gain=float(gain),
        n_draws=len(picked),
        reason=None if picked else "no draw leaves images and runs out",
    )


def crossed_bootstrap(
    score: Score, arm: ArrayLike, draws: Iterable[Draw], *, images: int, level: float = 0.95
) -> Bootstrap:
    """Return arm 0 minus arm 1 over draws of seeds and patients (the pigeonhole bootstrap).

    Owen 2007 (Annals of Applied Statistics 1:386). For metrics without influence functions, such
    as ECE and F1. Conservative (2-3% errors at 5%); no exact bootstrap exists (McCullagh 2000).

    Args:
        score: metric of every run on given image rows.
        arm: int [R], 0 or 1.
        draws: from `crossed_draws`.
        images: N.
        level: confidence level of the percentile interval.
    """
    index = _arms(arm)

    def difference(rows: Ints, runs: Ints) -> float:
        means = _arm_means(score(rows), index, runs)
        return float(means[0] - means[1])

    point = difference(np.arange(images), np.arange(index.size))
    values = np.array([difference(draw.rows, draw.runs) for draw in draws])
    usable = values[np.isfinite(values)]
    low, high, reason = NAN, NAN, None
    if usable.size > 1:
        low, high = np.quantile(usable, [0.5 - level / 2, 0.5 + level / 2])
    if usable.size < max(2, values.size):
        reason = f"{values.size - usable.size} of {values.size} draws have no defined metric"
    return Bootstrap(
        difference=point,
        values=values,
        se=float(usable.std(ddof=1)) if usable.size > 1 else NAN,
        ci_low=float(low),
        ci_high=float(high),
        reason=reason,
    )


def crossed_draws(
    arm: ArrayLike,
    group: ArrayLike | None,
    *,
    images: int,
    count: int = 2000,
    seed: int = 0,
    common_seeds: bool = False,
) -> Iterator[Draw]:
    """Yield draws of patients and, within each arm, of runs, both with replacement.

    With fewer than four runs in an arm, only patients are drawn.

    Args:
        arm: int [R], 0..A - 1.
        group: patient of each image; None if every image is its own patient.
        images: N.
        count: number of draws.
        seed: seed of the random generator.
        common_seeds: whether runs i of all arms share a seed and are drawn together.
    """
    index = _arms(arm)
    rows = patient_rows(group, images)
    members = [np.flatnonzero(index == a) for a in range(int(index.max()) + 1)]
    sizes = [m.size for m in members]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        patients = rng.integers(len(rows), size=len(rows))
        if min(sizes) < FEWEST_SEEDS:
            runs = np.arange(index.size)
        elif common_seeds:
            drawn = rng.integers(min(sizes), size=min(sizes))
            runs = np.concatenate([m[drawn] for m in members])
        else:
            runs = np.concatenate([m[rng.integers(m.size, size=m.size)] for m in members])
        yield draw_of(rows, patients, runs, index.size)


def draw_of(rows: list[Ints], patients: ArrayLike, runs: ArrayLike, n_runs: int) -> Draw:
    """Return the draw of these patients and runs.

    Args:
        rows: image rows of each patient, from `patient_rows`.
        patients: int [G], drawn patients, with repeats.
        runs: int, drawn runs, with repeats.
        n_runs: R.
    """
    drawn, taken = np.asarray(patients, np.int64), np.asarray(runs, np.int64)
    left = np.setdiff1d(np.arange(len(rows)), drawn)
    spare = np.setdiff1d(np.arange(n_runs), taken)
    return Draw(
        rows=np.concatenate([rows[patient] for patient in drawn]),
        runs=taken,
        rows_out=np.concatenate([rows[p] for p in left]) if left.size else left,
        runs_out=spare if taken.size != n_runs or spare.size else np.arange(n_runs),
    )


def patient_rows(group: ArrayLike | None, images: int) -> list[Ints]:
    """Return the image rows of each patient, in order of first appearance.

    Args:
        group: patient of each image, [N]; None if every image is its own patient.
        images: N.
    """
    codes = patient_codes(group, images)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _arms(arm: ArrayLike) -> Ints:
    index = np.atleast_1d(np.asarray(arm))
    whole = index.dtype.kind in "iu" and index.ndim == 1 and index.size > 0
    if not whole or index.min() < 0 or not np.bincount(index).all():
        raise UserError("`arm` must give the arm of each run, 0..A - 1, every arm with a run.")
    return index.astype(np.int64)


def _arm_means(values: Floats, arm: Ints, runs: Ints) -> Floats:
    """Return the mean of each arm over these runs, [A]; NaN for an arm without a run."""
    arms = int(arm.max()) + 1
    sums = np.bincount(arm[runs], weights=values[runs], minlength=arms)
    counts = np.bincount(arm[runs], minlength=arms)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)
