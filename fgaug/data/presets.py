"""Read public datasets with known tables and folders."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fgaug.data.fetal_planes import DEFAULT_PLANES, fetal_planes
from fgaug.data.folders.tree import SKIP_THEM, read_tree
from fgaug.data.ingest import Ingested, add_folds, from_csv, ingested
from fgaug.data.problems import counted, listed, nearest, refuse, shortened
from fgaug.data.tables.box_columns import BoxColumns
from fgaug.data.tables.label_table import LabelColumns, read_labels
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")
PRESETS = ("bus-bra", "fetal-planes", "busi")
_CROPS = "crops_128"
_WHOLE = ("images_128", "Images")
_FOLDS = "5-fold-cv.csv"  # the published folds, by patient
_LESIONS = BoxColumns(names=("BBOX",), format="xywh", units="pixels", size=("Width", "Height"))
_PUBLISHED = ("Images", "images_128")  # crops are best made from the pixels as published
_BUSI_LABELS = ("benign", "malignant", "normal")


def read_preset(
    name: str,
    source: str | Path,
    *,
    images: str | None = None,
    margin: float | None = None,
    keep_labels: Sequence[str] = (),
    skip_unread: bool = False,
    fold_col: str | None = None,
    planes: Sequence[str] = (),
) -> Ingested:
    """Return the rows of the preset `name`, one of PRESETS; see the functions below."""
    if name == "bus-bra":
        return bus_bra(
            source, images=images, margin=margin, keep_labels=keep_labels, fold_col=fold_col
        )
    if fold_col is not None:
        raise DataError(
            f"--preset {name} comes without folds: only bus-bra has them. Omit --fold-col, or "
            "read the table with --csv."
        )
    if name == "fetal-planes":
        return fetal_planes(
            source,
            images=images or "Images",
            keep_labels=keep_labels,
            planes=planes or DEFAULT_PLANES,
        )
    if images is not None:
        raise DataError(
            "--preset busi takes no --images: its folders are its labels. Omit --images."
        )
    return busi(source, keep_labels=keep_labels, skip_unread=skip_unread)


def bus_bra(
    source: str | Path,
    *,
    images: str | None = None,
    margin: float | None = None,
    keep_labels: Sequence[str] = (),
    fold_col: str | None = None,
) -> Ingested:
    """Return the rows of BUS-BRA (Gomez-Flores et al. 2023): 1,875 images of 1,064 patients.

    Args:
        source: folder with `bus_data.csv` and a folder of images.
        images: name of that folder; by default the crops if present, else whole images.
        margin: add the lesion's box, for cropping with this margin.
        keep_labels: subset of `benign` and `malignant`.
        fold_col: column of `5-fold-cv.csv` with the published folds: `kFold`.
    """
    source = Path(source)
    table = source / "bus_data.csv"
    if not table.is_file():
        raise DataError(
            f"{source} does not contain bus_data.csv. Give the folder with the unpacked BUS-BRA "
            "dataset."
        )
    folder = source / (images or _default_images(source, cropping=margin is not None))
    if margin is not None and folder.name == _CROPS:
        raise DataError(
            f"{folder} contains lesions that are already cropped. Omit the crop margin, or give "
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
        box=_LESIONS if margin is not None else None,
    )
    if fold_col is not None:
        rows = add_folds(rows, _folds(source / _FOLDS, fold_col), fold_col)
    if margin is None:
        return rows
    _check_lesions(rows)
    # The set's boxes are known, so dataset.json does not describe them.
    plain = {name: value for name, value in rows.source.items() if name != "boxes"}
    return replace(rows, source=plain)


def _check_lesions(rows: Ingested) -> None:
    """Refuse boxes that leave the image whose size the table states: they belong to another."""
    boxes = [(file.name, file.box.problem()) for file in rows.files if file.box is not None]
    problems = [f"{name}: {problem}" for name, problem in boxes if problem is not None]
    refuse("Boxes to crop to", shortened(problems))


def busi(
    source: str | Path, *, keep_labels: Sequence[str] = (), skip_unread: bool = False
) -> Ingested:
    """Return the images of BUSI (Al-Dhabyani et al. 2020): `benign/benign (1).png` and so on.

    Masks are skipped. Patients are unknown, so every image is its own group. The dataset contains
    duplicates (Pawlowska et al. 2023 count 235 of 780 images, 8 lesions under two labels), so by
    default `prepare` groups near-duplicates.

    Args:
        source: folder with one subfolder per label.
        keep_labels: subset of `benign`, `malignant` and `normal`.
        skip_unread: skip images of unsupported formats instead of refusing them.
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
            f"{source} has no folder {' and no folder '.join(lacking)}. Give the BUSI folder "
            f"(Dataset_BUSI_with_GT) that contains {listed(_BUSI_LABELS)}."
        )
    if len(labels) < 2:
        raise DataError(
            f"At least two labels are needed, but --keep-label names only {labels[0]}."
        )
    tree = read_tree(source)
    problems += tree.report(cure="", way_out=SKIP_THEM, skip=skip_unread)
    rows = [(source / path, path.parts[0]) for path in tree.images if path.parts[0] in labels]
    if other := [path for path in tree.images if path.parts[0] not in _BUSI_LABELS]:
        _LOG.warning(
            "Skipped %s outside the folders %s: %s.",
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
            f"{counted(len(strange), 'file')} with a name unlike `benign (1).png`: "
            f"{listed(strange)}. Read other datasets with --folders"
        )
    empty = [label for label in labels if label not in {label for _, label in rows}]
    problems += [f'no images in the folder "{label}"' for label in empty]
    refuse(str(source), problems)
    table = pd.DataFrame({"label": [x for _, x in rows], "path": [path for path, _ in rows]})
    return ingested(table, source, (), {"kind": "busi", "folder": source.name})


def _default_images(source: Path, *, cropping: bool) -> str:
    names = _PUBLISHED if cropping else (_CROPS, *_WHOLE)
    for name in names:
        if (source / name).is_dir():
            return name
    raise DataError(
        f"{source} has none of the folders {', '.join(names)}. Name another with --images."
    )


def _folds(table: Path, column: str) -> dict[str, int]:
    """Return the published fold of each image of BUS-BRA."""
    if not table.is_file():
        raise DataError(
            f"{table.parent} does not contain {table.name}, which has the folds. Copy it from the "
            "published dataset, or omit --fold-col."
        )
    problems: list[str] = []
    found = read_labels(
        table, LabelColumns(image="ID", label="Pathology", fold=column), (), problems
    )
    refuse(str(table), problems)
    return dict(zip(found["image"], found["fold"], strict=True))
