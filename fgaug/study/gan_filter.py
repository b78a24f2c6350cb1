"""Training images that networks should not learn from.  dataset -> [gan_filter] -> drop list"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fgaug.data import open_dataset
from fgaug.data.drops import DropList, Dropped, Drops, Reason, write_drops
from fgaug.errors import DataError

if TYPE_CHECKING:
    from gan_worker.training.images import TrainingImages

RULES: tuple[Reason, ...] = ("label", "thin")
Progress = Callable[[int, int], None]  # images seen, images in all


def filter_training_images(
    folder: Path,
    out: Path,
    *,
    rules: Sequence[str] = ("label",),
    share: float = 0.1,
    seed: int = 0,
    split: int | str = "dataset",
    network: str = "lite0",
    device: str = "cpu",
    progress: Progress = lambda done, wanted: None,
) -> DropList:
    """Write which of a dataset's images no network should learn from: `fgaug gan filter`.

    Looked at are the images that networks of its labels would learn from, and no others: nothing
    of a validation or test image reaches a network by this way.

    Args:
        folder: of a prepared dataset.
        out: a new JSON file.
        rules: `label`, a classifier that saw neither an image nor its patient disagrees with its
            label; `thin`, it lies where its label has few others.
        share: of each label's images that `thin` drops.
        seed: of the folds of patients that `label` takes.
        split: whose training images are looked at: `dataset`, or the seed of another draw.
        network: whose features of images count, see `fgaug.quality.features.load_network`.
        device: that it computes them on.
        progress: called with (images whose features are known, images in all).

    Raises:
        DataError: an unknown rule, a share out of range, images that cannot be judged.
        UserError: a feature network that cannot be had.
    """
    from fgaug.quality.feature_cache import features_of, of_dataset
    from fgaug.quality.features import load_network
    from gan_worker.devices import usable_device
    from gan_worker.training.images import training_images

    _check(out, rules, share, seed)
    dataset = open_dataset(folder).with_split(split)
    images = training_images(dataset, dataset.spec.labels)
    extractor = load_network(network, str(usable_device(device)))
    features = features_of(
        of_dataset(dataset, images.rows), extractor, lambda done: progress(done, len(images))
    )
    found: dict[int, dict[Reason, float]] = {}
    described: dict[str, Any] = {"features": extractor.label}
    if "label" in rules:
        described["label"] = _find_wrong_labels(found, features, images, seed)
    if "thin" in rules:
        described["thin"] = _find_thin_regions(found, features, images, share)
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


def _check(out: Path, rules: Sequence[str], share: float, seed: int) -> None:
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown or not rules:
        raise DataError(f"--rule is {' or '.join(RULES)}, got {', '.join(unknown) or 'none'}.")
    if not 0 < share < 1:
        raise DataError(f"--share must lie between 0 and 1, got {share:g}. Try 0.1.")
    if not 0 <= seed < 2**32:
        raise DataError(f"--seed must lie from 0 to {2**32 - 1}, got {seed}.")
    if out.exists():
        raise DataError(f"--out {out} exists. Choose another name, or remove it first.")


def _find_wrong_labels(
    found: dict[int, dict[Reason, float]], features: np.ndarray, images: TrainingImages, seed: int
) -> dict[str, Any]:
    """Add the images whose label a classifier disagrees with; return the rule in words."""
    from fgaug.quality.training_filter import (
        FOLDS,
        STRENGTH,
        label_errors,
        out_of_fold,
        skill,
    )

    classes = images.classes
    probabilities = out_of_fold(features, classes, images.table["group"].to_numpy(), seed)
    accuracy, least = skill(probabilities, classes)
    if accuracy < least:
        raise DataError(
            f"The rule `label` needs a classifier that is right on {least:.0%} or more (balanced "
            f"over labels), this one is on {accuracy:.0%}: its disagreement says nothing. Use the "
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
    """Add the images of each label that have the fewest like them; return the rule in words."""
    from fgaug.quality.training_filter import log_density, thinnest

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


def _add(
    found: dict[int, dict[Reason, float]], reason: Reason, flagged: np.ndarray, score: np.ndarray
) -> None:
    for number in np.flatnonzero(flagged).tolist():
        found.setdefault(number, {})[reason] = round(float(score[number]), 6)
