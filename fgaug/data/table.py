"""Label tables: a CSV file in any common dialect -> a frame with our column names.

csv -> table -> ingest
"""

from __future__ import annotations

import csv as csv_files
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgaug.data.dataset import MANIFEST_COLUMNS
from fgaug.data.problems import counted, listed, nearest, refuse
from fgaug.errors import DataError

_SEPARATORS = (",", ";", "\t", "|", ":", " ")
_SPLITS = {"train": "train", "valid": "valid", "test": "test", "val": "valid"} | {
    "validation": "valid",
    "training": "train",
}
MAX_LABEL_BYTES = 100  # file systems take 255 a name, and results put a word before it
_FLAGS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False} | {
    "1.0": True,
    "0.0": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """Which columns of a label table hold what."""

    image: str
    label: str
    group: str | None = None
    strata: tuple[str, ...] = ()
    split: str | None = None
    gan: str | None = None

    def named(self) -> list[str]:
        """Return every column that must be there."""
        several = [self.image, self.label, self.group, *self.strata, self.split, self.gan]
        return [name for name in several if name is not None]


def read_labels(
    csv: Path, columns: LabelColumns, keep_labels: Sequence[str], problems: list[str]
) -> pd.DataFrame:
    """Return image, label, and where given group, strata, split and gan, one row an image.

    Any of comma, semicolon, tab, bar, colon or blank separates; a byte order mark and blanks
    around names and values are dropped. Groups keep the type that pandas reads; the rest is text.

    Args:
        csv: the table.
        columns: names in its header.
        keep_labels: rows of other labels are dropped; empty keeps all.
        problems: what is wrong with rows is appended here, to be raised with what follows.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    encoding = _encoding(csv)
    separator, header = _dialect(csv, encoding, columns)
    _require(csv, [name.strip() for name in header], columns)
    raw = _read(csv, encoding, separator, header, columns)
    frame = pd.DataFrame({"image": raw[columns.image], "label": raw[columns.label]})
    if columns.group is not None:
        frame["group"] = raw[columns.group]
    for name in columns.strata:
        frame[name] = raw[name].fillna("unknown")
    if columns.split is not None:
        frame["split"] = raw[columns.split]
    if columns.gan is not None:
        frame["gan"] = raw[columns.gan]
    frame = _kept(frame, keep_labels, problems)
    _check_rows(frame, columns, problems)
    for ours, known in (("split", _SPLITS), ("gan", _FLAGS)):
        if ours in frame:
            _translate(frame, ours, known, problems)
    return frame.reset_index(drop=True)


def _read(
    csv: Path, encoding: str, separator: str, header: list[str], columns: LabelColumns
) -> pd.DataFrame:
    texts = set(columns.named()) - {columns.group} | {columns.image, columns.label}
    as_text = {name: str for name in header if name.strip() in texts}
    try:
        # Rows longer than the header would be cut with a mere warning.
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            raw = pd.read_csv(
                csv,
                sep=separator,
                encoding=encoding,
                dtype=as_text,
                skipinitialspace=True,
                index_col=False,
                low_memory=False,  # a column's type is that of the whole column
            )
    except (ValueError, OSError, pd.errors.ParserWarning) as problem:
        reason = str(problem).splitlines()[0]
        raise DataError(f"{csv} cannot be read as a table ({reason}).") from None
    raw.columns = pd.Index([str(name).strip() for name in raw.columns])
    for name in raw.columns:
        if not pd.api.types.is_numeric_dtype(raw[name].dtype):  # numbers carry no blanks
            stripped = raw[name].str.strip()
            raw[name] = stripped.mask(stripped == "")
    raw = raw.dropna(how="all")
    if raw.empty:
        raise DataError(f"{csv} has a header and no rows.")
    return raw


def _encoding(csv: Path) -> str:
    """Return the encoding: UTF-8 or UTF-16 by its mark, else that of European spreadsheets."""
    try:
        data = csv.read_bytes()
    except OSError as problem:
        reason = problem.strerror or "unreadable"
        raise DataError(f"The label table {csv} cannot be opened ({reason}).") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        data.decode("utf-8-sig")
        return "utf-8-sig"
    except UnicodeDecodeError:
        pass
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        raise DataError(
            f"The label table {csv} is neither UTF-8, UTF-16 nor Windows-1252 text. "
            "Save it as CSV in UTF-8."
        ) from None
    return "cp1252"


def _dialect(csv: Path, encoding: str, columns: LabelColumns) -> tuple[str, list[str]]:
    """Return the separator whose header has most of the named columns, and that header.

    The names are known, so nothing is guessed from the values: `csv.Sniffer` takes a letter for
    the separator of short tables.
    """
    with csv.open(encoding=encoding, newline="") as file:
        first = next((line for line in file if line.strip()), "")
    if not first:
        raise DataError(f"The label table {csv} is empty.")

    def header(separator: str) -> list[str]:
        lines = csv_files.reader([first], delimiter=separator, skipinitialspace=True)
        return [name.strip("\r\n") for name in next(lines)]

    wanted = set(columns.named())

    def rank(separator: str) -> tuple[int, int]:
        names = [name.strip() for name in header(separator)]
        common = len(names) if separator in _SEPARATORS[:4] else 1
        return sum(name in wanted for name in names), common

    best = max(_SEPARATORS, key=rank)
    return best, header(best)


def _require(csv: Path, known: list[str], columns: LabelColumns) -> None:
    problems = [
        f'column "{name}" is missing{nearest(name, known)}'
        for name in columns.named()
        if name not in known
    ]
    repeated = sorted({name for name in columns.named() if known.count(name) > 1})
    problems += [f'column "{name}" is there twice; rename one' for name in repeated]
    problems += [
        f'stratum column "{name}" has the name of a column of ours; rename it in the table'
        for name in columns.strata
        if name in MANIFEST_COLUMNS
    ]
    refuse(str(csv), problems)


def _kept(frame: pd.DataFrame, keep_labels: Sequence[str], problems: list[str]) -> pd.DataFrame:
    if not keep_labels:
        return frame
    known = sorted(frame["label"].dropna().unique())
    unknown = [label for label in keep_labels if label not in known]
    problems += [f'no row has label "{label}"{nearest(label, known)}' for label in unknown]
    return frame[frame["label"].isin(list(keep_labels))]


def _check_rows(frame: pd.DataFrame, columns: LabelColumns, problems: list[str]) -> None:
    nameless = int(frame["image"].isna().sum())
    if nameless:
        problems.append(f"{counted(nameless, 'row')} without an image name")
    for ours in ("label", "group", "split", "gan"):
        if ours not in frame:
            continue
        missing = frame.loc[frame[ours].isna(), "image"]
        if len(missing):
            name = getattr(columns, ours)
            names = listed(missing)
            problems.append(f'{counted(len(missing), "row")} without "{name}": {names}')
    unfit = [label for label in frame["label"].dropna().unique() if not fit_label(label)]
    if unfit:
        problems.append(
            f"labels name folders and columns, so they hold no slash, line break or leading dot "
            f"and at most {MAX_LABEL_BYTES} bytes: "
            f"{listed(unfit)}"
        )


def fit_label(label: str) -> bool:
    """Return whether a label can name a folder and a column of results."""
    fits = len(label.encode()) <= MAX_LABEL_BYTES
    return (
        fits and label.isprintable() and not label.startswith(".") and not set(label) & set("/\\")
    )


def _translate(
    frame: pd.DataFrame, column: str, known: Mapping[str, object], problems: list[str]
) -> None:
    values = frame[column].str.lower().map(known)
    wrong = frame.loc[frame[column].notna() & values.isna(), column].unique()
    if len(wrong):
        expected = ", ".join(sorted(known))
        problems.append(f"{column} has unknown values: {listed(wrong)}. Use one of {expected}")
    frame[column] = values
