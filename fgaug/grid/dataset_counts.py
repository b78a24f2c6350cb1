"""Image counts in a grid, for dry runs on a machine without the dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, model_validator

from fgaug.grid.recipe import Frozen

Count = Annotated[int, Field(strict=True, ge=0)]


class LabelCounts(Frozen):
    """Images of one label, by split and gan flag."""

    train_gan: Count = 0  # training images that the GAN was trained on
    train_no_gan: Count = 0  # training images that the GAN was not trained on
    valid: Annotated[int, Field(strict=True, ge=1)]
    test: Count = 0

    @model_validator(mode="after")
    def _some_to_train_on(self) -> LabelCounts:
        if not self.train_gan + self.train_no_gan:
            raise ValueError("has no training images; give `train_gan` or `train_no_gan`")
        return self


class DatasetCounts(Frozen):
    """Image counts of an absent dataset, used by `--dry-run` only; patients are unknown."""

    source: Annotated[str, Field(min_length=1)]  # publication of the counts
    size: Annotated[int, Field(strict=True, ge=1)]  # px
    channels: Literal[1, 3] = 1
    labels: Annotated[dict[str, LabelCounts], Field(min_length=2)]

    def rows(self) -> pd.DataFrame:
        """Return a manifest with that many images, each its own group and without pixels."""
        rows = [
            {"label": label, "split": split, "gan": gan}
            for label, of in sorted(self.labels.items())
            for split, gan, count in _parts(of)
            for _ in range(count)
        ]
        table = pd.DataFrame(rows)
        names = pd.Series([f"{place:09d}" for place in range(len(rows))])
        return table.assign(image_id=names, group=names, sha256=names, source="")

    def differences(self, manifest: pd.DataFrame) -> list[str]:
        """Return the differences between a dataset and these counts, one line each."""
        labels = sorted({*self.labels, *manifest["label"]})
        expected, actual = _counted(self.rows(), labels), _counted(manifest, labels)
        return [
            f"{actual[key]} {key[1]} of `{key[0]}` instead of {expected[key]}"
            for key in expected
            if actual[key] != expected[key]
        ]


def _parts(of: LabelCounts) -> Iterator[tuple[str, bool, int]]:
    yield "train", True, of.train_gan
    yield "train", False, of.train_no_gan
    yield "valid", False, of.valid
    yield "test", False, of.test


def _counted(manifest: pd.DataFrame, labels: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return the numbers of training, ratio base, validation and test images of each label."""
    train = manifest["split"] == "train"
    # ratios refer to training images with the gan flag, or to all if no image has it
    counted = train & manifest["gan"] if (train & manifest["gan"]).any() else train
    kinds = {
        "training images": train,
        "training images that ratios multiply": counted,
        "validation images": manifest["split"] == "valid",
        "test images": manifest["split"] == "test",
    }
    return {
        (label, kind): int((which & (manifest["label"] == label)).sum())
        for label in labels
        for kind, which in kinds.items()
    }
