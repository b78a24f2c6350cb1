"""Predict images with a saved classifier."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fgaug.core.paths import DatasetPaths, without_secrets
from fgaug.core.store import is_uri
from fgaug.errors import DataError
from fgaug.training import saved_model
from fgaug.training.saved_model import Card, SavedModel

if TYPE_CHECKING:
    import torch

    from fgaug.core.progress import Advance
    from fgaug.data import Dataset
    from fgaug.data.reading.loading import LoadedImages
    from fgaug.training.learner import Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """A label table of the images to predict, and the names of its columns."""

    csv: Path
    image_col: str
    label_col: str
    group_col: str | None = None  # patients; if None, every image counts as a patient


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    split: str | None = None,
    device: str = "cpu",
    skip_broken: bool = False,
    progress: Advance | None = None,
    table: LabelTable | None = None,
) -> pd.DataFrame:
    """Return a saved classifier's probabilities, one row per image.

    Images are read, converted to the model's size and channels, and normalised as in training.

    Args:
        model: a `model.safetensors`, its card `model.json` beside it.
        images: a folder, image files, or a dataset folder written by `fgaug data prepare`.
        split: split of a prepared dataset: valid (default) or train; the test set is sealed.
        device: cpu or cuda.
        skip_broken: skip broken files, and in a folder images of unsupported formats, with a
            warning instead of refusing them.
        progress: called with (files read, total).
        table: label table of the images in a folder, with labels and patients.

    Returns:
        Columns image, predicted and p_<label> of each label; for a prepared dataset or a table
            also label, and group (the patient) if patients are known.

    Raises:
        UserError: a file is not a model, images cannot be used, or the test set is requested.
    """
    from fgaug.core.devices import usable_device

    kept = saved_model.read(model)
    given = [images] if isinstance(images, (str, Path)) else list(images)
    roots = [Path(each) for each in given if not is_uri(each)]
    prepared = [each for each in given if is_uri(each)]
    prepared += [root for root in roots if DatasetPaths(root).spec.is_file()]
    if table is not None:
        if len(given) != 1 or prepared:
            raise DataError("--csv needs exactly one image folder. Give only that folder.")
        return _of_table(kept, table, roots[0], usable_device(device), skip_broken, progress)
    if prepared:
        if len(given) > 1:
            place = without_secrets(str(prepared[0]))
            raise DataError(f"{place} is a prepared dataset. Give it without other images.")
        chosen = _checked(split or "valid")
        return _of_dataset(kept, prepared[0], chosen, usable_device(device))
    if split is not None:
        raise DataError(
            f"--split {split} works only with a prepared dataset. Omit --split, or give a "
            "dataset folder."
        )
    return _of_files(
        kept, _files(roots, skip_broken), usable_device(device), skip_broken, progress
    )


def _of_dataset(
    kept: SavedModel, root: str | Path, split: str, device: torch.device
) -> pd.DataFrame:
    from fgaug.data import open_dataset
    from fgaug.training.images import split_images
    from fgaug.training.load_model import load_predictor

    dataset = open_dataset(root)
    check_fits(kept.card, dataset)
    if dataset.spec.digest == kept.card.dataset_digest:
        dataset = dataset.with_split(kept.card.split)  # not the prepared split
        # a model of a fold is evaluated on that fold; its validation images chose its weights
        split = dataset.evaluated if split == "valid" else split
    images = split_images(dataset, split)
    if not len(images):
        raise DataError(f"{dataset.place} has no images in its {split} split.")
    rows = dataset.manifest[dataset.manifest["split"] == split]
    found = load_predictor(kept, device).predict(images)
    frame = _frame(kept.card, rows["image_id"], found)
    frame.insert(1, "label", rows["label"].to_numpy())
    if not dataset.manifest["group"].astype(str).eq(dataset.manifest["image_id"]).all():
        frame.insert(2, "group", rows["group"].to_numpy())  # otherwise patients are unknown
    return frame


def _of_table(
    kept: SavedModel,
    table: LabelTable,
    images: Path,
    device: torch.device,
    skip_broken: bool,
    progress: Advance | None,
) -> pd.DataFrame:
    from fgaug.data.ingest import from_csv

    named = from_csv(table.csv, images, table.image_col, table.label_col, table.group_col)
    rows = named.table.set_index("image_id")
    files = [file.path for file in named.files]
    by_path = dict(zip(map(str, files), named.table["image_id"], strict=True))
    frame = _of_files(kept, files, device, skip_broken, progress)
    frame["image"] = frame["image"].map(by_path)
    frame.insert(1, "label", rows.loc[frame["image"], "label"].to_numpy())
    if table.group_col is not None:
        frame.insert(2, "group", rows.loc[frame["image"], "group"].to_numpy())
    return frame


def _of_files(
    kept: SavedModel,
    files: list[Path],
    device: torch.device,
    skip_broken: bool,
    progress: Advance | None,
) -> pd.DataFrame:
    from fgaug.data.reading.loading import ImageFile, load_images
    from fgaug.training.load_model import load_predictor

    network = load_predictor(kept, device)
    if kept.card.crop_margin is not None:
        raise DataError(
            "The model was trained on images cropped to a box (margin "
            f"{kept.card.crop_margin:g}), and image files have no boxes. Prepare them like its "
            "dataset with `fgaug data prepare`, and give that folder."
        )
    loaded = load_images(
        [ImageFile(name=str(path), path=path) for path in files],
        size=kept.card.size,
        channels=kept.card.channels,
        skip_broken=skip_broken,
        progress=progress,
    )
    try:
        found = np.concatenate(list(_in_blocks(network, loaded)))
    finally:
        loaded.close()
    return _frame(kept.card, itertools.compress(map(str, files), loaded.kept), found)


def _in_blocks(network: Predictor, loaded: LoadedImages) -> Iterator[np.ndarray]:
    """Yield probabilities block by block, so that memory use is bounded."""
    from fgaug.training.images import Images

    for pixels in loaded.blocks():
        row, none = np.arange(len(pixels)), np.zeros(len(pixels), np.int64)
        images = Images(sources=[pixels], source=none, row=row, label=none)
        yield network.predict(images)


def _files(roots: list[Path], skip_unread: bool) -> list[Path]:
    """Return the given image files and those below the given folders.

    In folders, masks and similar files are skipped, and unsupported files are counted.
    """
    from fgaug.data.folders.tree import SKIP_THEM, read_tree
    from fgaug.data.problems import listed, refuse

    gone = [str(root) for root in roots if not root.exists()]
    if gone:
        raise DataError(f"{listed(gone)}: no such file or folder.")
    found: list[Path] = []
    for root in roots:
        if root.is_dir():
            tree = read_tree(root)
            cure = "Give the files themselves to predict them"
            refuse(str(root), tree.report(cure=cure, way_out=SKIP_THEM, skip=skip_unread))
            found += [root / path for path in tree.images]
        else:
            found.append(root)
    if not found:
        raise DataError("There are no images to predict. Give image files, or a folder of images.")
    return list(dict.fromkeys(found))


def _checked(split: str) -> str:
    if split == "test":
        raise DataError("The test set is sealed. Give --split valid or train.")
    if split not in ("valid", "train"):
        raise DataError(f"--split must be valid or train, got {split}.")
    return split


def check_fits(card: Card, dataset: Dataset) -> None:
    """Refuse a dataset that was prepared differently from the model's training images."""
    spec = dataset.spec
    margin = spec.crop["margin"] if spec.crop is not None else None
    pairs = {
        "size": (card.size, spec.size),
        "channels": (card.channels, spec.channels),
        "crop margin": (card.crop_margin, margin),
        "resize filter": (card.resize_filter, spec.resize_filter),
    }
    off = [f"{name} {a}, the dataset {b}" for name, (a, b) in pairs.items() if a != b]
    if off:
        raise DataError(
            f"The model was trained with {'; '.join(off)}. Prepare the images like its training "
            "images."
        )


def _frame(card: Card, names: Iterable[str], probability: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"image": list(names)})
    frame["predicted"] = np.asarray(card.labels, object)[probability.argmax(axis=1)]
    for index, label in enumerate(card.labels):
        frame[f"p_{label}"] = probability[:, index]
    return frame
