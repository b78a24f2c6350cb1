"""Detection of fakes that copy training images: nearer than images of new patients would be.

The null distribution comes from new patients: the distances of held-out reals, whose patients are
not in the training set, to the nearest training image of the same label. A fake below
`image_scores.copy_threshold`, a low quantile of these distances, is flagged as a copy. Images that
copy nothing are flagged at a rate of at most alpha, the false positive rate. This holds on average
over held-out patients; because they are few, the rate for the actual ones comes with an upper
limit. So low a quantile of few patients cannot support a test of a whole set, which therefore uses
a higher one: `near` is the share of fakes nearer than NEAR of held-out reals. Its interval
resamples whole held-out patients, and fakes.

Comparing the distances of samples and held-out data to the training set follows Meehan et al. 2020
(arXiv:2004.05675); `nearer` is their rank statistic in one cell, as a probability. Comparing an
image's distance to a training image with that image's own nearest neighbour follows Alaa et al.
2022 (arXiv:2102.08921, authenticity): it detects copies of isolated images and is not misled when
truncation moves all fakes to the dense centre. The share below a quantile of held-out distances
and its interval by patient are our own; the quantiles are conformal, see `copy_threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import binomtest

from fgaug.errors import UserError
from fgaug.quality.scoring.image_scores import ALPHA, copies, copy_threshold
from fgaug.stats import patient_rows

NEAR = 0.05  # quantile of held-out reals with which whole sets are compared
RESAMPLES, LEVEL = 1000, 0.95
MIN_PATIENTS = 10  # held out; fewer do not show what is near by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Results from the distances of one set of fakes."""

    n_fake: int
    n_held: int  # held-out reals
    n_patients: int  # of the held-out reals
    alpha: float
    threshold: float  # below this distance, and at 0, a fake is flagged as a copy
    false_alarms_high: float  # upper limit (97.5%) of the rate at which new reals are flagged
    share: float  # of fakes flagged as copies
    share_low: float  # LEVEL, of new fakes by this threshold
    share_high: float
    near: float  # share of fakes nearer than NEAR of the held-out reals are
    near_low: float  # LEVEL, over new held-out patients and new fakes
    near_high: float
    p_value: float  # one-sided, over both; null: no more than NEAR of fakes are near
    exact: int  # fakes at distance 0 from a training image
    nearer: float  # P(a fake is nearer than a held-out real), ties half; 0.5: equally near
    nearer_low: float
    nearer_high: float


def copies_of(
    fake: ArrayLike,
    held: ArrayLike,
    groups: ArrayLike,
    *,
    alpha: float = ALPHA,
    near: float = NEAR,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Copies:
    """Return the share of fakes that lie nearer to a training image than held-out reals do.

    Args:
        fake: float [n], the distance of each fake to its nearest training image.
        held: float [N], the same for held-out reals of the same label.
        groups: the patient of each held-out real, [N].
        alpha: share of new reals that may be flagged as copies.
        near: share of new reals that may be near.
        resamples: number of bootstrap resamples.
        seed: random seed of the bootstrap.

    Raises:
        UserError: there are no fakes, or held-out reals of fewer than MIN_PATIENTS patients.
    """
    fakes, reals = np.asarray(fake, np.float64), np.asarray(held, np.float64)
    rows = patient_rows(groups, len(reals))
    if not len(fakes):
        raise UserError("A search for copies needs at least 1 fake, got none.")
    if len(rows) < MIN_PATIENTS:
        raise UserError(
            f"A search for copies needs held-out reals of at least {MIN_PATIENTS} patients, got "
            f"{len(rows)}. Hold out more (`fgaug data prepare --valid`)."
        )
    limit = copy_threshold(reals, alpha)
    random = np.random.default_rng(seed)
    shares, nearers = np.empty(resamples), np.empty(resamples)
    for index in range(resamples):
        patients = random.integers(len(rows), size=len(rows))
        new = reals[np.concatenate([rows[patient] for patient in patients])]
        made = fakes[random.integers(len(fakes), size=len(fakes))]
        shares[index] = copies(made, copy_threshold(new, near)).mean()
        nearers[index] = _nearer(made, new)
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    called = copies(fakes, limit)
    of_share = binomtest(int(called.sum()), len(called)).proportion_ci(LEVEL, "wilson")
    return Copies(
        n_fake=len(fakes),
        n_held=len(reals),
        n_patients=len(rows),
        alpha=alpha,
        threshold=limit,
        false_alarms_high=_false_alarms_high(reals, rows, limit),
        share=float(called.mean()),
        share_low=float(of_share.low),
        share_high=float(of_share.high),
        near=float(copies(fakes, copy_threshold(reals, near)).mean()),
        near_low=float(np.quantile(shares, low)),
        near_high=float(np.quantile(shares, high)),
        p_value=float((1 + (shares <= near).sum()) / (1 + resamples)),
        exact=int((fakes == 0).sum()),
        nearer=_nearer(fakes, reals),
        nearer_low=float(np.quantile(nearers, low)),
        nearer_high=float(np.quantile(nearers, high)),
    )


def authentic(
    distance: NDArray[np.float64], nearest: NDArray[np.int64], radius: NDArray[np.float64]
) -> float:
    """Return the share of images that lie farther from a training image than its own neighbour.

    Alaa et al. 2022, section 4: an image is authentic if its distance to its nearest training
    image exceeds that image's distance to the nearest other training image. The share of held-out
    reals is what to expect of fakes.

    Args:
        distance: [n], distance to the nearest training image.
        nearest: int [n], index of that training image.
        radius: [N], distance of each training image to the nearest other one.
    """
    return float((distance > radius[nearest]).mean())


def closest(distance: NDArray[np.float64], nearest: NDArray[np.int64], count: int) -> list[int]:
    """Return the fakes of the closest pairs, nearest first, with each training image once."""
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(nearest[order], return_index=True)
    return [int(fake) for fake in order[np.sort(first)[:count]]]


def _false_alarms_high(
    held: NDArray[np.float64], patients: list[NDArray[np.int64]], limit: float
) -> float:
    """Return the upper limit of the share of new reals that lie below a threshold.

    A tolerance limit (Wilks 1941, doi:10.1214/aoms/1177731788) for the share of patients with an
    image below. If only exact copies are flagged, there are no false alarms.
    """
    if limit == 0:
        return 0.0
    below = sum(bool((held[rows] < limit).any()) for rows in patients)
    upper: float = special.betaincinv(below + 1, len(patients) - below, (1 + LEVEL) / 2)
    return float(upper)


def _nearer(fakes: NDArray[np.float64], reals: NDArray[np.float64]) -> float:
    """Return P(fake < real), ties half."""
    order = np.sort(reals)
    above = len(order) - np.searchsorted(order, fakes, "right")
    not_below = len(order) - np.searchsorted(order, fakes, "left")
    return float((above + not_below).mean() / (2 * len(order)))
