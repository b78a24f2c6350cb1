"""Scorers that are trained networks: a kept classifier, a snapshot's discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fgaug.bank import Bank, Source
from fgaug.data import Dataset, open_dataset
from fgaug.errors import SnapshotError, UserError
from fgaug.quality.features.of_bank import Done, no_progress
from fgaug.quality.scoring.feature_scorers import label_scores, training_part
from fgaug.training import saved_model
from fgaug.training.saved_model import SavedModel

if TYPE_CHECKING:
    from gan_worker.generators.critic import Critic

BASELINE = "baseline"  # the mode of a classifier trained only on reals
PACKAGED = "lite0"


class KeptClassifier:
    """A classifier kept by a search: a baseline of the same dataset and split."""

    def __init__(self, dataset: Dataset, kept: SavedModel, device: str) -> None:
        import torch

        from fgaug.training.load_model import load_predictor

        check_baseline(kept, dataset)
        self.labels = tuple(kept.card.labels)
        self._network = load_predictor(kept, torch.device(device))

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return confidence, margin and agrees of fakes."""
        from fgaug.training.images import Images

        pixels = bank.read(label, psi, z_seeds.tolist())
        rows, none = np.arange(len(pixels)), np.zeros(len(pixels), np.int64)
        images = Images(sources=[pixels], source=none, row=rows, label=none)
        probabilities = self._network.predict(images)
        return label_scores(probabilities, self.labels.index(label))


class Discriminators:
    """The discriminators of the snapshots from which a bank was filled."""

    def __init__(self, files: tuple[tuple[str, str], ...], device: str) -> None:
        self._files, self._device = dict(files), device
        self._critics: dict[Source, Critic] = {}

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return the logit of fakes.

        Raises:
            SnapshotError: the label's file is not given, is not the bank's, or has no
                discriminator.
        """
        source = bank.spec.sources[label]
        if source not in self._critics:
            self._critics[source] = self._critic(source, label)
        images = bank.read(label, psi, z_seeds.tolist())
        return pd.DataFrame({"logit": self._critics[source].logits(images)})

    def _critic(self, source: Source, label: str) -> Critic:
        from gan_worker.files.snapshot import identity_of
        from gan_worker.filling.label_generators import network_file
        from gan_worker.generators.critic import Critic

        if label not in self._files:
            raise SnapshotError(
                f"A bank keeps only generators. Name the file of the discriminator of {label}: "
                f"--discriminator {label}={source.name}"
            )
        file = network_file(self._files[label])
        if not file.is_file() or identity_of(file) != source.sha256:
            raise SnapshotError(
                f"The fakes of {label} come from {source.name} ({source.sha256[:12]}), and "
                f"{file} is not that file. Name the pickle from which the bank was filled."
            )
        return Critic(file, self._device, source.class_index)


def kept_classifier(asked: str) -> SavedModel | None:
    """Return the classifier that `--classifier` names; None for the packaged one.

    Raises:
        UserError: the name is unknown, or the file is not a kept classifier.
    """
    if asked == PACKAGED:
        return None
    kind, _, file = asked.partition(":")
    if kind != "model" or not file:
        raise UserError(
            f"--classifier must be {PACKAGED}, model:FILE or a file of Keras (.h5, .keras), got "
            f"{asked}. In a grid, `scorers.classifier` may also be {BASELINE}, which its search "
            "trains first."
        )
    return saved_model.read(file)


def check_baseline(kept: SavedModel, dataset: Dataset) -> None:
    """Refuse a classifier trained on fakes, or on other reals than the training images."""
    card = kept.card
    mode = card.cell.split(" ")[0]
    problem = None
    if mode != BASELINE:
        problem = f"has the mode {saved_model.shown(mode)}"
    elif card.dataset_digest != dataset.spec.digest:
        problem = f"was trained on the dataset {card.dataset_digest[:12]}"
    elif tuple(card.labels) != dataset.spec.labels:
        problem = f"has the labels {', '.join(map(saved_model.shown, card.labels))}"
    else:
        learnt = open_dataset(dataset.uri).with_split(card.split)
        if training_part(learnt).images.digest != training_part(dataset).images.digest:
            problem = f"was trained on another split ({card.split})"
    if problem:
        raise UserError(
            f"The classifier {card.cell_id} {problem}. Fakes must be scored by one of mode "
            f"{BASELINE}, trained on the training images of {dataset.place} "
            f"({dataset.spec.digest[:12]})."
        )
