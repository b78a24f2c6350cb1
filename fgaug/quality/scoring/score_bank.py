"""Scoring the fakes of a bank that have no scores yet, shard by shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fgaug.bank import Bank, Scorer, lock, unscored, write_scores
from fgaug.bank.score_columns import SCORERS, columns_of
from fgaug.core.progress import Advance
from fgaug.data import Dataset
from fgaug.errors import BankError, DataError, UserError
from fgaug.grid.space import JudgeNetwork
from fgaug.quality.scoring import keras_judge, network_scorers
from fgaug.quality.scoring.feature_scorers import (
    FeatureJudge,
    PackagedClassifier,
    heldout_part,
    training_part,
)
from fgaug.quality.scoring.image_scores import ALPHA, K_DENSITY, K_REALISM
from fgaug.training import saved_model
from fgaug.training.saved_model import SavedModel

if TYPE_CHECKING:
    from fgaug.quality.scoring.feature_scorers import Judge

VERSION = 1  # raised when the same files give other scores
_HELD = 2  # judges kept in memory: one for features, one classifier
_judges: dict[tuple[str, str, str], Judge] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBaseline:
    """The baseline of a search that scores its own fakes, identified before it is trained."""

    cell_id: str
    file: str  # where the search stores it


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """Options for scoring fakes."""

    features: str = "lite0"  # see `fgaug.quality.features.networks.load_network`
    # logistic regression on the packaged features; or model:FILE; or a file of `judge`
    classifier: str = "lite0"
    judge: JudgeNetwork | None = None  # describes a classifier that Keras saved
    baseline: OwnBaseline | None = None  # instead of the classifier
    discriminators: tuple[tuple[str, str], ...] = ()  # label, network file of the bank's fakes
    device: str = "auto"  # all GPUs if there are any; cpu, cuda or cuda:1


DEFAULT = ScoreOptions()


def scorer_of(name: str, dataset: Dataset, how: ScoreOptions = DEFAULT) -> Scorer:
    """Return a scorer without scoring; its digest covers everything that determines its scores.

    Args:
        name: `features`, `classifier` or `discriminator`.
        dataset: provides the training images, by its split.
        how: options; the device is not part of the digest.

    Raises:
        UserError: the name is unknown, or a network cannot be used.
        DataError: a label has no training image.
    """
    content, words = _content(name, dataset, how)
    told = json.dumps({"scorer": name, "version": VERSION, **content}, sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()
    return Scorer(name, digest, columns_of(name), words)


def _content(name: str, dataset: Dataset, how: ScoreOptions) -> tuple[dict[str, Any], str]:
    """Return what determines a scorer's scores, and a description of it."""
    from fgaug.quality.features.networks import network_label
    from fgaug.quality.snapshots.training_filter import STRENGTH

    if name == "discriminator":  # identified by the bank, which has one snapshot per label
        return {"group_size": 1}, "the snapshot's discriminator, images one by one"
    if name not in SCORERS:
        raise UserError(f"--scorer must be {', '.join(SCORERS)} or all, got {name}.")
    train = training_part(dataset).images.digest
    if name == "features":
        label, sha256 = network_label(how.features)
        content = {
            "network": [label, sha256],
            "train": train,
            "heldout": heldout_part(dataset).images.digest,
            "k": [K_REALISM, K_DENSITY],
            "alpha": ALPHA,
        }
        return content, f"{label}, realism k = {K_REALISM}, density k = {K_DENSITY}"
    if how.baseline is not None:  # its cell id covers everything that determines it
        return {"baseline": how.baseline.cell_id}, f"the baseline {how.baseline.cell_id}"
    if how.judge is not None:
        return keras_judge.identity(keras_judge.file_at(how.classifier), how.judge, dataset)
    kept = network_scorers.kept_classifier(how.classifier)
    if kept is not None:
        network_scorers.check_baseline(kept, dataset)
        return {"model": kept.card.sha256}, f"kept classifier {kept.card.cell_id}"
    label, sha256 = network_label(network_scorers.PACKAGED)
    content = {"network": [label, sha256], "train": train, "strength": STRENGTH}
    return content, f"logistic regression on {label}, training reals alone"


def score_fakes(
    bank: Bank,
    scorers: Sequence[Scorer],
    label: str,
    psi: float,
    z_seeds: Sequence[int] | np.ndarray,
    dataset: Dataset,
    progress: Advance = lambda done, wanted: None,
    how: ScoreOptions = DEFAULT,
) -> None:
    """Score those of `z_seeds` that have no scores yet, under the bank's write lock.

    Writes scores after each shard, so that interrupted scoring can resume.

    Args:
        bank: the bank with the fakes.
        scorers: results of `scorer_of` for this dataset and `how`.
        label: label of the fakes.
        psi: truncation psi of the fakes.
        z_seeds: in any order.
        dataset: provides the training images of the scorers.
        progress: called with (images done, images in total), including reals; an image counts once
            per scorer.
        how: options of the scorers.

    Raises:
        BankError: the bank lacks some of the fakes, has other images than the dataset, or was
            taken over by another writer.
        UserError: a network cannot be used, or does not match its scorer.
    """
    lacking = {
        scorer.folder: unscored(bank.store, scorer, label, psi, z_seeds) for scorer in scorers
    }
    if not any(lacking.values()):
        return
    check_fits(bank, label, dataset)
    with lock.held(bank.store) as held:
        done = ProgressCounter(progress, sum(map(len, lacking.values())))
        for scorer in scorers:
            if not lacking[scorer.folder]:
                continue
            judge = judge_of(scorer, dataset, how, done)
            # checked again: the previous lock holder may have scored some
            left = np.asarray(unscored(bank.store, scorer, label, psi, z_seeds), np.int64)
            for piece in _by_shard(bank, label, psi, left):
                frame = judge.scores(bank, label, psi, piece, done.within)
                frame.insert(0, "z_seed", piece)
                write_scores(bank.store, scorer, label, psi, frame, held)
                done.add(len(piece))


class ProgressCounter:
    """Counts finished images; the total grows when reals have to be processed too."""

    def __init__(self, told: Advance = lambda done, wanted: None, wanted: int = 0) -> None:
        self._told, self._wanted, self._done = told, wanted, 0

    def more(self, count: int) -> None:
        """Add images to the total."""
        self._wanted += count

    def add(self, count: int) -> None:
        """Count finished images and report progress."""
        self._done += count
        self._told(self._done, self._wanted)

    def within(self, count: int) -> None:
        """Report images in progress, which `add` counts later."""
        self._told(self._done + count, self._wanted)


def judge_of(
    scorer: Scorer, dataset: Dataset, how: ScoreOptions, progress: ProgressCounter
) -> Judge:
    """Return the judge that computes a scorer's columns, cached for the next call."""
    device = device_of(how.device)
    key = (scorer.digest, device, str(how.discriminators))
    if key not in _judges:
        if scorer_of(scorer.name, dataset, how).digest != scorer.digest:
            raise UserError(
                f"The scorer {scorer.folder} no longer matches its files: a network or the "
                "dataset has changed. Start again."
            )
        while len(_judges) >= _HELD:
            _judges.pop(next(iter(_judges)))
        _judges[key] = _made(scorer.name, dataset, how, device, progress)
    return _judges[key]


def _made(
    name: str, dataset: Dataset, how: ScoreOptions, device: str, progress: ProgressCounter
) -> Judge:
    from fgaug.quality.features.networks import load_network

    if name == "discriminator":
        return network_scorers.Discriminators(how.discriminators, device)
    if name == "classifier" and how.judge is not None:
        return keras_judge.KerasJudge(
            keras_judge.file_at(how.classifier), how.judge, dataset, device
        )
    kept = _kept(how) if name == "classifier" else None
    if kept is not None:
        return network_scorers.KeptClassifier(dataset, kept, device)
    reals = training_part(dataset).images.count
    if name == "features":
        reals += heldout_part(dataset).images.count
    progress.more(reals)
    judge: Judge
    if name == "features":
        network = load_network(how.features, device)
        judge = FeatureJudge(dataset, network, K_REALISM, K_DENSITY, ALPHA, progress.within)
    else:
        network = load_network(network_scorers.PACKAGED, device)
        judge = PackagedClassifier(dataset, network, progress.within)
    progress.add(reals)
    return judge


def _kept(how: ScoreOptions) -> SavedModel | None:
    """Return the trained classifier to score with; None for the packaged one."""
    if how.baseline is None:
        return network_scorers.kept_classifier(how.classifier)
    kept = saved_model.read(how.baseline.file)
    if kept.card.cell_id != how.baseline.cell_id:
        raise UserError(
            f"{how.baseline.file} holds the cell {kept.card.cell_id}, not the baseline "
            f"{how.baseline.cell_id}. Remove its trial's folder and search again."
        )
    return kept


def device_of(asked: str) -> str:
    """Return the requested device, or refuse one that is not available."""
    from fgaug.core.devices import usable_device

    if asked != "auto":
        return str(usable_device(asked))
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _by_shard(bank: Bank, label: str, psi: float, z_seeds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the z_seeds of each shard, in the given order."""
    which, _, _ = bank.locate(label, psi, z_seeds)
    for number in np.unique(which):
        yield z_seeds[which == number]


def check_fits(bank: Bank, label: str, dataset: Dataset) -> None:
    """Refuse a dataset with which a bank's fakes of a label cannot be compared."""
    spec, images = bank.spec, dataset.spec
    if label not in images.labels:
        raise DataError(
            f"{dataset.place} has no label {label}; its labels are {', '.join(images.labels)}. "
            "Score the bank with the dataset of its reals."
        )
    if (spec.size, spec.channels) != (images.size, images.channels):
        raise BankError(
            f"{bank.store.place()} has images of {spec.size} px and {spec.channels} channels, "
            f"{dataset.place} of {images.size} px and {images.channels}. Use a dataset prepared "
            "at the bank's size."
        )
