"""Which training images a network should not learn from: two rules on their features.

features, labels, patients -> [training_filter] -> drops.  Pure functions on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fgaug.errors import DataError

FOLDS = 5
# Weight of the data against the penalty, of features of unit variance: small, as there are more
# features than images. Of 1e-4 to 1, it ranked the wrong labels of simulated heads best: a tenth
# of them wrong, AUC 0.90 (400 images, 64 px) and 0.87 (800 images, 32 px); at 1, 0.82 and 0.78.
STRENGTH = 1e-3
MIN_SKILL = 0.2  # of the way from chance to always right, below which disagreement says nothing


def out_of_fold(
    features: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    strength: float = STRENGTH,
) -> np.ndarray:
    """Return class probabilities [N, K] by classifiers that saw neither the image nor its patient.

    Logistic regression on standardised features, labels weighted alike; five folds of whole
    patients that keep the mix of the labels, fewer where a label has fewer patients.

    Args:
        features: float [N, D].
        classes: int [N], 0 to K - 1, each at least once.
        groups: [N], the patient of each image.
        seed: of the folds.
        strength: see `fitted`.

    Raises:
        DataError: one label alone, or one whose patients cannot be divided.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = int(classes.max()) + 1
    patients = min(len(np.unique(groups[classes == label])) for label in range(count))
    if count < 2 or patients < 2:
        raise DataError(
            "A classifier can disagree with labels where there are two labels or more, each of "
            f"two patients or more; got {count} of at least {patients}. Use the rule `thin`."
        )
    folds = StratifiedGroupKFold(min(FOLDS, patients), shuffle=True, random_state=seed)
    probabilities = np.zeros((len(classes), count))
    for known, asked in folds.split(features, classes, groups):
        if len(np.unique(classes[known])) < count:
            raise DataError(
                "The patients of a label all fell into one fold, so no classifier can judge them. "
                "Try another --seed, or use the rule `thin`."
            )
        model = fitted(features[known], classes[known], strength)
        probabilities[asked] = model(features[asked])
    return probabilities


def fitted(
    features: np.ndarray, classes: np.ndarray, strength: float = STRENGTH
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a classifier: features [N, D] -> class probabilities [N, K], in order of the classes.

    Multinomial logistic regression on standardised features, labels weighted alike; the same
    features give the same classifier.

    Args:
        features: float [N, D] to learn from.
        classes: int [N], 0 to K - 1, each at least once; K is at least 2.
        strength: weight of the data against the penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    )
    model.fit(features, classes)

    def probabilities(asked: np.ndarray) -> np.ndarray:
        found: np.ndarray = model.predict_proba(asked.astype(np.float64))
        return found

    return probabilities


def skill(probabilities: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Return the balanced accuracy of a classifier, and the least at which it may judge labels.

    A classifier at chance disagrees with half of two labels, the right ones as much as the wrong.
    """
    labels = range(probabilities.shape[1])
    right = probabilities.argmax(axis=1) == classes
    accuracy = float(np.mean([right[classes == label].mean() for label in labels]))
    chance = 1 / len(labels)
    return accuracy, chance + MIN_SKILL * (1 - chance)


def label_errors(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return which images (bool [N]) a classifier holds to be of another label than theirs.

    Confident learning (Northcutt et al. 2021, doi:10.1613/jair.1.12125, section 3.1): a class is
    confident of an image where its probability reaches the class's threshold, its mean over the
    images that carry its label. Of several, the likeliest counts. An image is off the diagonal of
    the confident joint where that class is not its label; it is held to be an error where its
    label is not the likeliest of all classes either.

    Args:
        probabilities: float [N, K], of classifiers that did not see the image.
        classes: int [N], the labels.
    """
    own = [probabilities[classes == label, label] for label in range(probabilities.shape[1])]
    thresholds = np.array([values.mean() for values in own])
    confident = probabilities >= thresholds
    likeliest = np.where(confident, probabilities, -1.0).argmax(axis=1)
    confidently_another = confident.any(axis=1) & (likeliest != classes)
    wrong: np.ndarray = confidently_another & (probabilities.argmax(axis=1) != classes)
    return wrong


def log_density(features: np.ndarray) -> np.ndarray:
    """Return the log-density (nats, float [N]) of each image under a Gaussian fitted to them all.

    Instance selection (DeVries et al. 2020, arXiv:2007.15255) on standardised features. With
    fewer images than features no covariance can be inverted as it is, so it is shrunk towards a
    sphere (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4).

    Args:
        features: float [N, D] of the images of one label.
    """
    from sklearn.covariance import LedoitWolf

    spread = features.std(axis=0)
    kept = features[:, spread > 0].astype(np.float64)  # of dead features there is nothing to tell
    if not kept.shape[1]:
        return np.zeros(len(features))
    units = (kept - kept.mean(axis=0)) / spread[spread > 0]
    fitted = LedoitWolf(assume_centered=True).fit(units)
    lower = np.linalg.cholesky(fitted.covariance_)
    distances = np.square(np.linalg.solve(lower, units.T)).sum(axis=0)
    log_volume = 2 * np.log(np.diag(lower)).sum() + units.shape[1] * math.log(2 * math.pi)
    density: np.ndarray = -(distances + log_volume) / 2
    return density


def thinnest(density: np.ndarray, share: float) -> np.ndarray:
    """Return which images (bool [N]) are the given share, rounded down, of lowest density."""
    chosen = np.zeros(len(density), bool)
    chosen[np.argsort(density, kind="stable")[: int(share * len(density))]] = True
    return chosen
