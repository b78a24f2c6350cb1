"""Presets: public sets whose tables and folders are known by heart.  source folder -> ingest"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fgaug.data.images import Box
from fgaug.data.ingest import Ingested, add_boxes, from_csv
from fgaug.errors import DataError

_CROPS = "crops_128"
_WHOLE = ("images_128", "Images")
_PUBLISHED = ("Images", "images_128")  # crops are best made from the pixels as published


def bus_bra(
    source: str | Path,
    *,
    images: str | None = None,
    margin: float | None = None,
    keep_labels: Sequence[str] = (),
) -> Ingested:
    """Return the rows of BUS-BRA (Gomez-Flores et al. 2023): 1,875 images of 1,064 patients.

    Args:
        source: folder with `bus_data.csv` and a folder of images.
        images: that folder's name; by default the crops if they are there, else whole images.
        margin: add the box of the lesion, to be cropped with this margin.
        keep_labels: of `benign` and `malignant`.
    """
    source = Path(source)
    table = source / "bus_data.csv"
    if not table.is_file():
        raise DataError(
            f"{source} holds no bus_data.csv. Give the folder that BUS-BRA unpacks to."
        )
    folder = source / (images or _default_images(source, cropping=margin is not None))
    if margin is not None and folder.name == _CROPS:
        raise DataError(
            f"{folder} holds lesions that are cropped already. Leave out the crop margin, or give "
            "--images with the folder of whole images."
        )
    rows = from_csv(
        table,
        folder,
        image_col="ID",
        label_col="Pathology",
        group_col="Case",
        stratum_cols=("Device",),
        rename_strata=("device",),
        keep_labels=keep_labels,
    )
    return rows if margin is None else add_boxes(rows, _boxes(table))


def _default_images(source: Path, *, cropping: bool) -> str:
    names = _PUBLISHED if cropping else (_CROPS, *_WHOLE)
    for name in names:
        if (source / name).is_dir():
            return name
    raise DataError(f"{source} has none of the folders {', '.join(names)}. Give one by --images.")


def _boxes(table: Path) -> dict[str, Box]:
    """Return the lesion's box of each image, in pixels of the published images."""
    frame = pd.read_csv(table, usecols=["ID", "BBOX", "Width", "Height"])
    boxes = {}
    for name, width, height, text in zip(
        frame["ID"], frame["Width"], frame["Height"], frame["BBOX"], strict=True
    ):
        try:
            x, y, box_width, box_height = (float(number) for number in json.loads(text))
        except (TypeError, ValueError):
            raise DataError(
                f'{table}: BBOX of {name} must read "[x,y,w,h]", got {text}.'
            ) from None
        boxes[str(name).strip()] = Box(
            x=x, y=y, width=box_width, height=box_height, of_width=width, of_height=height
        )
    return boxes
