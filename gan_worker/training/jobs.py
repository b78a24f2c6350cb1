"""Train one or several networks."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fgaug.core import cluster, contact_sheet
from fgaug.core.files import sha256_of
from fgaug.data import open_dataset
from fgaug.data.drop_list import read_drops
from fgaug.data.problems import counted
from fgaug.data.pseudo_labels import accepted_labels
from fgaug.errors import UserError

if TYPE_CHECKING:
    from gan_worker.training.launch import Job
    from gan_worker.training.loop import Tick

CONDITIONAL = "conditional"  # folder of a conditional network
LOOK_S = 5.0  # between reads of the logs of trainings that run as tasks
COLUMNS = 8  # of a sheet
_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """The arguments of `fgaug gan train`."""

    dataset: Path
    out: Path
    labels: Sequence[str] = ()  # empty: every label of the dataset
    preset: str = "auto"
    changes: Mapping[str, Any] | None = None  # options that differ from the preset
    sweep: Mapping[str, Sequence[Any]] | None = None  # values by option; one training each
    conditional: bool = False
    start: Path | None = None
    drop: Path | None = None
    augment: str | None = None  # a key of options.AUGMENTATION; None: the preset's
    images: float | None = None  # of each label, or a share below 1; None: all of them
    unlabelled: bool = False  # one network on all labels and the images without a label
    pseudo_labels: Path | None = None  # table of `fgaug data pseudo-label`
    split: int | str = "dataset"
    device: str = "auto"
    gpus: int = 1  # GPUs that share one network's batch


def jobs_of(asked: TrainRequest) -> list[Job]:
    """Return the trainings: one per label, or one for all, for each combination of the sweep.

    Raises:
        UserError: labels or options are unknown, or option values are invalid.
    """
    import torch

    from gan_worker.training.folder import TrainingFolder
    from gan_worker.training.images import EVERY_LABEL
    from gan_worker.training.launch import Job
    from gan_worker.training.options import augmented, resolve
    from gan_worker.training.precision import settled

    if asked.images is not None and not asked.images > 0:
        raise UserError(f"--images must be above 0, got {asked.images:g}.")
    if asked.images is not None and asked.images >= 1 and asked.images != int(asked.images):
        raise UserError(f"--images must be a whole number or a share below 1, got {asked.images}.")
    named = {*(asked.changes or {}), *(asked.sweep or {})} & {"augment", "ada_target", "p"}
    if asked.augment is not None and named:
        raise UserError(
            f"--augment {asked.augment} sets {', '.join(sorted(named))}, which --set or --sweep "
            "sets too. Drop one of them."
        )
    dataset = open_dataset(asked.dataset)
    spec = dataset.spec
    labels = list(asked.labels) or list(spec.labels)
    groups = [tuple(labels)] if asked.conditional else [(label,) for label in labels]
    if asked.conditional and len(labels) < 2:
        raise UserError(f"--conditional needs at least two labels, got {', '.join(labels)}.")
    if asked.unlabelled and (asked.conditional or asked.labels or asked.pseudo_labels):
        raise UserError(
            "--unlabelled trains one network on all labels and the images without one. Omit "
            "--label, --conditional and --pseudo-labels, or omit --unlabelled."
        )
    if asked.unlabelled:
        groups = [(EVERY_LABEL,)]
    pseudo: tuple[tuple[str, str], ...] = ()
    pseudo_file = None
    if asked.pseudo_labels is not None:
        accepted = accepted_labels(asked.pseudo_labels, dataset)
        pseudo = tuple(sorted(accepted.items()))
        pseudo_file = sha256_of(asked.pseudo_labels)
    drops = read_drops(asked.drop) if asked.drop else None
    device = asked.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    jobs = []
    for group, point in itertools.product(groups, _points(asked.sweep or {})):
        options = resolve(
            asked.preset,
            resolution=spec.size,
            img_channels=spec.channels,
            labels=len(group) if asked.conditional else 0,
            gpus=asked.gpus,
            transfer=asked.start is not None,
            changes={**augmented(asked.preset, asked.augment), **(asked.changes or {}), **point},
        )
        name = CONDITIONAL if asked.conditional else group[0]
        place = (
            asked.out / name / ",".join(f"{key}={_text(value)}" for key, value in point.items())
        )
        job = Job(
            options=settled(options, TrainingFolder(place), device),
            dataset=str(asked.dataset),
            split=asked.split,
            labels=group,
            out=str(place),
            start=str(asked.start) if asked.start else None,
            drop=tuple(sorted(drops.images)) if drops else (),
            drop_file=drops.sha256 if drops else None,
            amount=asked.images,
            unlabelled=asked.unlabelled,
            pseudo=pseudo,
            pseudo_file=pseudo_file,
            device=device,
            processes=asked.gpus,
        )
        jobs.append(job)
    return jobs


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value).lower()


def option_of(name: str, text: str) -> Any:
    """Convert the value of a training option to its type; unknown options stay text."""
    from gan_worker.training.options import TrainingOptions

    kinds = {field.name: str(field.type) for field in fields(TrainingOptions)}
    kind, text = kinds.get(name, "str"), text.strip()
    try:
        if text.lower() in _WORDS and ("bool" in kind or "None" in kind):
            return _WORDS[text.lower()]
        if kind == "int":
            return int(text)
        return float(text) if "float" in kind else text
    except ValueError:
        raise UserError(f"{name} must be a number ({kind}), got {text}.") from None


def train(jobs: Sequence[Job], console: Console) -> bool:
    """Train networks, one here or several as Ray tasks; return whether all finished.

    Each resumes from the state in its folder. Ctrl-C stops them and keeps their states.
    """
    from gan_worker.training.launch import begin, run

    for job in jobs:
        if len(jobs) > 1:  # report all problems before any training starts
            begin(job, draw)
        console.print(told(job), highlight=False, markup=False, soft_wrap=True)
    if len(jobs) > 1:
        return _as_tasks(jobs, console)
    with _interrupted() as stop:
        return run(jobs[0], draw, _Lines(jobs[0], console), stop)


def told(job: Job) -> str:
    """Return all options of a training and its number of images, for the terminal.

    Raises:
        UserError: the dataset lacks the labels, the split or the images of the training.
    """
    numbers = ", ".join(f"{name} {value}" for name, value in asdict(job.options).items())
    part = "" if job.amount is None else f", images {job.amount:g} of each label"
    part += ", with images without a label" if job.unlabelled else ""
    part += ", with pseudo-labels" if job.pseudo_file is not None else ""
    part += f", {counted(len(job.images()), 'training image')}"
    head = f"{job.out}: {' and '.join(job.labels)}{part}, {job.device} x{job.processes}"
    return f"{head}\n  {numbers}"


def draw(images: np.ndarray, path: Path) -> None:
    """Write images as one picture, COLUMNS per row."""
    rows = [images[first : first + COLUMNS] for first in range(0, len(images), COLUMNS)]
    block = contact_sheet.Block(
        heading="",
        rows=("",) * len(rows),
        columns=("",) * min(COLUMNS, len(images)),
        images=lambda: rows,
    )
    size, channels = images.shape[1], images.shape[3]
    contact_sheet.save(contact_sheet.draw([[block]], size, channels, "fewer images"), path)


class _Lines:
    """Prints the progress of one training line by line; picklable."""

    def __init__(self, job: Job, console: Console | None = None) -> None:
        self.name, self.end = job.out, job.options.kimg
        self.console = console

    def __call__(self, tick: Tick) -> None:
        console = self.console or Console(stderr=True)
        console.print(
            f"{self.name}: {line_of(asdict(tick), self.end)}", highlight=False, soft_wrap=True
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "end": self.end, "console": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def line_of(tick: Mapping[str, Any], end: int) -> str:
    """Format a line of a training's log."""
    losses = tick["losses"]
    named = " ".join(f"{name} {losses[name]:.3f}" for name in losses)
    kept = f", wrote {tick['snapshot']}" if tick.get("snapshot") else ""
    return (
        f"{tick['kimg']:.1f} of {end} kimg, {tick['s_per_kimg']:.1f} s/kimg, "
        f"{tick['left_s'] / 60:.0f} min left, p {tick['p']:.3f}, {named}{kept}"
    )


@contextmanager
def _interrupted() -> Iterator[Any]:
    """Yield a function that returns whether Ctrl-C was pressed; a second press ends at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def note(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _task(job: Job) -> bool:
    """Train one network in a separate process."""
    from gan_worker.training.launch import run

    return run(job, draw, _silent)


def _silent(_: Tick) -> None:
    """Print nothing, as the log has it."""


def _as_tasks(jobs: Sequence[Job], console: Console) -> bool:
    """Train networks in parallel, as many as there are devices."""
    gpus = jobs[0].processes if jobs[0].device != "cpu" else 0
    shown = {job.out: -1.0 for job in jobs}

    def look() -> None:
        for job in jobs:
            _tell_new(job, shown, console)

    with cluster.started(dashboard=False) as held:
        if gpus > held.gpus:
            raise UserError(f"--gpus {gpus} is more than the {held.gpus:g} of this cluster.")
        return all(cluster.map_tasks(_task, jobs, gpus=gpus, waiting=look, look_s=LOOK_S))


def _tell_new(job: Job, shown: dict[str, float], console: Console) -> None:
    """Print the lines that a training has logged since the last call."""
    from gan_worker.training.folder import TrainingFolder, entries

    for entry in entries(TrainingFolder(Path(job.out)), float("inf")):
        if entry["kimg"] > shown[job.out]:
            shown[job.out] = entry["kimg"]
            console.print(
                f"{job.out}: {line_of(entry, job.options.kimg)}", highlight=False, soft_wrap=True
            )


def _points(sweep: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return each combination of a sweep's values; a single empty one without a sweep."""
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
