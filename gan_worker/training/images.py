"""Select training images, serve them in batches, and record them beside snapshots.

The record `<snapshot>.trained_on.parquet` lets later searches check for leakage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from fgaug.core import files
from fgaug.core.paths import record_of
from fgaug.core.seeding import Stream, permutation
from fgaug.data import Dataset
from fgaug.data.problems import counted, nearest, refuse
from fgaug.data.unlabelled import JoinedPixels
from fgaug.errors import DataError, SnapshotError
from gan_worker.training.sampler import Sampler

MIN_IMAGES = 8  # per label; a network would only memorise fewer
EVERY_LABEL = "all"  # the class of a network that learns from all images, with and without label
RECORD = ["sha256", "group", "label"]  # columns of a record; the leakage check reads the first two
RESIDENT_BYTES = 4 << 30  # a GPU keeps up to this many bytes of pixels, copied once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingImages:
    """N real images, ordered by content; pixels stay memory-mapped."""

    labels: tuple[str, ...]  # the index of a label is its class, as in the dataset
    pixels: np.ndarray | JoinedPixels  # uint8 [rows of the dataset, H, W, C], memory-mapped
    rows: np.ndarray  # int64 [N], rows of the images
    classes: np.ndarray  # int64 [N]
    # one row per image: image_id, sha256, group, label (empty where there is none) and, if an
    # image has a pseudo-label, `pseudo`
    table: pd.DataFrame
    flagged: bool  # only images with the gan flag, as the dataset has some
    dropped: int  # images excluded by a drop list
    dataset_digest: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size_px(self) -> int:
        """Side of the images in px."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return int(self.pixels.shape[3])

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each label."""
        each = np.bincount(self.classes, minlength=len(self.labels)).tolist()
        return dict(zip(self.labels, each, strict=True))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Return copies of images by number (0 to N - 1), uint8 [n, H, W, C]."""
        return np.asarray(self.pixels[self.rows[numbers]])


class TrainingBatches:
    """Batches of images in training order, in the networks' format, on one device."""

    def __init__(
        self,
        images: TrainingImages,
        *,
        seed: int,
        mirror: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.images, self.device = images, torch.device(device)
        self.sampler = Sampler(count=len(images), seed=seed, mirror=mirror)
        self._classes = torch.tensor(images.classes)  # a copy, as pandas arrays are read-only
        self._resident = self._copied() if self.device.type == "cuda" else None

    def batch(self, position: int, size: int) -> tuple[Tensor, Tensor]:
        """Return the images from a position on, and their classes.

        Args:
            position: number of images shown before, which alone determines the batch.
            size: size of the whole batch; processes that share it select their rows.

        Returns:
            Images, float32 [size, C, H, W] in [-1, 1], and classes, int64 [size].
        """
        numbers, mirrored = self.sampler.at(position, size)
        images = self._pixels(numbers).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        if mirrored.any():
            flip = torch.from_numpy(mirrored).to(self.device)[:, None, None, None]
            images = torch.where(flip, images.flip(3), images)
        return images.contiguous(), self._classes[torch.from_numpy(numbers)].to(self.device)

    def labels(self, generator: torch.Generator, count: int) -> Tensor:
        """Return the classes of randomly drawn images, int64 [count], for generating fakes."""
        drawn = torch.randint(len(self.images), (count,), generator=generator)
        return self._classes[drawn].to(self.device)

    def _pixels(self, numbers: np.ndarray) -> Tensor:
        if self._resident is not None:
            return self._resident[torch.from_numpy(numbers).to(self.device)]
        return torch.from_numpy(self.images.take(numbers)).to(self.device)

    def _copied(self) -> Tensor | None:
        """Return all pixels on the device, or None if they do not fit."""
        every = len(self.images) * int(np.prod(self.images.pixels.shape[1:]))
        if every > RESIDENT_BYTES:
            return None
        return torch.from_numpy(self.images.take(np.arange(len(self.images)))).to(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A part of each label's training images, of whole patients.

    Patients come in one seeded order per label, so a smaller subset is part of a larger one.
    """

    amount: float  # images of each label; below 1, a share of them
    seed: int = 0

    def of(self, label: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the first patients that have `amount` images or just above."""
        wanted = max(1, round(self.amount * len(rows))) if self.amount < 1 else int(self.amount)
        groups = sorted(rows["group"].unique())
        order = permutation(self.seed, Stream.GAN_PATIENTS, label, len(groups))
        sizes = rows.groupby("group").size()
        reached = np.cumsum([int(sizes[groups[number]]) for number in order])
        count = int(np.searchsorted(reached, wanted)) + 1
        return rows[rows["group"].isin([groups[number] for number in order[:count]])]

    def problems(self, labels: Sequence[str], chosen: pd.Series[str]) -> list[str]:
        """Return the labels that have too few images."""
        return [
            f"--images {self.amount:g} is more than the {int((chosen == label).sum())} training "
            f'images of label "{label}". Lower it, or omit it to use all of them'
            for label in labels
            if self.amount >= 1 and self.amount > (chosen == label).sum()
        ]


def training_images(
    dataset: Dataset,
    labels: Sequence[str],
    *,
    drop: Collection[str] = (),
    subset: Subset | None = None,
) -> TrainingImages:
    """Return the training images for networks of these labels, or report every problem.

    These are the training images with the gan flag, or all if none has one.

    Args:
        dataset: the dataset, possibly with another split (`Dataset.with_split`).
        labels: one, or several for a conditional network.
        drop: SHA-256 of images to exclude; see `fgaug.data.drop_list`. May include images of other
            labels.
        subset: selects a part of the images that remain; None for all.

    Raises:
        DataError: a label is unknown, images are too few, networks cannot have their size, or the
            drop list belongs to other images.
    """
    spec, manifest = dataset.spec, dataset.manifest
    train = manifest[manifest["split"] == "train"]
    flagged = bool(train["gan"].any())
    seen = train[train["gan"]] if flagged else train
    listed = seen["sha256"].isin(drop)
    chosen = seen[~listed & seen["label"].isin(labels)]
    chosen = chosen.sort_values(["label", "sha256", "image_id"])  # independent of file names
    of_labels = tuple(label for label in spec.labels if label in labels)  # alphabetical
    every = chosen["label"]
    if subset is not None and len(chosen):
        parts = (subset.of(str(label), rows) for label, rows in chosen.groupby("label"))
        chosen = pd.concat(list(parts))
    dropped = listed & seen["label"].isin(labels)
    problems = [
        *_wrong_labels(spec.labels, labels),
        *_wrong_size(spec.size),
        *_foreign(drop, seen["sha256"]),
        *(subset.problems(of_labels, every) if subset is not None else ()),
        *_too_few(of_labels, chosen["label"], flagged, seen.loc[dropped, "label"]),
    ]
    refuse(f"{dataset.place} cannot train this network", problems)
    return TrainingImages(
        labels=of_labels,
        pixels=dataset.pixels(),
        rows=chosen.index.to_numpy(np.int64),
        classes=chosen["label"].map(of_labels.index).to_numpy(np.int64),
        table=chosen[["image_id", "sha256", "group", "label"]].reset_index(drop=True),
        flagged=flagged,
        dropped=int(dropped.sum()),
        dataset_digest=spec.digest,
    )


def all_training_images(
    dataset: Dataset, *, drop: Collection[str] = (), subset: Subset | None = None
) -> TrainingImages:
    """Return the training images of all labels and those without a label, as one class.

    Images without a label follow their patients: those of validation and test patients are left
    out.

    Args:
        dataset: the dataset, possibly with another split.
        drop: SHA-256 of images with a label to exclude.
        subset: selects a part of the images with a label; None for all.

    Raises:
        DataError: the dataset has no images without a label, or see `training_images`.
    """
    images = training_images(dataset, dataset.spec.labels, drop=drop, subset=subset)
    rest = _usable(dataset)
    return _joined(images, dataset, rest.assign(pseudo=False), (EVERY_LABEL,))


def with_pseudo_labels(
    images: TrainingImages, dataset: Dataset, pseudo: Mapping[str, str]
) -> TrainingImages:
    """Return the images and those without a label whose pseudo-label is one of theirs.

    Images of validation and test patients are left out.

    Args:
        images: the training images of some labels.
        dataset: the dataset that they come from, with the same split.
        pseudo: the label by SHA-256.
    """
    rest = _usable(dataset)
    labels = rest["sha256"].map(pseudo)
    return _joined(
        images,
        dataset,
        rest.assign(label=labels, pseudo=True)[labels.isin(images.labels)],
        images.labels,
    )


def _usable(dataset: Dataset) -> pd.DataFrame:
    """Return the rows without a label that networks may see, ordered by content."""
    if dataset.unlabelled is None:
        raise DataError(
            f"{dataset.place} has no images without a label. Prepare it with --unlabelled keep, "
            "or omit --unlabelled and --pseudo-labels."
        )
    rest = dataset.unlabelled.manifest
    return rest[rest["split"] == "train"].sort_values(["sha256", "image_id"])


def _joined(
    images: TrainingImages, dataset: Dataset, rest: pd.DataFrame, labels: tuple[str, ...]
) -> TrainingImages:
    """Return training images followed by rows without a label, which have the column `pseudo`."""
    assert dataset.unlabelled is not None
    one = labels == (EVERY_LABEL,)
    classes = np.zeros(len(rest), np.int64)
    if not one:
        classes = np.array([labels.index(label) for label in rest["label"]], np.int64)
    further = rest[["image_id", "sha256", "group", "label", "pseudo"]]
    table = pd.concat([images.table.assign(pseudo=False), further], ignore_index=True)
    return replace(
        images,
        labels=labels,
        pixels=JoinedPixels(dataset.pixels(), dataset.unlabelled.pixels()),
        rows=np.concatenate([images.rows, len(dataset) + rest.index.to_numpy(np.int64)]),
        classes=np.concatenate(
            [np.zeros_like(images.classes) if one else images.classes, classes]
        ),
        table=table if table["pseudo"].any() else table.drop(columns="pseudo"),
    )


def write_trained_on(snapshot: Path, images: TrainingImages, start: Path | None = None) -> Path:
    """Write the record of a network's training images beside its file; return its path.

    Args:
        snapshot: the network's file, which need not exist yet: the record is written first, so
            that no network is ever without one.
        images: its training images.
        start: the network that its training started from, whose record is included.

    Raises:
        SnapshotError: the record of `start` cannot be read.
    """
    record, seen = record_of(snapshot), _recorded(images)
    if start is not None and record_of(start).is_file():
        earlier = files.read_table(record_of(start), SnapshotError).to_pandas()
        seen = _both(seen, earlier)
    _write(record, seen)
    return record


def write_record(path: Path, images: TrainingImages) -> None:
    """Write SHA-256, group (keeping its type) and label of every image atomically."""
    _write(path, _recorded(images))


def _recorded(images: TrainingImages) -> pd.DataFrame:
    """Return the columns of a record; `pseudo` marks labels that a classifier proposed."""
    return images.table[[*RECORD, *(["pseudo"] if "pseudo" in images.table else [])]]


def _write(path: Path, seen: pd.DataFrame) -> None:
    files.write_table(path, pa.Table.from_pandas(seen, preserve_index=False))


def _both(seen: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """Combine two records; groups become text if only one record has numbers."""
    if "pseudo" in earlier or "pseudo" in seen:
        seen, earlier = (
            each if "pseudo" in each else each.assign(pseudo=False) for each in (seen, earlier)
        )
    earlier = earlier.reindex(columns=seen.columns)
    if earlier["group"].dtype != seen["group"].dtype:
        seen, earlier = (each.astype({"group": str}) for each in (seen, earlier))
    return pd.concat([seen, earlier]).drop_duplicates(["sha256", "group"], ignore_index=True)


def _wrong_labels(known: Sequence[str], asked: Sequence[str]) -> list[str]:
    if not asked:
        return [f"no label is given. Choose from: {', '.join(known)}"]
    unknown = [label for label in dict.fromkeys(asked) if label not in known]
    return [f'no label "{label}"{nearest(label, known)}' for label in unknown]


def _wrong_size(size: int) -> list[str]:
    if size & (size - 1) == 0:
        return []
    below = 1 << (size.bit_length() - 1)
    return [
        f"the side of a network must be a power of two, but the images have {size} px. Prepare "
        f"the dataset with --size {below} or {2 * below}"
    ]


def _foreign(drop: Collection[str], known: pd.Series[str]) -> list[str]:
    unknown = sorted(set(drop) - set(known))
    if not unknown:
        return []
    return [
        f"the drop list names {counted(len(unknown), 'image')} that are not training images of "
        f"this dataset (SHA-256 {unknown[0][:12]}{' and others' * (len(unknown) > 1)}). It "
        "belongs to another dataset or split: create one with `fgaug gan filter`"
    ]


def _too_few(
    labels: Sequence[str], chosen: pd.Series[str], flagged: bool, dropped: pd.Series[str]
) -> list[str]:
    problems = []
    for label in labels:
        found, gone = int((chosen == label).sum()), int((dropped == label).sum())
        if found < MIN_IMAGES:
            problems.append(
                f'label "{label}" has {counted(found, "training image")}'
                f"{' with gan flag' * flagged}{f' after {gone} were dropped' * bool(gone)}, at "
                f"least {MIN_IMAGES} are needed. Add images, or drop fewer"
            )
    return problems
