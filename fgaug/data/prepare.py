"""Prepare a dataset: the function behind `fgaug data prepare`."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgaug.data.audit import suspicions
from fgaug.data.boxes import BoxRequest, settle_missing, with_boxes
from fgaug.data.copies.pairs_page import check_folder
from fgaug.data.copies.rules import RULES
from fgaug.data.dataset import Dataset, DatasetSpec, Unlabelled, write_dataset
from fgaug.data.exclusion import read_list, without_named
from fgaug.data.folds import check_folds
from fgaug.data.ingest import Ingested, from_csv, from_folders
from fgaug.data.phantom import make_phantom
from fgaug.data.presets import PRESETS as READ
from fgaug.data.presets import read_preset
from fgaug.data.problems import counted, nearest, refuse
from fgaug.data.reading.loading import LoadedImages, Progress, load_images, loaded_from
from fgaug.data.reading.squares import MAX_SIZE, MIN_SIZE, RESIZE_FILTER, Box
from fgaug.data.selection import Copies, choose
from fgaug.data.split import SEED, assign_splits, completed_rule, split_rule
from fgaug.data.unlabelled import KEEP, split_all
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")
PRESETS = (*READ, "phantom")
MAX_MARGIN = 10.0
COPIES_OF_PRESETS = {"busi": "group"}  # sets with duplicates under two labels


def prepare(
    *,
    out: str | Path,
    size: int,
    csv: str | Path | None = None,
    images: str | Path | None = None,
    image_col: str = "image",
    label_col: str = "label",
    group_col: str | None = None,
    stratum_cols: Sequence[str] = (),
    keep_labels: Sequence[str] = (),
    split_col: str | None = None,
    gan_col: str | None = None,
    fold_col: str | None = None,
    sheet: str | None = None,
    folders: str | Path | None = None,
    label_level: int | None = None,
    split_folders: bool = False,
    with_companions: bool = False,
    preset: str | None = None,
    source: str | Path | None = None,
    planes: Sequence[str] = (),
    margin: float | None = None,
    boxes: BoxRequest | None = None,
    unlabelled: str | None = None,
    phantom: Mapping[str, Any] | None = None,
    channels: int | None = None,
    valid: float = 0.5,
    test: float | None = None,
    test_per_label: int | None = None,
    extend: bool = False,
    skip_broken: bool = False,
    copies: str | None = None,
    drop: str | Path | None = None,
    pairs: str | Path | None = None,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Dataset:
    """Write a dataset from images and return it, or report every problem found.

    Give exactly one of `csv`, `folders` and `preset`.

    Args:
        out: folder to write; nothing is written if it already holds the same dataset.
        size: side of the images in pixels; images are resized to squares without keeping the
            aspect ratio.
        csv: label table; `images` is its image folder, and the `*_col` arguments name its columns.
        images: image folder of `csv`; for bus-bra and fetal-planes, the name of a folder in
            `source`.
        image_col: column with the image names.
        label_col: column with the labels.
        group_col: column with the patients; without it every image is its own group.
        stratum_cols: columns to keep as strata, such as the machine.
        keep_labels: labels to keep; empty keeps all.
        split_col: column with an existing split.
        gan_col: column that is true for images the GAN was trained on.
        fold_col: column with folds, as whole numbers; for bus-bra, of its table of folds
            (`kFold`). A grid holds out each fold once (`axes.fold`).
        sheet: sheet of `csv`, if it is a workbook; None takes the first.
        folders: folder with one subfolder per label.
        label_level: of `folders`: level of the label folders, 1 or more.
        split_folders: of `folders`: one level of folders is the split: train, valid and test.
        with_companions: of `folders`: treat masks and similar files as images.
        preset: `bus-bra`, `fetal-planes` or `busi`, public sets in `source`; or `phantom` for
            simulated images.
        source: folder with the preset's files.
        planes: of fetal-planes: the planes to keep, or `all`; empty takes the thesis's two.
        margin: crop to each image's box, enlarged by this share of its longer side; None means 0
            with `boxes`, and whole images without.
        boxes: where the boxes come from; bus-bra has boxes of its own.
        unlabelled: `keep` stores images with an empty label beside the dataset, for GANs; None
            refuses them.
        phantom: arguments of `make_phantom` other than the size: images, seed, label_noise and
            others.
        channels: 1 or 3; None takes 1 if every image is grey.
        valid: share of the remaining patients for validation.
        test: share of the patients for the test set.
        test_per_label: alternatively, minimum number of test images per label.
        extend: second baseline of the thesis; see `assign_splits`.
        skip_broken: skip broken images and images of unsupported formats instead of refusing them.
        copies: rule for near-duplicates: refuse, drop or group; see `fgaug.data.copies.rules`.
            None means group for busi, which has duplicates, else refuse.
        drop: a list of images to exclude; see `fgaug.data.exclusion`.
        pairs: folder for every near-duplicate pair, as a table and side by side; also written if
            the dataset is refused because of them.
        seed: of the split.
        progress: called with (images done, images in all).
    """
    _check(
        size=size,
        channels=channels,
        margin=margin,
        preset=preset,
        folders=folders is not None,
        copies=copies,
        boxes=boxes,
    )
    if boxes is not None and margin is None:
        margin = 0.0
    if unlabelled not in (None, KEEP):
        raise DataError(f'--unlabelled "{unlabelled}" is unknown. Give --unlabelled {KEEP}.')
    if unlabelled is not None and csv is None:
        raise DataError(
            "--unlabelled keeps the rows of a label table whose label is empty. Give the table "
            "with --csv."
        )
    if planes and preset != "fetal-planes":
        raise DataError(
            "--planes chooses from --preset fetal-planes. Give the preset, or omit it."
        )
    _check_places({"--csv": csv, "--folders": folders, "--preset": preset})
    if csv is None and (group_col or stratum_cols or split_col or gan_col):
        raise DataError(
            "Column options belong to a label table. Give the table with --csv, or omit them."
        )
    _check_fold_options(fold_col, csv, preset, test, test_per_label)
    _check_tree_options(folders, label_level, split_folders, with_companions)
    if pairs is not None:
        check_folder(Path(pairs), "--pairs")
    leave = read_list(drop) if drop is not None else None
    if csv is None and sheet is not None:
        raise DataError("--sheet names a sheet of a label table. Give the table with --csv.")
    rule = split_rule(
        given=split_col or ("folders" if split_folders else None),
        valid=valid,
        test=test,
        test_per_label=test_per_label,
        extend=extend,
        seed=seed,
    )
    if preset == "phantom":
        if leave is not None:
            raise DataError(
                "--drop needs image files, and --preset phantom simulates its images. Omit --drop."
            )
        rows, loaded = _phantom(size, channels, phantom or {})
    else:
        if csv is not None:
            if images is None:
                raise DataError("--csv needs an image folder. Give it with --images.")
            rows = from_csv(
                csv,
                images,
                image_col=image_col,
                label_col=label_col,
                group_col=group_col,
                stratum_cols=stratum_cols,
                keep_labels=keep_labels,
                split_col=split_col,
                gan_col=gan_col,
                sheet=sheet,
                fold_col=fold_col,
                box=boxes.columns if boxes is not None and boxes.table is None else None,
                unlabelled=unlabelled is not None,
            )
        elif folders is not None:
            rows = from_folders(
                folders,
                keep_labels,
                label_level=label_level,
                split_folders=split_folders,
                with_companions=with_companions,
                skip_unread=skip_broken,
            )
        else:
            assert preset is not None  # exactly one of the three is given
            if source is None:
                raise DataError(f"--preset {preset} needs the folder with the unpacked dataset.")
            name = str(images) if images is not None else None
            rows = read_preset(
                preset,
                source,
                images=name,
                margin=margin,
                keep_labels=keep_labels,
                skip_unread=skip_broken,
                fold_col=fold_col,
                planes=planes,
            )
        if leave is not None:
            rows, leave = without_named(rows, leave)
        if boxes is not None and boxes.table is not None:
            rows = with_boxes(rows, boxes)
        if margin is not None:
            rows = settle_missing(rows, boxes.no_box if boxes is not None else None)
        rule = _completed(rule, rows.table[rows.table["label"].notna()], valid, seed)
        # Decoding may take an hour, so impossible splits and folds are refused before it.
        _split(rows.table, rule)
        _check_folds(rows.table[rows.table["label"].notna()])
        loaded = load_images(
            rows.files,
            size=size,
            channels=channels,
            margin=margin,
            skip_broken=skip_broken,
            progress=progress,
        )
    try:
        how = Copies(
            rule=copies or COPIES_OF_PRESETS.get(preset or "", "refuse"),
            leave=leave,
            pairs=Path(pairs) if pairs is not None else None,
        )
        return _write(Path(out), rows, loaded, rule, margin, how)
    finally:
        loaded.close()


def _check(
    *,
    size: int,
    channels: int | None,
    margin: float | None,
    preset: str | None,
    folders: bool,
    copies: str | None,
    boxes: BoxRequest | None,
) -> None:
    problems = []
    if copies is not None and copies not in RULES:
        problems.append(f'--copies "{copies}" is unknown{nearest(copies, RULES)}')
    if not MIN_SIZE <= size <= MAX_SIZE:
        problems.append(f"--size must lie from {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if channels not in (None, 1, 3):
        problems.append(f"--channels must be 1 or 3, got {channels}")
    if preset is not None and preset not in PRESETS:
        problems.append(f'--preset "{preset}" is unknown{nearest(preset, PRESETS)}')
    if margin is not None and not 0 <= margin <= MAX_MARGIN:
        problems.append(f"the crop margin must lie from 0 to {MAX_MARGIN:g}, got {margin}")
    problems += _box_problems(boxes, margin, preset, folders=folders)
    refuse("Cannot prepare", problems)


def _box_problems(
    boxes: BoxRequest | None, margin: float | None, preset: str | None, *, folders: bool
) -> list[str]:
    columns = boxes.columns if boxes is not None else None
    if preset == "bus-bra":
        if columns is not None:
            return [
                "--preset bus-bra has boxes of its own: --crop-margin crops to them. Read its "
                "table with --csv to use others"
            ]
        return ["--no-box needs --crop-margin"] if boxes is not None and margin is None else []
    if columns is None:
        if margin is None and boxes is None:
            return []
        return [
            f"{'a crop margin' if margin is not None else '--no-box'} needs boxes: name their "
            "columns with --box-cols (only --preset bus-bra has boxes of its own)"
        ]
    if preset == "phantom":
        return ["--preset phantom simulates its images and has no boxes to crop to"]
    assert boxes is not None
    if boxes.table is None and (preset is not None or folders):
        what = f"--preset {preset} has" if preset is not None else "--folders have"
        return [f"{what} no table with boxes: give one with --box-table"]
    return []


def _check_places(places: Mapping[str, object]) -> None:
    given = [name for name, value in places.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none of them"
        raise DataError(f"One of {', '.join(places)} must be given; got {got}.")


def _check_tree_options(
    folders: str | Path | None, level: int | None, split: bool, companions: bool
) -> None:
    given = {"--label-level": level is not None, "--split-folders": split}
    given["--with-companions"] = companions
    if folders is None and (names := [name for name, asked in given.items() if asked]):
        raise DataError(
            f"{' and '.join(names)} works only with --folders. Give the folder, or omit it."
        )
    if level is not None and level < 1:
        raise DataError(f"--label-level must be 1 or more, got {level}.")


def _check_fold_options(
    fold_col: str | None,
    csv: str | Path | None,
    preset: str | None,
    test: float | None,
    test_per_label: int | None,
) -> None:
    if fold_col is None:
        return
    if csv is None and preset in (None, "phantom"):
        raise DataError(
            "--fold-col names a column of a table: it works with --csv and --preset bus-bra. "
            "Omit it."
        )
    if test is not None or test_per_label is not None:
        raise DataError(
            "--fold-col holds out every patient once, so no test set can stay sealed. Omit --test "
            "and --test-per-label, or omit --fold-col."
        )


def _check_folds(table: pd.DataFrame) -> None:
    """Refuse folds that cannot be used; a table without folds passes."""
    if "fold" not in table:
        return
    sealed = int((table["split"] == "test").sum()) if "split" in table else 0
    if sealed:
        raise DataError(
            f"The split column has {counted(sealed, 'test image')}, but folds hold out every "
            "patient once, so no test set can stay sealed. Give the split or the folds, and leave "
            "the test images out of the table."
        )
    check_folds(table)


def _phantom(
    size: int, channels: int | None, arguments: Mapping[str, Any]
) -> tuple[Ingested, LoadedImages]:
    """Return simulated rows and images in the form of images read from files."""
    simulated = make_phantom(size=size, **arguments)
    order = simulated.table["image_id"].argsort().to_numpy()
    table = simulated.table.iloc[order].reset_index(drop=True)
    table["source"] = "phantom/" + table["image_id"]
    rows = Ingested(
        table=table.drop(columns="plane"),
        files=(),
        strata=("machine",),
        source={"kind": "phantom", **simulated.arguments},
        root=Path(),
    )
    return rows, loaded_from(simulated.images[order], channels)


def _completed(
    rule: dict[str, Any], table: pd.DataFrame, valid: float, seed: int
) -> dict[str, Any]:
    complete = completed_rule(rule, table, valid, seed)
    if complete != rule:
        counts = table["split"].value_counts()
        _LOG.warning(
            f"The given split has {counts['train']} training and {counts['test']} test images but "
            f"no validation images: a share of {valid:g} of the training patients is drawn for "
            "validation (--valid, --seed). The test set is unchanged."
        )
    return complete


def _split(table: pd.DataFrame, rule: Mapping[str, Any]) -> pd.DataFrame:
    arguments = {name: value for name, value in rule.items() if name not in ("kind", "column")}
    return split_all(table, lambda labelled: assign_splits(labelled, **arguments))


def _write(
    out: Path,
    rows: Ingested,
    loaded: LoadedImages,
    rule: dict[str, Any],
    margin: float | None,
    how: Copies,
) -> Dataset:
    read = rows.table[loaded.kept].reset_index(drop=True)
    read["sha256"] = loaded.sha256
    chosen = choose(read, loaded, how, lambda table: _split(table, rule))
    stay, table = chosen.stay, chosen.table
    named = table["label"].notna().to_numpy()
    whole, table = table, table[named].reset_index(drop=True)
    _check_folds(table)  # again, as near-duplicates may have joined patients
    boxes = [file.box for file in itertools.compress(rows.files, loaded.kept)]
    boxes = list(itertools.compress(boxes, stay))  # none if images are simulated
    spec = DatasetSpec(
        labels=tuple(sorted(table["label"].unique())),
        size=loaded.size,
        channels=loaded.channels,
        strata=rows.strata,
        source={**rows.source, **chosen.source},
        split=rule,
        crop=_crop(margin, whole[named], list(itertools.compress(boxes, named))),
        resize_filter=RESIZE_FILTER,
        sizes=loaded.sizes(stay),
        digest="",
        folds=tuple(sorted(set(table["fold"].tolist()))) if "fold" in table else (),
    )
    unlabelled = None
    if not named.all():
        unlabelled = Unlabelled(
            manifest=whole[~named].assign(label="").reset_index(drop=True),
            images=loaded.blocks(_among(stay, ~named)),
            crop=_crop(margin, whole[~named], list(itertools.compress(boxes, ~named))),
        )
    blocks = loaded.blocks(_among(stay, named))
    dataset = write_dataset(out, spec, table, blocks, chosen.report, unlabelled)
    for doubt in suspicions(whole, chosen.alike):
        _LOG.warning("%s.", doubt)
    return dataset


def _among(stay: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mask of all images read, of those that stay and are chosen among them."""
    mask = stay.copy()
    mask[stay] = chosen
    return mask


def _crop(
    margin: float | None, table: pd.DataFrame, boxes: Sequence[Box | None]
) -> dict[str, Any] | None:
    if margin is None:
        return None
    return {"margin": margin, "boxes": _digest_of_boxes(table["sha256"].tolist(), boxes)}


def _digest_of_boxes(sha256: Sequence[str], boxes: Sequence[Box | None]) -> str:
    """Return one SHA-256 over all images' boxes, as boxes determine the pixels."""
    pairs = [(sha, asdict(box)) for sha, box in zip(sha256, boxes, strict=True) if box is not None]
    text = json.dumps(sorted(pairs, key=str), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
