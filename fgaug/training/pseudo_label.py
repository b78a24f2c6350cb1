"""Propose labels for images without one, by a saved classifier: `fgaug data pseudo-label`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.core.files import write_text
from fgaug.data import open_dataset
from fgaug.data.pseudo_labels import ACCEPTED, LABEL, SHA256
from fgaug.errors import DataError
from fgaug.training import saved_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """The proposed labels, and what the same bound gives on images with a known label."""

    table: pd.DataFrame  # one row per image; see `propose`
    left_out: int  # images of validation and test patients
    checked: int  # validation images with a label
    reached: int  # those of them that reach the bound
    correct: int  # those that also have the right label


def propose(
    model: Path, dataset: Path, out: Path, *, bound: float, device: str = "cpu"
) -> Proposed:
    """Write a table with a proposed label for each image without one, and return it.

    Only images of training patients (under the split that the model was trained with) get one,
    since no network may learn from others.

    Args:
        model: the `model.safetensors` that a run kept, its card beside it.
        dataset: folder of the dataset with images without a label (`--unlabelled keep`).
        out: a new CSV file: image, group, sha256, pseudo_label, confidence (its probability),
            accepted (whether it reaches the bound), and p_<label> of every label.
        bound: lowest confidence of an accepted label, above chance and at most 1.
        device: cpu or cuda.

    Raises:
        UserError: the model does not fit the dataset, or there is nothing to label.
    """
    from fgaug.core.devices import usable_device
    from fgaug.training.images import Images
    from fgaug.training.load_model import load_predictor
    from fgaug.training.predict import check_fits

    if out.exists():
        raise DataError(f"--out {out} exists. Choose another name, or remove it first.")
    kept = saved_model.read(model)
    opened = open_dataset(dataset)
    card, labels = kept.card, opened.spec.labels
    if not 1 / len(labels) < bound <= 1:
        raise DataError(
            f"--bound must be above chance (1 in {len(labels)} labels) and at most 1, got "
            f"{bound:g}. Try 0.95."
        )
    if opened.unlabelled is None:
        raise DataError(
            f"{dataset} has no images without a label. Prepare it with --unlabelled keep."
        )
    if tuple(card.labels) != labels:
        raise DataError(
            f"The model knows the labels {', '.join(card.labels)}, and the dataset has "
            f"{', '.join(labels)}. Give a model that was trained on this dataset."
        )
    check_fits(card, opened)
    if card.dataset_digest != opened.spec.digest:
        raise DataError(
            f"The model was trained on another dataset (digest {card.dataset_digest[:12]}; this "
            f"one is {opened.spec.digest[:12]}), so it may have seen validation patients of this "
            "one. Give a model of a run on this dataset."
        )
    opened = opened.with_split(card.split)
    assert opened.unlabelled is not None
    rest, valid = opened.unlabelled, opened.manifest["split"] == opened.evaluated
    network = load_predictor(kept, usable_device(device))

    def probabilities(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        none = np.zeros(len(rows), np.int64)
        images = Images(sources=[pixels], source=none, row=rows, label=none)
        return np.asarray(network.predict(images))

    rows = np.flatnonzero(rest.manifest["split"] == "train")
    if not len(rows):
        raise DataError(f"No image without a label in {dataset} is of a training patient.")
    found = probabilities(rest.pixels(), rows)
    table = rest.manifest.iloc[rows][["image_id", "group", "sha256"]].reset_index(drop=True)
    table = table.rename(columns={"image_id": "image", "sha256": SHA256})
    table[LABEL] = np.asarray(labels, object)[found.argmax(axis=1)]
    table["confidence"] = found.max(axis=1)
    table[ACCEPTED] = table["confidence"] >= bound
    for index, label in enumerate(labels):
        table[f"p_{label}"] = found[:, index]
    write_text(out, table.to_csv(index=False))
    check = probabilities(opened.pixels(), np.flatnonzero(valid))
    truth = opened.manifest.loc[valid, "label"].map(labels.index).to_numpy()
    sure = check.max(axis=1) >= bound
    return Proposed(
        table=table,
        left_out=len(rest) - len(rows),
        checked=len(truth),
        reached=int(sure.sum()),
        correct=int((sure & (check.argmax(axis=1) == truth)).sum()),
    )
