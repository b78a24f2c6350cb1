"""The reals with which a bank's fakes are compared.

Uses the training images of a label, whether or not a network was trained on them, as do the scores
of individual fakes. Validation images show what is near by chance; test images are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgaug.data import Dataset
from fgaug.errors import DataError, UserError
from fgaug.quality.copies import authentic
from fgaug.quality.features.cache import features_of
from fgaug.quality.neighbours import radii_of
from fgaug.quality.scoring.feature_scorers import heldout_part, training_part
from fgaug.quality.scoring.image_scores import NeighbourScores, Reference, of_own_label
from fgaug.quality.set_measures import RealFeatures
from fgaug.quality.snapshots.training_filter import out_of_fold
from fgaug.quality.spectrum import high_frequencies
from fgaug.quality.strata import Machines, appearance, learn_machines

if TYPE_CHECKING:
    from fgaug.quality.features.pair import NetworkPair

APPEARANCE = "appearance"  # a classifier's input as an alternative to a network's features
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Done = Callable[[int], None]


def quantiles_of(name: str, values: np.ndarray) -> dict[str, float]:
    """Return QUANTILES of a score as columns `<name>_q05` and so on."""
    found = np.quantile(values, QUANTILES, method="lower")  # no interpolation: values may be inf
    return {f"{name}_q{100 * q:02.0f}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelReals:
    """The training images of one label, and its held-out reals."""

    label: str
    among: NDArray[np.bool_]  # [all training images], mask of this label's
    image_ids: np.ndarray  # [N]
    groups: np.ndarray  # [N]
    features: NDArray[np.float32]  # [N, D]
    pr_features: NDArray[np.float32] | None  # [N, E], if another network measures precision
    pixels: np.ndarray  # uint8 [N, H, W, C]
    held: NDArray[np.float32]  # [M, D]
    held_groups: np.ndarray  # [M]

    @cached_property
    def measured(self) -> RealFeatures:
        """The reference for measuring sets of fakes."""
        return RealFeatures(self.features, self.groups.tolist(), self.pr_features)

    @cached_property
    def reference(self) -> Reference:
        """The reference for scoring individual images."""
        return Reference(self.features)

    @cached_property
    def of_held(self) -> NeighbourScores:
        """The scores of the held-out reals."""
        return self.reference.scores(self.held)

    @cached_property
    def frequencies(self) -> np.ndarray:
        return high_frequencies(self.pixels)

    def authentic(self, found: NeighbourScores) -> float:
        """Return the share of authentic images, see `copies.authentic`."""
        return authentic(found.nearest_distance, found.nearest, self._radii)

    @cached_property
    def _radii(self) -> NDArray[np.float64]:
        return radii_of(self.features.astype(np.float64), 1, 0.0)


class AllReals:
    """All training images and held-out reals of a dataset, with their features."""

    def __init__(self, dataset: Dataset, pair: NetworkPair, done: Done) -> None:
        """Compute features; `done` is called with the number of images that have theirs."""
        network = pair.distance
        self.dataset, self.network = dataset, network.label
        self._train, self._held = training_part(dataset), heldout_part(dataset)
        self.features = features_of(self._train.images, network, done)
        count = self._train.images.count
        self._unseen = np.empty((0, self.features.shape[1]), np.float32)
        if self._held.images.count:
            self._unseen = features_of(self._held.images, network, lambda n: done(count + n))
        count += self._held.images.count
        self.pr_features = None
        if not pair.one:
            images = self._train.images
            self.pr_features = features_of(images, pair.neighbour, lambda n: done(count + n))
        self.table = dataset.manifest[dataset.manifest["split"].eq("train")]

    def of_label(self, label: str) -> LabelReals:
        """Return the reals of one label."""
        here, held = (part.table["label"].eq(label) for part in (self._train, self._held))
        return LabelReals(
            label=label,
            among=here.to_numpy(),
            image_ids=self._train.table["image_id"].to_numpy(object)[here],
            groups=self._train.table["group"].to_numpy(object)[here],
            features=self.features[here.to_numpy()],
            pr_features=None if self.pr_features is None else self.pr_features[here.to_numpy()],
            pixels=self.dataset.pixels()[self.table.index[here]],
            held=self._unseen[held.to_numpy()],
            held_groups=self._held.table["group"].to_numpy(object)[held],
        )

    def machines(self) -> dict[str, Machines | str]:
        """Return a classifier of each stratum, or the reason why there is none."""
        found: dict[str, Machines | str] = {}
        inputs: dict[str, np.ndarray] = {}
        for column in self.dataset.spec.strata:
            if not inputs:
                pixels = self.dataset.pixels()[self.table.index]
                inputs = {self.network: self.features, APPEARANCE: appearance(pixels)}
            try:
                found[column] = learn_machines(
                    inputs, self.table[column].tolist(), self.table["group"].to_numpy(object)
                )
            except (UserError, DataError) as error:
                found[column] = str(error)
        return found

    def own_labels(self) -> Mapping[str, dict[str, Any]]:
        """Return classifiers' confidence in reals of patients that they never saw, by label."""
        labels = self.dataset.spec.labels
        if len(labels) < 2:
            return {}
        classes = self._train.classes(labels)
        groups = self._train.table["group"].to_numpy(object)
        probabilities = out_of_fold(self.features, classes, groups)
        confidence, _, agrees = of_own_label(probabilities, classes)
        return {
            label: {
                "agrees": float(agrees[classes == number].mean()),
                **quantiles_of("confidence", confidence[classes == number]),
            }
            for number, label in enumerate(labels)
        }
