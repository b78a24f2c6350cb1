"""Rules that find training images on which a network should not be trained: a drop list.

Two rules work on features: one finds likely label errors, the other isolated images. The third
finds images on whose label readers disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fgaug.data import open_dataset
from fgaug.data.drop_list import DropList, Dropped, Drops, Reason, write_drops
from fgaug.errors import DataError
from fgaug.quality.snapshots.readers import Readers, judge, kappas, read_votes

if TYPE_CHECKING:
    from fgaug.data import Dataset
    from gan_worker.training.images import TrainingImages

FOLDS = 5
# Inverse regularisation strength for features of unit variance: small, as there are more features
# than images. Between 1e-4 and 1 this ranked wrong labels of simulated heads best: with a tenth of
# them wrong, AUC 0.90 (400 images, 64 px) and 0.87 (800 images, 32 px); at 1, 0.82 and 0.78.
STRENGTH = 1e-3
MIN_SKILL = 0.2  # minimum skill between chance (0) and perfect (1); below it, uninformative
RULES: tuple[Reason, ...] = ("label", "thin", "agreement")
Progress = Callable[[int, int], None]  # images done, images in total


def out_of_fold(
    features: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    strength: float = STRENGTH,
) -> np.ndarray:
    """Return class probabilities [N, K] from classifiers that saw neither image nor patient.

    Logistic regression on standardised features with equal weights of labels; five folds of whole
    patients, stratified by label, or fewer if a label has fewer patients.

    Args:
        features: float [N, D].
        classes: int [N], 0 to K - 1, each at least once.
        groups: [N], the patient of each image.
        seed: random seed of the folds.
        strength: see `fitted`.

    Raises:
        DataError: there is only one label, or the patients of a label cannot be divided.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = int(classes.max()) + 1
    patients = min(len(np.unique(groups[classes == label])) for label in range(count))
    if count < 2 or patients < 2:
        raise DataError(
            "A cross-validated classifier needs two labels or more, each with two patients or "
            f"more; got {count} with at least {patients}. Use the rule `thin`."
        )
    folds = StratifiedGroupKFold(min(FOLDS, patients), shuffle=True, random_state=seed)
    probabilities = np.zeros((len(classes), count))
    for known, asked in folds.split(features, classes, groups):
        if len(np.unique(classes[known])) < count:
            raise DataError(
                "All patients of a label fell into one fold, so no classifier can be evaluated "
                "on them. Try another --seed, or use the rule `thin`."
            )
        model = fitted(features[known], classes[known], strength)
        probabilities[asked] = model(features[asked])
    return probabilities


def fitted(
    features: np.ndarray, classes: np.ndarray, strength: float = STRENGTH
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a classifier from features [N, D] to class probabilities [N, K], in class order.

    Multinomial logistic regression on standardised features with equal weights of labels; it is
    deterministic.

    Args:
        features: training features, float [N, D].
        classes: int [N], 0 to K - 1, each at least once; K is at least 2.
        strength: inverse regularisation strength.
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
    """Return the balanced accuracy of a classifier, and the minimum for it to be informative.

    With two labels, a classifier at chance disagrees with half of them, right and wrong alike.
    """
    labels = range(probabilities.shape[1])
    right = probabilities.argmax(axis=1) == classes
    accuracy = float(np.mean([right[classes == label].mean() for label in labels]))
    chance = 1 / len(labels)
    return accuracy, chance + MIN_SKILL * (1 - chance)


def label_errors(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the images (bool [N]) that a classifier confidently assigns to another label.

    Confident learning (Northcutt et al. 2021, doi:10.1613/jair.1.12125, section 3.1): a class is
    confident for an image if its probability reaches the class's threshold, the mean probability
    over the images with that label. The most likely of several confident classes counts. An image
    is off the diagonal of the confident joint if that class is not its label; it is an error if
    its label is not the most likely of all classes either.

    Args:
        probabilities: float [N, K], from classifiers that did not see the image.
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

    Instance selection (DeVries et al. 2020, arXiv:2007.15255) on standardised features. With fewer
    images than features the covariance is singular, so it is shrunk towards a sphere (Ledoit and
    Wolf 2004, doi:10.1016/S0047-259X(03)00096-4).

    Args:
        features: float [N, D] of the images of one label.
    """
    from sklearn.covariance import LedoitWolf

    spread = features.std(axis=0)
    kept = features[:, spread > 0].astype(np.float64)  # constant features carry no information
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
    """Return the images (bool [N]) of lowest density, the given share rounded down."""
    chosen = np.zeros(len(density), bool)
    chosen[np.argsort(density, kind="stable")[: int(share * len(density))]] = True
    return chosen


def filter_training_images(
    folder: Path,
    out: Path,
    *,
    rules: Sequence[str] = ("label",),
    readers: Readers | None = None,
    share: float = 0.1,
    seed: int = 0,
    split: int | str = "dataset",
    network: str = "lite0",
    device: str = "cpu",
    progress: Progress = lambda done, wanted: None,
) -> DropList:
    """Write a drop list of images on which no network should be trained: `fgaug gan filter`.

    Only reads the images on which networks of the dataset's labels would be trained, so that
    validation and test images cannot influence a network through the list.

    Args:
        folder: folder of a prepared dataset.
        out: path of a new JSON file.
        rules: `label` drops an image if a classifier that saw neither it nor its patient disagrees
            with its label; `thin` drops it if its label has few similar images; `agreement` drops
            it if its readers do not agree on its label.
        readers: of `agreement`: the table with the readers' votes.
        share: share of each label's images that `thin` drops.
        seed: random seed of the patient folds for `label`.
        split: split of the training images: `dataset`, or the seed of another draw.
        network: feature network, see `load_network` in `fgaug.quality.features.networks`.
        device: device of the feature network.
        progress: called with (images with features, images in total).

    Raises:
        DataError: a rule is unknown, the share is out of range, or images cannot be classified.
        UserError: the feature network cannot be used.
    """
    from gan_worker.training.images import training_images

    _check(out, rules, share, seed, readers)
    dataset = open_dataset(folder).with_split(split)
    images = training_images(dataset, dataset.spec.labels)
    found: dict[int, dict[Reason, float]] = {}
    described: dict[str, Any] = {}
    if "label" in rules or "thin" in rules:
        features, described["features"] = _features(dataset, images, network, device, progress)
        if "label" in rules:
            described["label"] = _find_wrong_labels(found, features, images, seed)
        if "thin" in rules:
            described["thin"] = _find_thin_regions(found, features, images, share)
    if readers is not None:
        described["agreement"] = _find_disagreement(found, dataset, images, readers)
    named = images.table[["image_id", "sha256", "label"]].itertuples(index=False)
    drops = Drops(
        dataset_digest=dataset.spec.digest,
        split=split if isinstance(split, int) else "dataset",
        rules=described,
        considered=images.counts,
        images=[
            Dropped(image_id=image_id, sha256=sha256, label=label, reasons=found[number])
            for number, (image_id, sha256, label) in enumerate(named)
            if number in found
        ],
    )
    return write_drops(out, drops)


def _features(
    dataset: Dataset, images: TrainingImages, network: str, device: str, progress: Progress
) -> tuple[np.ndarray, str]:
    """Return the features of the training images, float [N, D], and the name of their network."""
    from fgaug.core.devices import usable_device
    from fgaug.quality.features.cache import features_of, of_dataset
    from fgaug.quality.features.networks import load_network

    extractor = load_network(network, str(usable_device(device)))
    features = features_of(
        of_dataset(dataset, images.rows), extractor, lambda done: progress(done, len(images))
    )
    return features, extractor.label


def _check(
    out: Path, rules: Sequence[str], share: float, seed: int, readers: Readers | None
) -> None:
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown or not rules:
        raise DataError(
            f"--rule must be {', '.join(RULES[:-1])} or {RULES[-1]}, got "
            f"{', '.join(unknown) or 'none'}."
        )
    if "agreement" in rules and readers is None:
        raise DataError(
            "--rule agreement needs the votes of readers. Give their table with --csv and their "
            "columns with --reader-cols."
        )
    if readers is not None and "agreement" not in rules:
        raise DataError("--csv and --reader-cols belong to --rule agreement. Add the rule.")
    if not 0 < share < 1:
        raise DataError(f"--share must lie between 0 and 1, got {share:g}. Try 0.1.")
    if not 0 <= seed < 2**32:
        raise DataError(f"--seed must be from 0 to {2**32 - 1}, got {seed}.")
    if out.exists():
        raise DataError(f"--out {out} exists. Choose another name, or remove it first.")


def _find_wrong_labels(
    found: dict[int, dict[Reason, float]], features: np.ndarray, images: TrainingImages, seed: int
) -> dict[str, Any]:
    """Add the images with whose label a classifier disagrees; return the rule in words."""

    classes = images.classes
    probabilities = out_of_fold(features, classes, images.table["group"].to_numpy(), seed)
    accuracy, least = skill(probabilities, classes)
    if accuracy < least:
        raise DataError(
            f"The rule `label` needs a classifier with a balanced accuracy of {least:.0%} or "
            f"more; this one has {accuracy:.0%}, so its disagreement is not informative. Use the "
            "rule `thin`, more images, or larger ones."
        )
    _add(
        found,
        "label",
        label_errors(probabilities, classes),
        probabilities[np.arange(len(images)), classes],
    )
    return {
        "rule": "confident learning, Northcutt et al. 2021",
        "classifier": f"logistic regression, {FOLDS} folds of whole patients",
        "strength": STRENGTH,
        "seed": seed,
        "balanced_accuracy": round(accuracy, 4),  # of the classifier
    }


def _find_thin_regions(
    found: dict[int, dict[Reason, float]],
    features: np.ndarray,
    images: TrainingImages,
    share: float,
) -> dict[str, Any]:
    """Add the most isolated images of each label; return the rule in words."""

    flagged = np.zeros(len(images), bool)
    density = np.zeros(len(images))
    for index in range(len(images.labels)):
        here = images.classes == index
        density[here] = log_density(features[here])
        flagged[here] = thinnest(density[here], share)
    _add(found, "thin", flagged, density)
    return {
        "rule": "instance selection, DeVries et al. 2020",
        "density": "a Gaussian for each label, Ledoit-Wolf covariance",
        "share": share,
    }


def _find_disagreement(
    found: dict[int, dict[Reason, float]],
    dataset: Dataset,
    images: TrainingImages,
    readers: Readers,
) -> dict[str, Any]:
    """Add the images on whose label the readers do not agree; return the rule in words."""
    rows = dataset.manifest.loc[images.rows].reset_index(drop=True)
    votes = read_votes(readers, rows, images.labels)
    judged = judge(votes, images.classes, readers)
    _add(found, "agreement", judged.dropped, judged.share)
    return {
        "table": readers.csv.name,
        "readers": list(readers.columns),
        "agree": readers.agree,
        "no_vote": readers.no_vote,
        **judged.counts,
        **kappas(votes, readers.columns),
    }


def _add(
    found: dict[int, dict[Reason, float]], reason: Reason, flagged: np.ndarray, score: np.ndarray
) -> None:
    for number in np.flatnonzero(flagged).tolist():
        found.setdefault(number, {})[reason] = round(float(score[number]), 6)
