"""Scorers on features: the reals near a fake, and a classifier of reals.

Validation images only set the distance below which a fake is a copy; test images are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from fgaug.bank import Bank
from fgaug.data import Dataset
from fgaug.errors import DataError
from fgaug.quality.features.cache import ImageSet, features_of, of_dataset
from fgaug.quality.features.of_bank import Done, features_of_fakes, no_progress
from fgaug.quality.scoring.image_scores import Reference, copies, copy_threshold, of_own_label

if TYPE_CHECKING:
    from fgaug.quality.features.networks import FeatureNetwork


class Judge(Protocol):
    """Computes the columns of one scorer."""

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return the columns, one row per fake in the given order; `done` counts images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RealPart:
    """A part of a dataset's reals."""

    images: ImageSet
    table: pd.DataFrame  # image_id, label, group of each

    def classes(self, labels: tuple[str, ...]) -> np.ndarray:
        """Return the index of each image's label, int64 [N]."""
        return self.table["label"].map(labels.index).to_numpy(np.int64)


def training_part(dataset: Dataset) -> RealPart:
    """Return the training images.

    Raises:
        DataError: a label has no training image.
    """
    rows = np.flatnonzero(dataset.manifest["split"] == "train")
    part = _part(dataset, rows)
    for label in dataset.spec.labels:
        if label not in set(part.table["label"]):
            raise DataError(f"{dataset.place} has no training image of {label} to score fakes by.")
    return part


def heldout_part(dataset: Dataset) -> RealPart:
    """Return the validation images of patients who have no training image."""
    manifest = dataset.manifest
    seen = set(manifest.loc[manifest["split"] == "train", "group"])
    chosen = (manifest["split"] == "valid") & ~manifest["group"].isin(seen)
    return _part(dataset, np.flatnonzero(chosen))


def _part(dataset: Dataset, rows: np.ndarray) -> RealPart:
    table = dataset.manifest[["image_id", "label", "group"]].iloc[rows].reset_index(drop=True)
    return RealPart(images=of_dataset(dataset, rows), table=table)


class FeatureJudge:
    """Computes realism, density, nearest training real and copies for each label."""

    def __init__(
        self,
        dataset: Dataset,
        network: FeatureNetwork,
        k_realism: int,
        k_density: int,
        alpha: float,
        done: Done = no_progress,
    ) -> None:
        self.network, self._k, self._alpha = network, (k_realism, k_density), alpha
        train, heldout = training_part(dataset), heldout_part(dataset)
        self._train, self._heldout = train.table, heldout.table
        self._features = features_of(train.images, network, done)
        count = train.images.count
        self._unseen = np.empty((0, self._features.shape[1]), np.float32)
        if heldout.images.count:
            self._unseen = features_of(heldout.images, network, lambda more: done(count + more))
        self._references: dict[str, tuple[Reference, np.ndarray, float]] = {}

    def of_features(self, label: str, features: np.ndarray) -> pd.DataFrame:
        """Return the columns for given features, treated as fakes of a label."""
        reference, names, threshold = self._reference(label)
        found = reference.scores(features)
        return pd.DataFrame(
            {
                "realism": found.realism,
                "density": found.density,
                "nearest_distance": found.nearest_distance,
                "nearest": names[found.nearest],
                "copy": copies(found.nearest_distance, threshold),
            }
        )

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return realism, density, nearest_distance, nearest and copy of fakes."""
        return self.of_features(
            label, features_of_fakes(bank, label, psi, z_seeds, self.network, done)
        )

    def heldout(self, label: str) -> pd.DataFrame | None:
        """Return the columns of a label's held-out reals, treated as fakes; None without any."""
        unseen = self._unseen_of(label)
        return self.of_features(label, unseen) if len(unseen) else None

    def threshold(self, label: str) -> float:
        """Return the distance to the nearest training real below which a fake is a copy."""
        return self._reference(label)[2]

    def _unseen_of(self, label: str) -> np.ndarray:
        return self._unseen[(self._heldout["label"] == label).to_numpy()]

    def _reference(self, label: str) -> tuple[Reference, np.ndarray, float]:
        if label not in self._references:
            here = (self._train["label"] == label).to_numpy()
            if here.sum() <= max(self._k):
                raise DataError(
                    f"{label} has {here.sum()} training images; neighbour scores need "
                    f"{max(self._k) + 1} or more. Use only --scorer classifier."
                )
            reference = Reference(self._features[here], *self._k)
            unseen = self._unseen_of(label)
            distances = reference.scores(unseen).nearest_distance if len(unseen) else ()
            threshold = copy_threshold(distances, self._alpha)
            names = self._train["image_id"].to_numpy(object)[here]
            self._references[label] = (reference, names, threshold)
        return self._references[label]


class PackagedClassifier:
    """Logistic regression on the packaged features, trained on the training reals."""

    def __init__(
        self, dataset: Dataset, network: FeatureNetwork, done: Done = no_progress
    ) -> None:
        from fgaug.quality.snapshots.training_filter import fitted

        self.labels, self.network = dataset.spec.labels, network
        if len(self.labels) < 2:
            raise DataError(
                f"{dataset.place} has only the label {self.labels[0]}, but a classifier needs two "
                "or more. Use only --scorer features."
            )
        self._train = training_part(dataset)
        self._features = features_of(self._train.images, network, done)
        self._predict = fitted(self._features, self._train.classes(self.labels))

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return confidence, margin and agrees of fakes."""
        features = features_of_fakes(bank, label, psi, z_seeds, self.network, done)
        return label_scores(self._predict(features), self.labels.index(label))

    def out_of_fold(self) -> pd.DataFrame:
        """Return the columns of training reals, from classifiers that never saw their patients."""
        from fgaug.quality.snapshots.training_filter import out_of_fold

        classes = self._train.classes(self.labels)
        groups = self._train.table["group"].to_numpy()
        found = label_scores(out_of_fold(self._features, classes, groups), classes)
        return found.assign(label=self._train.table["label"])


def label_scores(probabilities: np.ndarray, own: int | np.ndarray) -> pd.DataFrame:
    """Return a classifier's columns from probabilities [N, K] and the class of each image."""
    confidence, margin, agrees = of_own_label(probabilities, own)
    return pd.DataFrame({"confidence": confidence, "margin": margin, "agrees": agrees})
