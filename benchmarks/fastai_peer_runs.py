"""One training by fastai, or by this project with any of fastai's draws put into its loop.

images, job -> [fastai_peer_runs] -> a row.  Needs fastai, as does fastai_draws.py.

fastai draws from torch's global generator alone: the head's weights, then batch by batch the
augmentation and the dropout masks; the order of the images comes from the loader's own generator.
`record` lets fastai itself make these draws for a seed, around a network that costs nothing, and
keeps them: the head, the batches, and the generator's state before each batch's augmentation and
before its dropout. `train_fgaug` takes any of the four streams from there.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision import all as fastai
from fastai_peer_depthwise import speed_up
from fastai_peer_sets import LABELS, PeerSet
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from fgaug.core.seeding import stream_seed
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import weights
from fgaug.training.images import Images
from fgaug.training.pytorch.fastai_augment import fastai_transform, to_unit
from fgaug.training.pytorch.learner import TorchLearner

MODEL, BATCH = weights.LITE0, 64
RECIPE = Recipe(model=MODEL, batch_size=BATCH)
EVALUATED_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What names one run; its fields are columns of the table."""

    images: str
    size: int
    n_train: int
    n_valid: int
    epochs: int  # unfrozen, after one frozen
    patience: int  # of these epochs, without a lower validation loss
    program: str  # fastai, or fgaug
    head: str  # of fgaug: ours, or fastai's draws; likewise the next three
    dropout: str
    order: str
    augmentation: str
    seed: int

    @property
    def streams(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("head", "dropout", "order", "augmentation")}


@dataclass(slots=True)
class Draws:
    """What fastai drew for one seed."""

    head: list[torch.Tensor] = field(default_factory=list)  # tensors of the head's state, in order
    epochs: list[np.ndarray] = field(default_factory=list)  # row numbers of the training set
    augmentation: list[torch.Tensor] = field(default_factory=list)  # generator state, a step each
    dropout: list[torch.Tensor] = field(default_factory=list)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the batches of one pass after the other, without incomplete ones."""
        for rows in self.epochs:
            for start in range(0, len(rows) - BATCH + 1, BATCH):
                yield rows[start : start + BATCH]


def run(job: Job, images: PeerSet) -> dict[str, Any]:
    """Return the row of one training."""
    torch.set_num_threads(1)
    started, wall = time.process_time(), time.perf_counter()
    pixels = images.pixels()
    train = train_fastai if job.program == "fastai" else train_fgaug
    found = train(job, images, pixels)
    return {
        **asdict(job),
        **found,
        "cpu_s": round(time.process_time() - started, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
    }


def train_fastai(job: Job, images: PeerSet, pixels: np.ndarray) -> dict[str, Any]:
    """Train as the fetal-brain study did, by fastai's own calls, and return what was found."""
    with tempfile.TemporaryDirectory() as scratch:
        learner = _learner(job, images, Path(scratch))
        speed_up(learner.model[0])
        learner.add_cb(ChannelsLast())  # changes rounding only; a third less time on a processor
        losses: list[float] = []
        last: dict[str, torch.Tensor] = {}

        class Kept(fastai.Callback):
            order = 60  # after the recorder, before what may end the fit

            def after_epoch(self) -> None:
                losses.append(float(self.recorder.values[-1][1]))
                last.update(_copied(self.learn.model))

        stop = fastai.EarlyStoppingCallback("valid_loss", patience=job.patience)
        with learner.no_bar(), learner.no_logging():
            keep = fastai.SaveModelCallback()
            learner.fine_tune(job.epochs, freeze_epochs=1, cbs=[Kept(), stop, keep])
        model = learner.model.eval()

    def logits(batch: torch.Tensor) -> torch.Tensor:
        return model(((to_unit(batch) - 0.5) / 0.5).expand(-1, 3, -1, -1))

    return _judged(model, logits, last, images, pixels, losses)


def train_fgaug(job: Job, images: PeerSet, pixels: np.ndarray) -> dict[str, Any]:
    """Train by this project's loop, with the streams of draws that the job names."""
    draws = record(job, images) if "fastai" in job.streams.values() else Draws()
    learner = TorchLearner(RECIPE, LABELS, job.seed, "cpu")
    speed_up(learner.model.body)
    if job.head == "fastai":
        _put_head(learner.model.head, draws.head)
    if job.augmentation == "fastai":
        learner.augment = Recorded(draws.augmentation)
    training = learner.train(
        _images(images, pixels, "train"),
        _images(images, pixels, "valid"),
        Budget(unit="epochs", max=job.epochs, patience=job.patience),
        stream_seed(job.seed, "order"),
    )
    if job.order == "fastai":
        training.order = draws.batches()
    if job.dropout == "fastai":
        states = iter(draws.dropout)

        def seed_dropout(module: nn.Module, _: Any) -> None:
            if module.training:
                torch.set_rng_state(next(states))

        learner.model.head.register_forward_pre_hook(seed_dropout)
    losses, last = [], {}
    for point in training:
        losses.append(point.valid["loss"])
        last = _copied(learner.model)
    training.finish()
    model = learner.model.eval()
    return _judged(model, lambda batch: model(to_unit(batch)), last, images, pixels, losses)


class Recorded:
    """This project's augmentation, each batch drawn from a recorded place in fastai's stream."""

    def __init__(self, states: list[torch.Tensor]) -> None:
        self.states = iter(states)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator()
        generator.set_state(next(self.states))
        return fastai_transform(to_unit(batch), generator)


def record(job: Job, images: PeerSet) -> Draws:
    """Return what fastai draws for a seed; early stopping aside, which only cuts the list."""
    with tempfile.TemporaryDirectory() as scratch:
        learner = _learner(job, images, Path(scratch))
        draws = Draws(head=[value.clone() for value in learner.model[1].state_dict().values()])
        body = learner.model[0].model
        body.forward_features = Shapes(body.num_features)  # no draw depends on values
        watch(learner, draws)
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(job.epochs, freeze_epochs=1)
    return draws


def watch(learner: Any, draws: Draws) -> None:
    """Let a learner of fastai add to `draws` what it draws while it trains."""
    loader, drawn = learner.dls.train, learner.dls.train.get_idxs

    def get_idxs() -> list[int]:
        rows: list[int] = drawn()
        draws.epochs.append(np.array(rows))
        return rows

    class Recorder(fastai.Callback):
        def before_train(self) -> None:
            loader.get_idxs = get_idxs

        def after_train(self) -> None:
            loader.get_idxs = drawn

        def before_batch(self) -> None:
            if self.training:
                draws.dropout.append(torch.get_rng_state())

    class BeforeAugmentation(fastai.Transform):
        order, split_idx = 5, 0  # before every transform of batches; of training batches only

        def encodes(self, x: fastai.TensorImage) -> fastai.TensorImage:
            draws.augmentation.append(torch.get_rng_state())
            return x

    loader.after_batch.add(BeforeAugmentation())
    learner.add_cb(Recorder())


class Shapes:
    """Stands for a body: noise-free features of the right shape that gradients can pass."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.as_subclass(torch.Tensor).mean(dim=(1, 2, 3))
        return mean[:, None, None, None].expand(-1, self.channels, 2, 2)


def _learner(job: Job, images: PeerSet, scratch: Path) -> Any:
    """Return fastai's learner as the study's call makes it, weights from the package on disk."""
    file = scratch / "weights.pth"
    state = weights.read_state(weights.find(RECIPE).path)
    torch.save({weights.lite0_key(key): value for key, value in state.items()}, file)
    chosen = images.table[images.table["part"] != "rest"]
    frame = chosen.assign(
        label=[LABELS[label] for label in chosen["label"]], is_valid=chosen["part"] == "valid"
    ).reset_index(drop=True)
    fastai.set_seed(job.seed, reproducible=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script, which fastai uses, is deprecated
        loaders = fastai.ImageDataLoaders.from_df(
            frame,
            images.folder,
            fn_col="file",
            label_col="label",
            valid_col="is_valid",
            batch_tfms=fastai.aug_transforms(size=job.size),
            bs=BATCH,
            num_workers=0,
        )
        return fastai.vision_learner(
            loaders,
            MODEL,
            metrics=[fastai.accuracy, fastai.F1Score(average="macro"), fastai.RocAucBinary()],
            path=scratch,
            pretrained_cfg_overlay={"file": str(file)},
        )


def _put_head(head: nn.Module, tensors: list[torch.Tensor]) -> None:
    """Copy the state of fastai's head; both heads hold the same layers in the same order."""
    own = head.state_dict()
    head.load_state_dict(dict(zip(own, tensors, strict=True)))


def _images(images: PeerSet, pixels: np.ndarray, part: str) -> Images:
    rows = images.rows(part)
    label = images.table["label"].to_numpy()[rows]
    return Images(sources=[pixels], source=np.zeros(len(rows), np.int64), row=rows, label=label)


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _judged(
    model: nn.Module,
    logits: Callable[[torch.Tensor], torch.Tensor],
    last: dict[str, torch.Tensor],
    images: PeerSet,
    pixels: np.ndarray,
    losses: list[float],
) -> dict[str, Any]:
    """Return the row's findings: the kept weights and the last ones on all unseen images.

    Args:
        model: in evaluation mode, with the kept weights.
        logits: uint8 [n, 1, H, W] -> [n, 2], by `model`.
        last: state of the model after the last epoch.
        losses: validation loss of each epoch, the frozen one first.
    """
    part, label = images.table["part"].to_numpy(), images.table["label"].to_numpy()
    unseen = part != "train"
    valid = part[unseen] == "valid"
    batches = torch.from_numpy(pixels[unseen]).permute(0, 3, 1, 2).split(EVALUATED_AT_ONCE)

    def probability() -> np.ndarray:
        with torch.inference_mode():
            found = [logits(batch).double().softmax(dim=1)[:, 1] for batch in batches]
        return torch.cat(found).numpy()

    true, kept = label[unseen], probability()
    model.load_state_dict(last)
    return {
        "auc": round(float(roc_auc_score(true, kept)), 6),
        "last_auc": round(float(roc_auc_score(true, probability())), 6),
        "valid_auc": round(float(roc_auc_score(true[valid], kept[valid])), 6),
        "valid_loss": round(float(log_loss(true[valid], kept[valid])), 6),
        "best_epoch": 1 + int(np.argmin(losses[1:])),
        "epochs_run": len(losses),
        "losses": " ".join(f"{loss:.5f}" for loss in losses),  # of validation, an epoch each
    }
