"""Presets: public sets whose tables and folders are known by heart."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fgaug.data.folders.tree import SKIP_THEM, read_tree
from fgaug.data.ingest import Ingested, add_boxes, from_csv, ingested
from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.data.reading.squares import Box
from fgaug.data.tables.label_table import LabelColumns, read_labels
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")
PRESETS = ("bus-bra", "fetal-planes", "busi")
_CROPS = "crops_128"
_WHOLE = ("images_128", "Images")
_PUBLISHED = ("Images", "images_128")  # crops are best made from the pixels as published
_PLANES_TABLE = "FETAL_PLANES_DB_data.csv"
_PLANES = {"Trans-thalamic": "dbp", "Trans-ventricular": "trv"}  # labels of the thesis
_OTHER_PLANES = ("Trans-cerebellum", "Other", "Not A Brain")
_BUSI_LABELS = ("benign", "malignant", "normal")


def read_preset(
    name: str,
    source: str | Path,
    *,
    images: str | None = None,
    margin: float | None = None,
    keep_labels: Sequence[str] = (),
    skip_unread: bool = False,
) -> Ingested:
    """Return the rows of the set that one of PRESETS names; see the functions below."""
    if name == "bus-bra":
        return bus_bra(source, images=images, margin=margin, keep_labels=keep_labels)
    if name == "fetal-planes":
        return fetal_planes(source, images=images or "Images", keep_labels=keep_labels)
    if images is not None:
        raise DataError("--preset busi takes no --images: its folders are its labels. Drop it.")
    return busi(source, keep_labels=keep_labels, skip_unread=skip_unread)


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


def fetal_planes(
    source: str | Path, *, images: str = "Images", keep_labels: Sequence[str] = ()
) -> Ingested:
    """Return two brain planes of FETAL_PLANES_DB (Burgos-Artizzu et al. 2020), by patient.

    Trans-thalamic is `dbp`, trans-ventricular `trv`; other planes are left out. The nearest public
    set to the thesis's, not the same: whole images, and fewer. Its column `Train ` splits the
    patients in two, without validation images; it is not used, the split is drawn as for any set.

    Args:
        source: folder with the table and a folder of images.
        images: that folder's name.
        keep_labels: of `dbp` and `trv`.
    """
    source = Path(source)
    table, folder = source / _PLANES_TABLE, source / images
    there = {_PLANES_TABLE: table.is_file(), f"folder {images}": folder.is_dir()}
    if lacking := [name for name, found in there.items() if not found]:
        raise DataError(
            f"{source} holds no {' and no '.join(lacking)}. Give the folder that FETAL_PLANES_DB "
            f"unpacks to, with {_PLANES_TABLE} and the folder Images."
        )
    _check_planes(table, keep_labels)
    rows = from_csv(
        table,
        folder,
        image_col="Image_name",
        label_col="Brain_plane",
        group_col="Patient_num",
        stratum_cols=("Operator", "US_Machine"),
        rename_strata=("operator", "machine"),
        keep_labels=[p for p, label in _PLANES.items() if label in keep_labels or not keep_labels],
        rename_labels=_PLANES,
    )
    counts = rows.table["label"].value_counts().sort_index()
    here = ", ".join(f"{count} {label}" for label, count in counts.items())
    _LOG.warning(
        f"FETAL_PLANES_DB has {here}, as whole images; the thesis had 5311 dbp and 3436 trv of "
        "its own, cropped to the brain. Results are not to be compared with its tables."
    )
    return rows


def _check_planes(table: Path, keep_labels: Sequence[str]) -> None:
    """Refuse labels that the preset does not give, and planes that the set does not have."""
    labels = list(_PLANES.values())
    problems = [
        f'the preset has no label "{label}"{nearest(label, labels)}'
        for label in keep_labels
        if label not in labels
    ]
    columns = LabelColumns(image="Image_name", label="Brain_plane")
    found = read_labels(table, columns, (), [])["label"].dropna()  # from_csv tells of its rows
    known = (*_PLANES, *_OTHER_PLANES)
    if unknown := sorted(set(found) - set(known)):
        problems.append(
            f"Brain_plane has unknown planes: {listed(unknown)}. The set has {listed(known)}"
        )
    refuse(str(table), problems)


def busi(
    source: str | Path, *, keep_labels: Sequence[str] = (), skip_unread: bool = False
) -> Ingested:
    """Return the images of BUSI (Al-Dhabyani et al. 2020): `benign/benign (1).png` and its kin.

    Masks are left out. There are no patients, so every image is its own group; and there are
    copies (Pawlowska et al. 2023 count 235 of 780 images, 8 lesions under two labels), so that
    `prepare` groups what looks alike unless it is told otherwise.

    Args:
        source: folder with one folder a label.
        keep_labels: of `benign`, `malignant` and `normal`.
        skip_unread: leave out images of formats that are not read, instead of refusing.
    """
    source = Path(source)
    problems = [
        f'BUSI has no label "{label}"{nearest(label, _BUSI_LABELS)}'
        for label in keep_labels
        if label not in _BUSI_LABELS
    ]
    refuse(str(source), problems)
    labels = [label for label in _BUSI_LABELS if label in keep_labels or not keep_labels]
    if lacking := [label for label in labels if not (source / label).is_dir()]:
        raise DataError(
            f"{source} holds no folder {' and no folder '.join(lacking)}. Give the folder of BUSI "
            f"(Dataset_BUSI_with_GT) that has the folders {listed(_BUSI_LABELS)}."
        )
    if len(labels) < 2:
        raise DataError(f"Two labels or more are needed, --keep-label names {labels[0]} alone.")
    tree = read_tree(source)
    problems += tree.report(cure="", way_out=SKIP_THEM, skip=skip_unread)
    rows = [(source / path, path.parts[0]) for path in tree.images if path.parts[0] in labels]
    if other := [path for path in tree.images if path.parts[0] not in _BUSI_LABELS]:
        _LOG.warning(
            "Left out %s outside the folders %s: %s.",
            counted(len(other), "image"),
            listed(_BUSI_LABELS),
            listed(other),
        )
    strange = [
        path.relative_to(source).as_posix()
        for path, label in rows
        if not re.fullmatch(rf"{label} \(\d+\)", path.stem)
    ]
    if strange:
        problems.append(
            f"{counted(len(strange), 'file')} of another name than `benign (1).png`: "
            f"{listed(strange)}. Read other sets with --folders"
        )
    empty = [label for label in labels if label not in {label for _, label in rows}]
    problems += [f'no image in the folder "{label}"' for label in empty]
    refuse(str(source), problems)
    table = pd.DataFrame({"label": [x for _, x in rows], "path": [path for path, _ in rows]})
    return ingested(table, source, (), {"kind": "busi", "folder": source.name})


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
