"""Counts: how many images a dataset has that is not at hand, as a grid gives them."""

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
    train_no_gan: Count = 0  # training images that it was not
    valid: Annotated[int, Field(strict=True, ge=1)]
    test: Count = 0

    @model_validator(mode="after")
    def _some_to_train_on(self) -> LabelCounts:
        if not self.train_gan + self.train_no_gan:
            raise ValueError("give `train_gan` or `train_no_gan`: a label without training images")
        return self


class DatasetCounts(Frozen):
    """What is known of a dataset that cannot be had, for `--dry-run` alone; no patients."""

    source: Annotated[str, Field(min_length=1)]  # where the counts are printed
    size: Annotated[int, Field(strict=True, ge=1)]  # px
    channels: Literal[1, 3] = 1
    labels: Annotated[dict[str, LabelCounts], Field(min_length=2)]

    def rows(self) -> pd.DataFrame:
        """Return a manifest of so many images, each its own group and none with pixels."""
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
        """Return where a dataset is another than these counts say, one line a difference."""
        labels = sorted({*self.labels, *manifest["label"]})
        given, found = _told(self.rows(), labels), _told(manifest, labels)
        return [
            f"{found[key]} {key[1]} of `{key[0]}` instead of {given[key]}"
            for key in given
            if found[key] != given[key]
        ]


def _parts(of: LabelCounts) -> Iterator[tuple[str, bool, int]]:
    yield "train", True, of.train_gan
    yield "train", False, of.train_no_gan
    yield "valid", False, of.valid
    yield "test", False, of.test


def _told(manifest: pd.DataFrame, labels: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return how many images of each label train, are multiplied by ratios, validate and test."""
    train = manifest["split"] == "train"
    # as ratios count: those with gan flag, or all where no image has one
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
