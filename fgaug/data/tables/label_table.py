"""Read the named columns of a label table into a frame with standard column names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from fgaug.core.image_formats import EXTENSIONS
from fgaug.data.dataset import MANIFEST_COLUMNS
from fgaug.data.folds import numbers_of
from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.data.tables.box_columns import BoxColumns
from fgaug.data.tables.boxes import BoxCells
from fgaug.data.tables.cells import Cells, clean, name_of
from fgaug.data.tables.centres import centre_columns, doubts_of_centres
from fgaug.data.tables.one_hot import BITS, cure_of_one_hot, one_hot_columns
from fgaug.data.tables.table_file import read_cells

_SPLITS = {"train": "train", "valid": "valid", "test": "test", "val": "valid"} | {
    "validation": "valid",
    "training": "train",
    "testing": "test",
}
MAX_LABEL_BYTES = 100  # file names have at most 255, and results add a prefix
_FLAGS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False} | {
    "1.0": True,
    "0.0": False,
}
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """The names of the columns of a label table."""

    image: str
    label: str
    group: str | None = None
    strata: tuple[str, ...] = ()
    split: str | None = None
    gan: str | None = None
    fold: str | None = None
    unlabelled: bool = False  # keep rows with an empty label
    box: BoxColumns | None = None

    def named(self) -> list[str]:
        """Return every required column."""
        several = [self.image, self.label, self.group, *self.strata, self.split, self.gan]
        boxes = self.box.every() if self.box is not None else []
        return [*(name for name in (*several, self.fold) if name is not None), *boxes]


def read_labels(
    csv: Path,
    columns: LabelColumns,
    keep_labels: Sequence[str],
    problems: list[str],
    *,
    sheet: str | None = None,
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Return image, label and, if given, group, strata, split, gan, fold and box.

    Values are text, stripped of blanks. Only empty cells are missing: NA, None and null are
    values. Groups that are plain whole numbers become numbers; see `typed`.

    Args:
        csv: the table; see `read_cells`.
        columns: names of the columns to read; all others are ignored.
        keep_labels: labels to keep; rows of other labels are dropped. Empty keeps all.
        problems: collects problems with rows, to be raised together with later ones.
        sheet: sheet of a workbook; None takes the first.
        notes: collects warnings about how the file was read.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    cells = read_cells(csv, columns.named(), sheet)
    _require(csv, cells, columns)
    remarks = [*cells.notes, *_doubts_of_columns(cells, columns)]
    frame = pd.DataFrame(
        {"image": text_column(cells, columns.image), "label": text_column(cells, columns.label)}
    )
    if columns.group is not None:
        frame["group"] = text_column(cells, columns.group)
    for name in columns.strata:
        frame[name] = text_column(cells, name).fillna("unknown")
    if columns.split is not None:
        frame["split"] = text_column(cells, columns.split)
    if columns.gan is not None:
        frame["gan"] = text_column(cells, columns.gan)
    if columns.fold is not None:
        frame["fold"] = text_column(cells, columns.fold)
    if columns.box is not None:
        boxes = box_cells(cells, columns.image, columns.box)
        frame["box"] = pd.Series(boxes, dtype=object)
    # The whole column determines the type, whichever labels are kept.
    numbers = typed(frame["group"].dropna()) if columns.group is not None else None
    frame = _kept(frame, keep_labels, problems, remarks, unlabelled=columns.unlabelled)
    if notes is not None:
        notes += remarks
    _check_rows(frame, columns, problems, cells.why_empty)
    if numbers is not None and frame.index.isin(numbers.index).all():
        frame["group"] = numbers[frame.index]
    for ours, known in (("split", _SPLITS), ("gan", _FLAGS)):
        if ours in frame:
            _translate(frame, ours, getattr(columns, ours), known, problems)
    if columns.fold is not None:
        frame["fold"] = numbers_of(frame["fold"], columns.fold, problems)
    return frame.reset_index(drop=True)


def typed(ids: pd.Series) -> pd.Series:
    """Return the ids as numbers if all are numbers in plain form, else unchanged.

    Plain form is how Python prints a number: 7, not 007 or +7; 1.5, not 1.50. So no two ids merge,
    each prints as before, and the split, which is drawn from the sorted ids, sorts them
    numerically (9 before 10).
    """
    texts = ids.tolist()
    if not texts or ids.isna().any():
        return ids
    if all(_WHOLE.fullmatch(text) for text in texts):
        for kind in (np.int64, np.uint64):
            try:
                return pd.Series(np.array(list(map(int, texts)), dtype=kind), index=ids.index)
            except OverflowError:
                continue
    elif all(_DECIMAL.fullmatch(text) and repr(float(text)) == text for text in texts):
        return ids.astype(float)
    return ids


def box_cells(cells: Cells, image: str, columns: BoxColumns) -> list[BoxCells]:
    """Return the cells with the box of each row; `image` is the column with the names."""
    texts = zip(*(text_column(cells, name).fillna("") for name in columns.every()), strict=True)
    names = text_column(cells, image).fillna("no image name")
    return [
        BoxCells(row=row, image=name, texts=box)
        for row, name, box in zip(cells.numbers, names, texts, strict=True)
    ]


def text_column(cells: Cells, name: str) -> pd.Series:
    """Return a column as text; empty cells are missing values."""
    index = cells.header.index(name_of(name))
    texts = [_seen(row[index]) or None for row in cells.rows]
    return pd.Series(texts, dtype="str")


def _seen(text: str) -> str:
    """Return a cell as a spreadsheet shows it: `="007"` is how CSV protects zeros from Excel."""
    text = clean(text)
    return clean(text[2:-1]) if text.startswith('="') and text.endswith('"') else text


def _merged_by_blanks(cells: Cells, name: str) -> list[str]:
    """Return a note if stripping blanks made values equal."""
    index = cells.header.index(name_of(name))
    texts: dict[str, set[str]] = {}
    for row in cells.rows:
        texts.setdefault(_seen(row[index]), set()).add(row[index])
    merged = [repr(text) for text, written in texts.items() if text and len(written) > 1]
    if not merged:
        return []
    what = f"{counted(len(merged), 'value')} both with and without surrounding blanks"
    return [f'Column "{name}" has {what}, which are ignored: {listed(merged)}']


def _doubts_of_columns(cells: Cells, columns: LabelColumns) -> Iterator[str]:
    """Yield warnings on suspicious values, and on related columns that are not used."""
    for name in filter(None, (columns.label, columns.group)):
        yield from _merged_by_blanks(cells, name)
    if columns.group is not None:
        ids = text_column(cells, columns.group)
        for name in centre_columns(cells.header):
            if name != name_of(columns.group):
                where = f'column "{name}"'
                yield from doubts_of_centres(ids, columns.group, text_column(cells, name), where)
    if set(text_column(cells, columns.label).dropna()) <= set(BITS):
        several = one_hot_columns(cells)
        if name_of(columns.label) in several:
            yield (
                f'Column "{columns.label}" is read as two labels, 0 and 1, but '
                f"{cure_of_one_hot(several)}"
            )


def _require(csv: Path, cells: Cells, columns: LabelColumns) -> None:
    problems = []
    if name_of(columns.label) not in cells.header and (several := one_hot_columns(cells)):
        problems.append(cure_of_one_hot(several))
    problems += [
        f'stratum column "{name}" has a reserved name; rename it in the table'
        for name in columns.strata
        if name in MANIFEST_COLUMNS or (name == "fold" and columns.fold is not None)
    ]
    require_columns(csv, cells, columns.named(), problems)


def require_columns(
    csv: Path, cells: Cells, wanted: Sequence[str], further: Sequence[str] = ()
) -> None:
    """Refuse a table that lacks a wanted column or has it twice, with `further` problems."""
    known = cells.header
    problems = [
        f'column "{name}" is missing{nearest(name, known)}'
        for name in wanted
        if name_of(name) not in known
    ]
    if problems and any(PurePath(name).suffix.lower() in EXTENSIONS for name in known):
        problems.append("its first row names an image: add a header row above it")
    repeated = sorted({name for name in wanted if known.count(name_of(name)) > 1})
    problems += [f'column "{name}" occurs twice; rename one of them' for name in repeated]
    refuse(str(csv), [*problems, *further])


def _kept(
    frame: pd.DataFrame,
    keep_labels: Sequence[str],
    problems: list[str],
    notes: list[str],
    *,
    unlabelled: bool,
) -> pd.DataFrame:
    """Return the rows of the labels to keep, and count the other rows in a note."""
    if not keep_labels:
        return frame
    known = sorted(frame["label"].dropna().unique())
    unknown = [label for label in keep_labels if label not in known]
    problems += [f'no row has label "{label}"{nearest(label, known)}' for label in unknown]
    kept = frame["label"].isin(list(keep_labels)) | (unlabelled & frame["label"].isna())
    notes += left_out(frame.loc[~kept, "label"].fillna("no label"), "row")
    return frame[kept]


def left_out(labels: pd.Series, noun: str) -> Iterator[str]:
    """Yield a note with the number of rows or images skipped because of their label."""
    if len(labels):
        counts = labels.value_counts().sort_index()
        which = listed(f"{label} ({count})" for label, count in counts.items())
        yield (
            f"{counted(len(labels), noun)} skipped, as --keep-label does not name their labels: "
            f"{which}"
        )


def _for_example(labels: Sequence[str]) -> str:
    """Suggest valid names for invalid labels, or how to skip them."""
    cures = [
        f'"{label}" to "{fit}"'
        for label in labels
        if fit_label(fit := re.sub(r"[/\\]+", "-", label).lstrip("."))
    ]
    example = f", for example {listed(cures, 3)}" if cures else ""
    return f"{example}. To skip a value that means no label, name the others with --keep-label"


def _check_rows(
    frame: pd.DataFrame, columns: LabelColumns, problems: list[str], why_empty: str
) -> None:
    nameless = int(frame["image"].isna().sum())
    if nameless:
        problems.append(f"{counted(nameless, 'row')} without an image name")
    for ours in ("label", "group", "split", "gan", "fold"):
        if ours not in frame or (ours == "label" and columns.unlabelled):
            continue
        missing = frame.loc[frame[ours].isna(), "image"]
        if len(missing):
            name = getattr(columns, ours)
            names = listed(missing)
            cure = ". Fill in the cells or remove the rows"
            if ours == "label":
                cure += (
                    "; with --keep-label, only rows of the named labels are read, and with "
                    "--unlabelled keep these images serve GANs alone"
                )
            problems.append(
                f'{counted(len(missing), "row")} without "{name}": {names}{why_empty or cure}'
            )
    unfit = [label for label in frame["label"].dropna().unique() if not fit_label(label)]
    if unfit:
        problems.append(
            "labels become names of folders and columns, so they must not contain a slash, a "
            f"line break or a leading dot, and have at most {MAX_LABEL_BYTES} bytes: "
            f"{listed(unfit)}. Rename them in the table{_for_example(unfit)}"
        )


def fit_label(label: str) -> bool:
    """Return whether a label is a valid name of a folder and of a results column."""
    fits = len(label.encode()) <= MAX_LABEL_BYTES
    return (
        fits and label.isprintable() and not label.startswith(".") and not set(label) & set("/\\")
    )


def _translate(
    frame: pd.DataFrame,
    column: str,
    name: str,
    known: Mapping[str, object],
    problems: list[str],
) -> None:
    values = frame[column].str.lower().map(known)
    wrong = frame.loc[frame[column].notna() & values.isna(), column].unique()
    if len(wrong):
        expected = ", ".join(sorted(known))
        problems.append(
            f'{column} has unknown values: {listed(wrong)}, in column "{name}". Use one of '
            f"{expected}{_split_in_numbers(frame[column], name) if column == 'split' else ''}"
        )
    frame[column] = values


def _split_in_numbers(values: pd.Series, name: str) -> str:
    """Return how to write a split of numbers or flags in words; empty for other values."""
    found = sorted(set(values.dropna().str.lower()))
    if not all(text in _FLAGS or text.isdecimal() for text in found):
        return ""
    if len(found) > 3:
        return (
            ". Fold numbers are not a split: give the column with --fold-col to hold out each "
            "fold in turn, or replace the numbers with these words"
        )
    words = zip(sorted(set(values.dropna())), ("train", "test", "valid"), strict=False)
    example = " and ".join(f"{word} for {text}" for text, word in words)
    return (
        f'. Write the values of "{name}" in words, for example {example}; '
        "the documentation of the table should say which is which"
    )
