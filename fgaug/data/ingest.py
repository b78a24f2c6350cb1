"""Turn a label table or a folder of images into rows that name one file each."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from fgaug.data.folders.finder import find_files, log_unused
from fgaug.data.folders.label_folders import check_emptied, cure_of_level, images_of_level
from fgaug.data.folders.layout import check_levels, label_level_beside, split_level, splits_of
from fgaug.data.folders.tree import SKIP_THEM, read_tree
from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.data.reading.loading import ImageFile
from fgaug.data.tables.box_columns import BoxColumns
from fgaug.data.tables.boxes import RowBox, boxes_of, described
from fgaug.data.tables.centres import centres_of, doubts_of_centres
from fgaug.data.tables.label_table import LabelColumns, fit_label, left_out, read_labels
from fgaug.data.tables.similar_values import doubts_of_ids, doubts_of_labels, written_twice
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """Rows to prepare, sorted by image_id, each with its image file."""

    table: pd.DataFrame  # image_id, label, group, strata, source; split, gan and fold if given
    files: tuple[ImageFile, ...]  # one a row
    strata: tuple[str, ...]
    source: dict[str, Any]  # goes to dataset.json
    root: Path  # folder that the names in the column `source` are relative to


def from_csv(
    csv: str | Path,
    images: str | Path,
    image_col: str,
    label_col: str,
    group_col: str | None = None,
    stratum_cols: Sequence[str] = (),
    keep_labels: Sequence[str] = (),
    split_col: str | None = None,
    gan_col: str | None = None,
    rename_strata: Sequence[str] | None = None,
    rename_labels: Mapping[str, str] | None = None,
    sheet: str | None = None,
    fold_col: str | None = None,
    box: BoxColumns | None = None,
    unlabelled: bool = False,
) -> Ingested:
    """Return the rows of a label table with their image files, or report every problem.

    Args:
        csv: table with a header row: text with any common separator, or an Excel workbook.
        images: folder that the names in `image_col` are relative to.
        image_col: column with the image names, with or without extension.
        label_col: column with the classes, kept as text.
        group_col: column with the patients; without it every image is its own group, with a
            warning.
        stratum_cols: acquisition attributes to keep, such as the machine.
        keep_labels: drops the rows of all other labels.
        split_col: column with an existing split: train, valid (or val, validation) and test.
        gan_col: column that is true for images the GAN was trained on.
        rename_strata: new names for `stratum_cols` in the dataset.
        rename_labels: new names for all kept labels in the dataset.
        sheet: sheet of a workbook; None takes the first.
        fold_col: column with folds, as whole numbers.
        box: columns with the box of each image, for cropping.
        unlabelled: keep rows with an empty label, instead of refusing them.
    """
    csv, images = Path(csv), Path(images)
    if not images.is_dir():
        raise DataError(f"The image folder {images} does not exist. Give it with --images.")
    columns = LabelColumns(
        image=image_col,
        label=label_col,
        group=group_col,
        strata=tuple(stratum_cols),
        split=split_col,
        gan=gan_col,
        fold=fold_col,
        box=box,
        unlabelled=unlabelled,
    )
    problems: list[str] = []
    doubts: list[str] = []
    table = read_labels(csv, columns, keep_labels, problems, sheet=sheet, notes=doubts)
    doubts += doubts_of_labels(table["label"].dropna(), label_col)
    if group_col is not None:
        doubts += doubts_of_ids(table["group"].dropna(), group_col)
        centres = centres_of(table["image"].fillna("").tolist())
        if centres is not None:
            places = pd.Series(centres, index=table.index)
            doubts += doubts_of_centres(table["group"], group_col, places, "the images' folders")
    for name in stratum_cols:
        doubts += written_twice(
            table[name], f'Column "{name}" has', "Use one spelling if they are the same"
        )
    for doubt in doubts:
        _LOG.warning("%s.", doubt)
    if rename_strata is not None:
        table = table.rename(columns=dict(zip(stratum_cols, rename_strata, strict=True)))
    if rename_labels is not None:
        table["label"] = table["label"].map(rename_labels)
    strata = tuple(rename_strata if rename_strata is not None else stratum_cols)
    units = ""
    if box is not None:
        boxes, units = boxes_of(table["box"], box, problems)
        table["box"] = pd.Series(boxes, index=table.index, dtype=object)
    find_files(
        table,
        images,
        problems,
        cure="Correct the names, remove their rows, or give another folder with --images",
    )
    _check_twice(table[table["path"].notna()], problems)
    if not problems:
        _check_labels(table, problems)
    refuse(str(csv), problems)
    log_unused(table, images, csv=csv, all_rows=not keep_labels)
    source = {"kind": "csv", "table": csv.name, "images": images.name, "columns": _used(columns)}
    if box is not None:
        source["boxes"] = {"table": csv.name, **described(box, units)}
    return ingested(table, images, strata, source)


def from_folders(
    folder: str | Path,
    keep_labels: Sequence[str] = (),
    *,
    label_level: int | None = None,
    split_folders: bool = False,
    with_companions: bool = False,
    skip_unread: bool = False,
) -> Ingested:
    """Return the images of a folder with one subfolder per label, each image its own group.

    Args:
        folder: the folder that contains the label folders.
        keep_labels: skips the folders of all other labels.
        label_level: level of the label folders, from 1; None takes the first, and refuses trees in
            which the first level is a split or a fold.
        split_folders: one level of folders is the split: train, valid (or val) and test.
        with_companions: treat masks and similar files as images.
        skip_unread: skip images of unsupported formats instead of refusing them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"The folder {folder} {what}. Give a folder that contains one folder per label."
        )
    tree = read_tree(folder, with_companions=with_companions)
    cure = "Add --with-companions if they are images to train on"
    problems = tree.report(cure=cure, way_out=SKIP_THEM, skip=skip_unread)
    images = tree.images
    level, split = _levels(folder, images, label_level, split_folders)
    table = images_of_level(folder, images, level, split)
    if split is not None:
        table["split"] = splits_of(table["relative"].tolist(), split)
    labels = sorted(table["label"].unique())
    problems += [f'folder "{name}" cannot be a label' for name in labels if not fit_label(name)]
    unknown = [label for label in keep_labels if label not in labels]
    problems += [
        f'there is no folder for label "{label}"{nearest(label, labels)}' for label in unknown
    ]
    check_emptied(tree, level, labels, problems)
    if keep_labels:
        kept = table["label"].isin(list(keep_labels))
        for note in left_out(table.loc[~kept, "label"], "image"):
            _LOG.warning("%s.", note)
        table = table[kept].reset_index(drop=True)
    for doubt in written_twice(table["label"], "The folders have", "Move them into one folder"):
        _LOG.warning("%s.", doubt)
    _check_labels(table, problems, cure_of_level(folder, images, level))
    refuse(str(folder), problems)
    source: dict[str, Any] = {"kind": "folders", "folder": folder.name}
    asked = {"label_level": label_level, "split_level": split, "with_companions": with_companions}
    source |= {name: value for name, value in asked.items() if value}
    return ingested(table.drop(columns="relative"), folder, (), source)


def _levels(
    folder: Path, images: Sequence[PurePath], asked: int | None, split_folders: bool
) -> tuple[int, int | None]:
    """Return the levels of the label folders and split folders, or refuse an unclear tree."""
    if split_folders:
        split = split_level(folder, images)
        level = asked or label_level_beside(images, split)
        if level == split:
            raise DataError(
                f"--label-level {level} is the level of the split. Give the level of the label "
                "folders."
            )
        return level, split
    if asked is None:
        for doubt in check_levels(folder, images):
            _LOG.warning("%s.", doubt)
    return asked or 1, None


def ingested(
    table: pd.DataFrame, root: Path, strata: tuple[str, ...], source: dict[str, Any]
) -> Ingested:
    """Name, group and sort the rows.

    `table` has label and path, and optionally group, split, gan and fold.
    """
    relative = [Path(os.path.relpath(path, root)).as_posix() for path in table["path"]]
    table = table.assign(image_id=_ids(relative), source=relative)
    if "group" not in table:
        known = source["kind"] == "csv"
        _LOG.warning(
            "No %s: every image is its own group. If patients have several images each, give "
            "%s; otherwise the split leaks.",
            "group column" if known else "patient ids",
            "--group-col" if known else "a label table with --csv and --group-col",
        )
        table["group"] = table["image_id"]
    table = table.sort_values("image_id").reset_index(drop=True)
    boxes = table["box"] if "box" in table else [None] * len(table)
    files = tuple(
        with_box(ImageFile(name=name, path=path), box)
        for name, path, box in zip(table["source"], table["path"], boxes, strict=True)
    )
    extra = [name for name in ("split", "gan", "fold") if name in table]
    table = table[["image_id", "label", "group", *strata, *extra, "source"]]
    return Ingested(table=table, files=files, strata=strata, source=source, root=root)


def with_box(file: ImageFile, box: RowBox | None) -> ImageFile:
    """Return the image file with the box to crop it to, or without one."""
    return file if box is None else replace(file, box=box.box, row=box.row)


def add_folds(rows: Ingested, folds: Mapping[str, int], column: str) -> Ingested:
    """Return the rows with their folds, matched by image_id; refuse rows without one."""
    names = rows.table["image_id"]
    missing = [name for name in names if name not in folds]
    refuse("Folds", [f"no fold for {listed(missing)}"] if missing else [])
    table = rows.table.assign(fold=[folds[name] for name in names])
    return replace(rows, table=table, source={**rows.source, "folds": column})


def _used(columns: LabelColumns) -> dict[str, Any]:
    return {
        "image": columns.image,
        "label": columns.label,
        "group": columns.group,
        "strata": list(columns.strata),
        "split": columns.split,
        "gan": columns.gan,
        **({"fold": columns.fold} if columns.fold is not None else {}),
    }


def _check_twice(table: pd.DataFrame, problems: list[str]) -> None:
    """Report images with several rows, separately for equal and different labels."""
    repeated = table[table["path"].duplicated(keep=False)]
    labels = repeated.groupby("path")["label"].nunique()
    names = repeated.drop_duplicates("path").set_index("path")["image"]
    for several, kind in ((True, "with different labels"), (False, "")):
        chosen = names[(labels.reindex(names.index) > 1) == several]
        if len(chosen):
            count = counted(len(chosen), "image")
            listing = "is listed" if len(chosen) == 1 else "are listed"
            problems.append(
                f"{count} {listing} more than once{' ' + kind if kind else ''}: "
                f"{listed(chosen)}. Keep one row each"
            )


def _check_labels(table: pd.DataFrame, problems: list[str], cure: str = "") -> None:
    labels = sorted(table["label"].dropna().unique())
    if len(labels) < 2:
        found = f"only {labels[0]}" if labels else "no image"
        problems.append(f"at least two labels are needed, there is {found}{cure}")


def _ids(relative: Sequence[str]) -> list[str]:
    """Return the names without extension if they stay distinct.

    Without extensions, a dataset saved in another format keeps its names.
    """
    bare = [name.rsplit(".", 1)[0] for name in relative]
    taken = pd.Series(bare).duplicated(keep=False)
    return [
        name if clash else stem for name, stem, clash in zip(relative, bare, taken, strict=True)
    ]
