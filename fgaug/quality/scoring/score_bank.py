"""Fakes scored, once each: what a bank lacks, shard by shard."""

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
from fgaug.quality.scoring import network_scorers
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
_HELD = 2  # judges that stay in memory: a features and a classifier one
_judges: dict[tuple[str, str, str], Judge] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBaseline:
    """The baseline of a search that scores its own fakes: known before it is trained."""

    cell_id: str
    file: str  # where the search keeps it


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """By what fakes are scored."""

    features: str = "lite0"  # see `fgaug.quality.features.networks.load_network`
    classifier: str = "lite0"  # logistic regression on the packaged features, or model:FILE
    baseline: OwnBaseline | None = None  # instead of the classifier
    discriminators: tuple[tuple[str, str], ...] = ()  # label, network file of the bank's fakes
    device: str = "auto"  # all GPUs where there are some; cpu, cuda or cuda:1


DEFAULT = ScoreOptions()


def scorer_of(name: str, dataset: Dataset, how: ScoreOptions = DEFAULT) -> Scorer:
    """Return a scorer without scoring: its digest names all that its numbers follow from.

    Args:
        name: `features`, `classifier` or `discriminator`.
        dataset: whose training images it knows, as its split divides it.
        how: the device does not count.

    Raises:
        UserError: an unknown name, or networks that cannot be had.
        DataError: a label without training image.
    """
    content, words = _content(name, dataset, how)
    told = json.dumps({"scorer": name, "version": VERSION, **content}, sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()
    return Scorer(name, digest, columns_of(name), words)


def _content(name: str, dataset: Dataset, how: ScoreOptions) -> tuple[dict[str, Any], str]:
    """Return what a scorer's numbers follow from, and the same in words."""
    from fgaug.quality.features.networks import network_label
    from fgaug.quality.snapshots.training_filter import STRENGTH

    if name == "discriminator":  # the bank says whose: it mixes no snapshots of a label
        return {"group_size": 1}, "the snapshot's discriminator, images one by one"
    if name not in SCORERS:
        raise UserError(f"--scorer is {', '.join(SCORERS)} or all, got {name}.")
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
    if how.baseline is not None:  # its cell is named by all that its numbers follow from
        return {"baseline": how.baseline.cell_id}, f"the baseline {how.baseline.cell_id}"
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
    """Score those of `z_seeds` that have no scores yet, holding the bank for writing.

    Each shard's part is written when it is known, so that an interrupted scoring goes on.

    Args:
        bank: holds all of them.
        scorers: as `scorer_of` gives them for this dataset and `how`.
        label: of all.
        psi: of all.
        z_seeds: in any order.
        dataset: whose training images the scorers know.
        progress: told (images done, images wanted), reals included; an image counts once a scorer.
        how: by what.

    Raises:
        BankError: the bank lacks some of them, is of other images than the dataset's, or was taken
            over by another writer.
        UserError: networks that cannot be had, or are not those that the scorers name.
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
            # asked again: who held the bank until now may have scored some
            left = np.asarray(unscored(bank.store, scorer, label, psi, z_seeds), np.int64)
            for piece in _by_shard(bank, label, psi, left):
                frame = judge.scores(bank, label, psi, piece, done.within)
                frame.insert(0, "z_seed", piece)
                write_scores(bank.store, scorer, label, psi, frame, held)
                done.add(len(piece))


class ProgressCounter:
    """Images done of those wanted, which become more when reals must be looked at too."""

    def __init__(self, told: Advance = lambda done, wanted: None, wanted: int = 0) -> None:
        self._told, self._wanted, self._done = told, wanted, 0

    def more(self, count: int) -> None:
        """Take in images that are wanted too."""
        self._wanted += count

    def add(self, count: int) -> None:
        """Count images that are done."""
        self._done += count
        self._told(self._done, self._wanted)

    def within(self, count: int) -> None:
        """Tell of images that `add` counts later."""
        self._told(self._done + count, self._wanted)


def judge_of(
    scorer: Scorer, dataset: Dataset, how: ScoreOptions, progress: ProgressCounter
) -> Judge:
    """Return what gives a scorer's columns, kept for the next call."""
    device = device_of(how.device)
    key = (scorer.digest, device, str(how.discriminators))
    if key not in _judges:
        if scorer_of(scorer.name, dataset, how).digest != scorer.digest:
            raise UserError(
                f"The scorer {scorer.folder} is not the one of these files now. A network or "
                "the dataset changed meanwhile; start again."
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
    """Return the trained classifier that scores; None for the packaged one."""
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
    """Return the device that is meant, or refuse one that is not there."""
    from fgaug.core.devices import usable_device

    if asked != "auto":
        return str(usable_device(asked))
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _by_shard(bank: Bank, label: str, psi: float, z_seeds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the z_seeds of each shard, in the order asked."""
    which, _, _ = bank.locate(label, psi, z_seeds)
    for number in np.unique(which):
        yield z_seeds[which == number]


def check_fits(bank: Bank, label: str, dataset: Dataset) -> None:
    """Refuse a dataset that a bank's fakes of a label cannot be held against."""
    spec, images = bank.spec, dataset.spec
    if label not in images.labels:
        raise DataError(
            f"{dataset.root} has no label {label}; its labels are {', '.join(images.labels)}. "
            "Score the bank by the dataset of its reals."
        )
    if (spec.size, spec.channels) != (images.size, images.channels):
        raise BankError(
            f"{bank.store.place()} has images of {spec.size} px, {spec.channels} channels, "
            f"{dataset.root} of {images.size} px, {images.channels}. Score it by a dataset "
            "prepared in the bank's size."
        )
