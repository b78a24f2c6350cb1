"""Start one network's training from dataset and options, in one or several processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from fgaug.core.devices import usable_device
from fgaug.data import open_dataset
from fgaug.errors import UserError
from gan_worker.files.snapshot import identity_of
from gan_worker.training.distributed import Together
from gan_worker.training.folder import TrainingFolder, check_same, write_options
from gan_worker.training.images import (
    Subset,
    TrainingBatches,
    TrainingImages,
    all_training_images,
    training_images,
    with_pseudo_labels,
)
from gan_worker.training.loop import Loop, Tick
from gan_worker.training.options import TrainingOptions
from gan_worker.training.trainer import Trainer
from gan_worker.training.transfer import start_from

Sheet = Callable[[np.ndarray, Path], None]  # writes images, uint8 [N, H, W, C], as a picture
Tell = Callable[[Tick], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The specification of one training; picklable."""

    options: TrainingOptions
    dataset: str  # folder
    split: int | str  # `dataset`, or the seed of a redrawn split
    labels: tuple[str, ...]  # one, or those of a conditional network
    out: str  # folder of the training
    start: str | None = None  # network file to start from
    drop: tuple[str, ...] = ()  # SHA-256 of images to exclude
    drop_file: str | None = None  # digest of the list
    amount: float | None = None  # images of each label, or a share below 1; None: all of them
    unlabelled: bool = False  # one network on all labels and the images without a label
    pseudo: tuple[tuple[str, str], ...] = ()  # pairs (SHA-256, pseudo-label) of accepted images
    pseudo_file: str | None = None  # digest of their table
    device: str = "cpu"
    processes: int = 1  # one per GPU; they share the batch

    @property
    def facts(self) -> dict[str, Any]:
        """Return everything besides the options that determines the results."""
        return {
            "labels": list(self.labels),
            "start": identity_of(self.start) if self.start else None,
            "split": self.split,
            "drop": self.drop_file,
            **({} if self.amount is None else {"amount": self.amount}),
            **({"unlabelled": True} if self.unlabelled else {}),
            **({} if self.pseudo_file is None else {"pseudo_labels": self.pseudo_file}),
        }

    def images(self) -> TrainingImages:
        """Return the network's training images."""
        dataset = open_dataset(Path(self.dataset)).with_split(self.split)
        subset = None
        if self.amount is not None:
            subset = Subset(amount=self.amount, seed=self.options.seed)
        if self.unlabelled:
            return all_training_images(dataset, drop=self.drop, subset=subset)
        images = training_images(dataset, self.labels, drop=self.drop, subset=subset)
        if self.pseudo_file is None:
            return images
        return with_pseudo_labels(images, dataset, dict(self.pseudo))


def run(job: Job, draw: Sheet, tell: Tell, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train a network or resume its training; return False if it was stopped early.

    Args:
        job: the training.
        draw: writes pictures of fakes and reals.
        tell: called once per thousand images shown.
        stop: polled between iterations; not used with several processes.
    """
    images = begin(job, draw)
    if job.processes == 1:
        return _train(job, images, draw, tell, stop, Together())
    with tempfile.TemporaryDirectory() as meeting:
        place = f"file://{meeting}/meeting"
        spawn(_process, args=(job, draw, tell, place), nprocs=job.processes)  # type: ignore[no-untyped-call]  # untyped in torch
    return True


def begin(job: Job, draw: Sheet) -> TrainingImages:
    """Write options and the sheet of reals before the training starts, or check existing ones.

    Raises:
        UserError: the folder contains another training, or the batch cannot be divided.
    """
    options, folder = job.options, TrainingFolder(Path(job.out))
    group = min(options.group_size, options.batch)
    if options.batch % (group * job.processes):
        raise UserError(
            f"`batch` must be a multiple of {job.processes} processes x {group} images per group, "
            f"got {options.batch}. Change batch or group_size."
        )
    images = job.images()
    facts = {**job.facts, "dataset": images.dataset_digest, "images": images.counts}
    facts["dropped"] = images.dropped
    if folder.options.is_file():
        check_same(folder, options, facts)
        return images
    folder.root.mkdir(parents=True, exist_ok=True)
    number = min(len(images), 32)
    chosen = np.linspace(0, len(images) - 1, number).astype(np.int64)
    draw(images.take(chosen), folder.reals)
    write_options(folder, options, facts)
    return images


def _process(rank: int, job: Job, draw: Sheet, tell: Tell, place: str) -> None:
    """Train as one of several processes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # communication stays on this machine
    on_gpu = job.device.startswith("cuda")
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=place, rank=rank, world_size=job.processes
    )
    if not on_gpu:
        torch.set_num_threads(max(1, torch.get_num_threads() // job.processes))
    try:
        together = Together(rank, job.processes)
        _train(job, job.images(), draw, tell, lambda: False, together)
    finally:
        dist.destroy_process_group()


def _train(
    job: Job,
    images: TrainingImages,
    draw: Sheet,
    tell: Tell,
    stop: Callable[[], bool],
    together: Together,
) -> bool:
    options, folder = job.options, TrainingFolder(Path(job.out))
    name = f"cuda:{together.rank}" if job.processes > 1 and job.device == "cuda" else job.device
    device = usable_device(name)
    batches = TrainingBatches(images, seed=options.seed, mirror=options.mirror, device=device)
    trainer = Trainer(options, batches, device, together)
    if job.start and not folder.state.is_file():
        for fact in start_from(trainer, job.start):
            if together.first:
                _note(folder, fact)
    loop = Loop(
        trainer=trainer,
        folder=folder,
        draw=lambda pictures, kimg: draw(pictures, folder.sheet(kimg)),
        tell=_logged(folder, tell) if together.first else tell,
        stop=stop,
        start=Path(job.start) if job.start else None,
    )
    return loop.run()


def _note(folder: TrainingFolder, fact: str) -> None:
    """Record a fact about the start beside the options."""
    with (folder.root / "start.txt").open("a", encoding="utf-8") as file:
        file.write(f"{fact}\n")


def _logged(folder: TrainingFolder, tell: Tell) -> Tell:
    """Wrap `tell` to also write TensorBoard events."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder.events))

    def told(tick: Tick) -> None:
        numbers = {**asdict(tick), **{f"loss/{k}": v for k, v in tick.losses.items()}}
        for name, value in numbers.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, global_step=round(tick.kimg * 1000))
        writer.flush()
        tell(tick)

    return told
