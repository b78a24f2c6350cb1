"""A scorer that is a classifier saved by Keras, such as the breast study's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgaug.bank import Bank
from fgaug.core import files, paths
from fgaug.core.node_cache import local_file
from fgaug.data import Dataset
from fgaug.errors import UserError
from fgaug.grid.space import JudgeNetwork
from fgaug.quality.features.of_bank import Done, no_progress
from fgaug.quality.scoring.feature_scorers import label_scores
from fgaug.training.keras.applications import check_name
from fgaug.training.keras.network_file import NetworkFile, read_network

_COLUMNS = ["sha256", "group"]  # of a record of training images


def file_at(place: str) -> Path:
    """Return the path of a judge's file; one given by URI is fetched with its record."""
    return local_file(place, UserError, (paths.TRAINED_ON,))


def identity(file: Path, judge: JudgeNetwork, dataset: Dataset) -> tuple[dict[str, Any], str]:
    """Return what determines a judge's scores, and a description of it.

    Raises:
        UserError: the file or its description does not fit the dataset.
    """
    found = read_network(file)
    size = check_fits(found, judge, dataset)
    content = {
        "keras": found.sha256,
        "labels": judge.labels,
        "model": judge.model,
        "scaling": judge.scaling,
        "size": size,
        "channels": dataset.spec.channels,
    }
    scaled = "pixels / 255" if judge.scaling == "unit" else "the model's own preprocessing"
    learnt = "recorded" if paths.record_of(file).is_file() else "unknown"
    words = (
        f"Keras {judge.model} {found.sha256[:12]}, outputs {', '.join(judge.labels)}, {size} px, "
        f"{scaled}; training images {learnt}"
    )
    return {"judge": content}, words


def check_fits(found: NetworkFile, judge: JudgeNetwork, dataset: Dataset) -> int:
    """Return the side of the judge's images in px, after checking it against the dataset.

    Raises:
        UserError: labels, outputs, size or channels do not fit, the model is unknown, or the
            judge was trained on validation or test images.
    """
    spec, outputs = dataset.spec, found.outputs
    problems = []
    unknown = check_name(judge.model)
    if unknown is not None:
        problems.append(unknown.replace("recipe.model", "judge.model"))
    if set(judge.labels) != set(spec.labels):
        problems.append(
            f"the judge's labels are {', '.join(judge.labels)}, the dataset's "
            f"{', '.join(spec.labels)}: name the same ones, in the order of the judge's outputs"
        )
    if outputs != len(judge.labels) and not (outputs == 1 and len(judge.labels) == 2):
        problems.append(
            f"it has {outputs} output{'s' * (outputs != 1)} for {len(judge.labels)} labels "
            f"({', '.join(judge.labels)})"
        )
    if found.size is not None and judge.size not in (None, found.size):
        problems.append(f"it takes images of {found.size} px, not of `size` {judge.size}")
    size = found.size or judge.size
    if size is None:
        problems.append(
            "it does not state the size of its images: give `judge.size` (--judge-size)"
        )
    elif size != spec.size:
        problems.append(
            f"it takes images of {size} px, the dataset has {spec.size} px: prepare the dataset "
            f"with `--size {size}`, and a bank of that size"
        )
    if found.channels not in (None, 3):
        problems.append(
            f"it takes images of {found.channels} channels, the bodies of keras.applications 3 "
            "(grey images are repeated)"
        )
    problems += _leaks(found.path, dataset)
    if problems or size is None:
        raise UserError(
            f"{found.path} cannot judge the fakes of this dataset: " + "; ".join(problems) + "."
        )
    return size


def _leaks(file: Path, dataset: Dataset) -> list[str]:
    """Return the problem of a judge that was trained on held-out images, by its record if any."""
    record = paths.record_of(file)
    if not record.is_file():
        return []
    seen = files.read_table(record, UserError, _COLUMNS).to_pandas()
    held_out = dataset.manifest[dataset.manifest["split"] != "train"]
    images = held_out["sha256"].isin(seen["sha256"])
    patients = held_out["group"].astype(str).isin(seen["group"].astype(str))
    if not (images | patients).any():
        return []
    return [
        f"by its record {record} it was trained on {int((images | patients).sum())} validation or "
        "test images, or on others of their patients: use one trained on training images alone"
    ]


class KerasJudge:
    """A classifier saved by Keras, rebuilt in the TensorFlow process."""

    def __init__(self, file: Path, judge: JudgeNetwork, dataset: Dataset, device: str) -> None:
        import torch

        from fgaug.training.load_model import KerasFileNetwork

        found = read_network(file)
        self.labels = judge.labels
        self._network = KerasFileNetwork(
            found,
            model=judge.model,
            scaling=judge.scaling,
            size=check_fits(found, judge, dataset),
            channels=dataset.spec.channels,
            device=torch.device(device),
        )

    def scores(
        self, bank: Bank, label: str, psi: float, z_seeds: np.ndarray, done: Done = no_progress
    ) -> pd.DataFrame:
        """Return confidence, margin and agrees of fakes."""
        pixels = bank.read(label, psi, z_seeds.tolist())
        return label_scores(self.probabilities(pixels), self.labels.index(label))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return the probabilities of images, uint8 [N, H, W, C], in the judge's label order."""
        from fgaug.training.images import Images

        rows, none = np.arange(len(pixels)), np.zeros(len(pixels), np.int64)
        images = Images(sources=[pixels], source=none, row=rows, label=none)
        return self._network.predict(images)

    def agreement(self, dataset: Dataset) -> dict[str, float]:
        """Return the share of validation images assigned to their own label, by label."""
        held_out = np.flatnonzero(dataset.manifest["split"] == "valid")
        names = dataset.manifest["label"].to_numpy(object)[held_out]
        if not len(held_out):
            return {}
        found = self.probabilities(np.asarray(dataset.pixels()[held_out])).argmax(axis=1)
        right = np.asarray(self.labels, object)[found] == names
        return {
            label: float(right[names == label].mean())
            for label in dataset.spec.labels
            if (names == label).any()
        }
