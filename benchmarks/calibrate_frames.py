"""Simulated evaluation sets whose truth on new patients is known.  [frames] -> studies -> table

The score of run r (arm k, one seed) for image i of patient g,

    x = z (shift_k + seed_r) + patient_g + image_i + arm_patient_kg + arm_image_ki + run_image_ri,

z = 1/2 for label 1 and -1/2 for label 0, every other term normal and drawn anew each time, all but
the seed's adding up to a variance of 1. So the metrics of a recipe on new patients have closed
forms: the scores of a positive and a negative of two patients differ by N(shift, 2 + seed_sd^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLOPE = 1.5  # of the logistic curve that makes a probability of a score


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """Who is in an evaluation set."""

    count: int
    images: int = 1  # mean a patient, who has 1 to twice as many less one
    own_labels: bool = False  # each image has a label of its own; else its patient's
    positive: float = 0.5  # share of label 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Variances of a score; those of one image add up to 1, `seed_sd` comes on top.

    As they stand, 150 patients and an AUC of 0.85 give runs of one arm a standard deviation of
    0.010 and two arms' means one of 0.010 over patients, as in real runs.
    """

    patient: float = 0.3
    arm_patient: float = 0.02
    arm_image: float = 0.03
    run_image: float = 0.05
    seed_sd: float = 0.04  # of the shift between seeds: what no number of patients averages out

    @property
    def image(self) -> float:
        """Return what is left for the image itself."""
        return 1 - self.patient - self.arm_patient - self.arm_image - self.run_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The runs of some arms on one evaluation set."""

    y: Ints  # [N], 0 or 1
    group: Ints  # [N]
    score: Floats  # [R, N]
    arm: Ints  # [R]

    @property
    def probability(self) -> Floats:
        """Return the probability of label 1, [R, N]."""
        return np.asarray(special.expit(SLOPE * self.score))


def draw(
    rng: np.random.Generator,
    patients: Patients,
    noise: Noise,
    shift: Floats,
    seeds: Ints,
    restless: Floats | None = None,
) -> Drawn:
    """Return fresh runs of arms on fresh patients.

    Args:
        rng: of everything.
        patients: who is drawn.
        noise: variances.
        shift: of each arm, [A]: how far its scores tell the labels apart.
        seeds: runs of each arm, [A].
        restless: factor on what differs between seeds, [A]; 1 each if None.
    """
    n_images = rng.integers(1, 2 * patients.images, size=patients.count)
    group = np.repeat(np.arange(patients.count), n_images)
    y = _labels(rng, patients, group)
    arm = np.repeat(np.arange(shift.size), seeds)
    factor = (np.ones(shift.size) if restless is None else restless)[arm]

    def normal(variance: float, rows: int, columns: int) -> Floats:
        return np.sqrt(variance) * rng.standard_normal((rows, columns))

    common = normal(noise.patient, 1, patients.count)[:, group] + normal(noise.image, 1, y.size)
    by_arm = normal(noise.arm_patient, shift.size, patients.count)[:, group]
    by_arm += normal(noise.arm_image, shift.size, y.size)
    score = normal(noise.run_image, arm.size, y.size)
    score *= factor[:, None]
    score += by_arm[arm]
    score += common
    own = shift[arm] + factor * noise.seed_sd * rng.standard_normal(arm.size)
    score += own[:, None] * (y - 0.5)
    return Drawn(y=y, group=group, score=score, arm=arm)


def _labels(rng: np.random.Generator, patients: Patients, group: Ints) -> Ints:
    """Return labels of which each has two patients or more, so that no metric is undefined."""
    while True:
        drawn = rng.random(group.size if patients.own_labels else patients.count)
        y = (drawn < patients.positive).astype(np.int64)
        y = y if patients.own_labels else y[group]
        if all(len(np.unique(group[y == label])) > 1 for label in (0, 1)):
            return y


def truth(metric: str, shift: float, noise: Noise) -> float:
    """Return a recipe's metric on new patients and new seeds; the same for any share of label 1.

    Brier and log loss by Gauss-Hermite quadrature, the others in closed form.
    """
    if metric == "auc":
        return float(special.ndtr(shift / np.sqrt(2 + noise.seed_sd**2)))
    own_sd = np.sqrt(1 + noise.seed_sd**2 / 4)  # of a score of its label
    # both labels are recognised equally well, so these agree (F1 where labels are equally common)
    if metric in ("accuracy", "balanced_accuracy", "f1_macro"):
        return float(special.ndtr(shift / 2 / own_sd))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    right = special.expit(SLOPE * (shift / 2 + own_sd * nodes))
    loss = (1 - right) ** 2 if metric == "brier" else -np.log(right)
    return float(weights @ loss / weights.sum())


def shift_for(auc: float, noise: Noise, restless: float = 1.0) -> float:
    """Return the shift that gives a recipe this AUC; its seeds differ `restless` times as much."""
    squared = restless**2
    variance = 2 + 2 * (squared - 1) * noise.run_image + squared * noise.seed_sd**2
    return float(special.ndtri(auc) * np.sqrt(variance))


def shift_apart(metric: str, start: float, effect: float, noise: Noise) -> float:
    """Return the shift whose metric is `effect` away from that of the shift `start`."""
    wanted = truth(metric, start, noise) + effect
    return float(optimize.brentq(lambda s: truth(metric, s, noise) - wanted, -10, 10, xtol=1e-12))
