"""Export training images for the official programs, as a folder or a zip of PNG files."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fgaug.core import files, paths
from fgaug.data import open_dataset
from fgaug.data.drop_list import read_drops
from fgaug.errors import DataError

if TYPE_CHECKING:
    from gan_worker.training.images import TrainingImages

BATCH = 256  # images read at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip
Progress = Callable[[int, int], None]  # images written, total
Entry = tuple[str, bytes]  # name in the folder or zip, content


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The result of `export_training_images`."""

    out: Path
    record: Path  # the images and patients; to be kept beside networks trained on them
    counts: dict[str, int]  # images by label, in the order of classes
    dropped: int


def export_training_images(
    folder: Path,
    labels: list[str],
    out: Path,
    *,
    drop: Path | None = None,
    split: int | str = "dataset",
    progress: Progress = lambda done, wanted: None,
) -> Exported:
    """Export the training images of these labels for `fgaug gan export`.

    The same images give the same bytes: files are numbered by label and content, zip entries have
    a constant date, and PNG data is not compressed, as compressors differ.

    Args:
        folder: folder of a prepared dataset.
        labels: one, or several for a conditional network, with the classes in `dataset.json`.
        out: a new folder, or a new file `*.zip`.
        drop: a drop list of `fgaug gan filter`.
        split: split of the training images: `dataset`, or the seed of a redrawn one.
        progress: called with (images written, total).

    Raises:
        DataError: `out` exists, or the images cannot train a network.
        DiskFullError: no space left; nothing is left behind.
    """
    from gan_worker.training.images import training_images, write_record

    zipped = out.suffix.lower() == ".zip"
    # beside it; dots in a folder's name are not a suffix
    record = out.absolute().with_name(
        (out.stem if zipped else out.absolute().name) + paths.TRAINED_ON
    )
    _check_out(out, zipped, record)
    dropped = read_drops(drop).images if drop else ()
    images = training_images(open_dataset(folder).with_split(split), labels, drop=dropped)
    try:
        write_record(record, images)  # first: without it, the patients would be unknown
        with files.disk_errors(out):
            (_write_zip if zipped else _write_folder)(out, _entries(images, progress))
    except BaseException:
        record.unlink(missing_ok=True)
        raise
    return Exported(out=out, record=record, counts=images.counts, dropped=images.dropped)


def _check_out(out: Path, zipped: bool, record: Path) -> None:
    if record.exists():
        raise DataError(
            f"{record} exists: it is the record of another export. Give another --out, or remove "
            "it."
        )
    if out.is_dir() and not zipped:
        if any(out.iterdir()):
            raise DataError(f"--out {out} is not empty. Give a new folder, or a new file *.zip.")
    elif out.exists():
        raise DataError(f"--out {out} exists. Give a new folder, or a new file *.zip.")


def _entries(images: TrainingImages, progress: Progress) -> Iterator[Entry]:
    """Yield the entries to write, sorted by name."""
    names = [f"img{number:08d}.png" for number in range(len(images))]
    if len(images.labels) > 1:  # one label needs no classes, and older tools expect only PNG
        pairs = list(map(list, zip(names, images.classes.tolist(), strict=True)))
        described = {"labels": pairs, "classes": list(images.labels)}
        yield "dataset.json", json.dumps(described).encode()
    for first in range(0, len(images), BATCH):
        numbers = np.arange(first, min(first + BATCH, len(images)))
        for number, pixels in zip(numbers, images.take(numbers), strict=True):
            yield names[number], _png(pixels)
        progress(int(numbers[-1]) + 1, len(images))


def _png(pixels: np.ndarray) -> bytes:
    """Encode uint8 [H, W, C] as PNG, mode L or RGB."""
    encoded = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(encoded, "PNG", compress_level=0)
    return encoded.getvalue()


def _write_zip(out: Path, entries: Iterator[Entry]) -> None:
    with files.atomic_write(out) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, data in entries:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16  # as on Unix, on all platforms
            file.writestr(info, data, zipfile.ZIP_STORED)


def _write_folder(out: Path, entries: Iterator[Entry]) -> None:
    """Write a folder under a temporary name, and rename it when complete."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        for name, data in entries:
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)
        temporary.replace(out)  # replaces an empty folder
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
