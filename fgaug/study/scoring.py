"""Fakes scored, once each: what a bank lacks, shard by shard.

bank, dataset -> [scoring] -> judges -> the bank's scores/ -> filters, reports
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fgaug import saved
from fgaug.bank import Bank, Scorer, lock, unscored, write_scores
from fgaug.bank.scores import SCORERS, columns_of
from fgaug.data import Dataset
from fgaug.errors import BankError, DataError, UserError
from fgaug.progress import Advance
from fgaug.quality.scores import ALPHA, K_DENSITY, K_REALISM
from fgaug.saved import SavedModel
from fgaug.study import trained_judges
from fgaug.study.judges import FeatureJudge, PackagedClassifier, heldout_part, training_part

if TYPE_CHECKING:
    from fgaug.study.judges import Judge

VERSION = 1  # raised when the same files give other scores
_HELD = 2  # judges that stay in memory: a features and a classifier one
_judges: dict[tuple[str, str, str], Judge] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBaseline:
    """The baseline of a search that scores its own fakes: known before it is trained."""

    cell_id: str
    file: str  # where the search keeps it


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHow:
    """By what fakes are scored."""

    features: str = "lite0"  # see `fgaug.quality.features.load_network`
    classifier: str = "lite0"  # logistic regression on the packaged features, or model:FILE
    baseline: OwnBaseline | None = None  # instead of the classifier
    discriminators: tuple[tuple[str, str], ...] = ()  # label, network file of the bank's fakes
    device: str = "auto"  # all GPUs where there are some; cpu, cuda or cuda:1


DEFAULT = ScoreHow()


def scorer_of(name: str, dataset: Dataset, how: ScoreHow = DEFAULT) -> Scorer:
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


def _content(name: str, dataset: Dataset, how: ScoreHow) -> tuple[dict[str, Any], str]:
    """Return what a scorer's numbers follow from, and the same in words."""
    from fgaug.quality.features import network_label
    from fgaug.quality.training_filter import STRENGTH

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
    kept = trained_judges.kept_classifier(how.classifier)
    if kept is not None:
        trained_judges.check_baseline(kept, dataset)
        return {"model": kept.card.sha256}, f"kept classifier {kept.card.cell_id}"
    label, sha256 = network_label(trained_judges.PACKAGED)
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
    how: ScoreHow = DEFAULT,
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
        done = Count(progress, sum(map(len, lacking.values())))
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


class Count:
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


def judge_of(scorer: Scorer, dataset: Dataset, how: ScoreHow, progress: Count) -> Judge:
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


def _made(name: str, dataset: Dataset, how: ScoreHow, device: str, progress: Count) -> Judge:
    from fgaug.quality.features import load_network

    if name == "discriminator":
        return trained_judges.Discriminators(how.discriminators, device)
    kept = _kept(how) if name == "classifier" else None
    if kept is not None:
        return trained_judges.KeptClassifier(dataset, kept, device)
    reals = training_part(dataset).images.count
    if name == "features":
        reals += heldout_part(dataset).images.count
    progress.more(reals)
    judge: Judge
    if name == "features":
        network = load_network(how.features, device)
        judge = FeatureJudge(dataset, network, K_REALISM, K_DENSITY, ALPHA, progress.within)
    else:
        network = load_network(trained_judges.PACKAGED, device)
        judge = PackagedClassifier(dataset, network, progress.within)
    progress.add(reals)
    return judge


def _kept(how: ScoreHow) -> SavedModel | None:
    """Return the trained classifier that scores; None for the packaged one."""
    if how.baseline is None:
        return trained_judges.kept_classifier(how.classifier)
    kept = saved.read(how.baseline.file)
    if kept.card.cell_id != how.baseline.cell_id:
        raise UserError(
            f"{how.baseline.file} holds the cell {kept.card.cell_id}, not the baseline "
            f"{how.baseline.cell_id}. Remove its trial's folder and search again."
        )
    return kept


def device_of(asked: str) -> str:
    """Return the device that is meant, or refuse one that is not there."""
    from gan_worker.devices import usable_device

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
