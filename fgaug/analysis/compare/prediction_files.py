"""Prediction files from any source: CSV, Parquet, or one number per line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fgaug.analysis.compare.paired_predictions import PredictionSet
from fgaug.analysis.compare.selectors import no_such_round
from fgaug.core import files
from fgaug.errors import DataError

WANTED = "image_id, label and p_<label> for each label (and group, the patient, if known)"
_NAMES = ("image_id", "image", "label", "group", "round", "predicted")
_YES_NO = ("0", "1")


def read_predictions(path: Path, number: int | None = None) -> PredictionSet:
    """Return the predictions in a file.

    Columns: image_id (or image), label, group if patients are known, p_<label> for each label.
    With two labels, one p_<label> suffices; with labels 0 and 1, so does one column of any name
    with the probability of 1. Without probabilities, `predicted` holds the predicted label.
    Without image_id, rows are matched in order.

    Args:
        path: CSV or Parquet.
        number: the round to read from a file with several; by default the last.

    Raises:
        DataError: the file cannot be read, or lacks columns.
        UserError: the predictions are invalid, as in `PredictionSet`.
    """
    frame = _table(path)
    if "label" not in frame:
        raise DataError(f"{path} needs columns {WANTED}; it has {_listed(frame.columns)}.")
    frame, notes = _one_round(path, frame, number)
    if frame.empty:
        raise DataError(f"{path} has no rows. Give the predictions of at least one image.")
    truth = tuple(_plain(text) for text in frame["label"])
    labels, probability, scored = _probabilities(path, frame, truth)
    ids = next((name for name in ("image_id", "image") if name in frame), None)
    return PredictionSet(
        name=str(path),
        labels=labels,
        image_id=None if ids is None else tuple(frame[ids].astype(str)),
        label=truth,
        group=_patients(path, frame, ids),
        probability=probability[None],
        runs=(path.name,),
        scored=scored,
        notes=notes,
    )


def read_lines(truth: Path, answers: Path) -> PredictionSet:
    """Return predictions from two files of one number per line: true labels (0, 1) and answers.

    Answers that are all 0 or 1 are predicted labels; others are probabilities of 1.

    Raises:
        DataError: a line is not a number, the numbers of lines differ, or a true label is not 0
            or 1.
    """
    y, p = _numbers(truth), _numbers(answers)
    if len(y) != len(p):
        raise DataError(
            f"{truth} has {len(y)} lines and {answers} has {len(p)}. Each line must be one "
            "image, in the same order in both files."
        )
    if not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{truth}: the true label must be 0 or 1, got {y[~np.isin(y, (0, 1))][0]:g}. For "
            "more labels, give tables with p_<label>."
        )
    return PredictionSet(
        name=str(answers),
        labels=_YES_NO,
        image_id=None,
        label=tuple(str(int(value)) for value in y),
        group=None,
        probability=np.stack([1 - p, p], axis=1)[None],
        runs=(answers.name,),
        scored=not np.isin(p, (0, 1)).all(),
    )


def _table(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame
    if path.suffix == ".parquet":
        frame = files.read_table(path, DataError).to_pandas()
    else:
        try:  # as text: image 007 stays 007, and NA can be the name of a patient
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
        except (OSError, ValueError, csv.Error) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{path} cannot be read as CSV ({reason}). It needs {WANTED}."
            ) from None
    if len(set(frame.columns)) < len(frame.columns):
        raise DataError(
            f"{path}: columns must differ, got one twice ({_listed(frame.columns)}). Remove one."
        )
    return frame


def _one_round(
    path: Path, frame: pd.DataFrame, number: int | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows of one round, and a note that names the round."""
    if number is None and "round" not in frame:
        return frame, ()
    empty = pd.Series(np.nan, index=frame.index)
    rounds = pd.to_numeric(frame.get("round", empty), errors="coerce").astype("Float64")
    known = rounds.nunique()
    if number is None:
        if known < 2:
            return frame, ()
        last = rounds.max()
        return frame[rounds.eq(last)], (f"round {last:g}, the last of {known}",)
    chosen = rounds.eq(number).fillna(False)
    if not chosen.any():
        raise DataError(no_such_round(str(path), rounds, number))
    return frame[chosen], (f"round {number}, one of {known}",)


def _patients(path: Path, frame: pd.DataFrame, ids: str | None) -> tuple[str, ...] | None:
    """Return the patient of each image, or None if patients are unknown.

    In a dataset without patients every image is its own group, which identifies nobody.
    """
    if "group" not in frame:
        return None
    if ids is not None and frame["group"].astype(str).eq(frame[ids].astype(str)).all():
        return None
    empty = frame["group"].isna() | frame["group"].astype(str).str.strip().eq("")
    if empty.all():
        return None
    if empty.any():
        raise DataError(
            f"{path}: {int(empty.sum())} of {len(frame)} images have no group. Name the patient "
            "of every image, or drop the column."
        )
    return tuple(frame["group"].map(_plain))


def _probabilities(
    path: Path, frame: pd.DataFrame, truth: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray, bool]:
    """Return the labels in order, float [images, labels], and whether these are probabilities."""
    given = [name for name in map(str, frame.columns) if name.startswith("p_") and name != "p_"]
    if len(given) > 1:
        values = np.stack([_numeric(frame[name]) for name in given], axis=1)
        return tuple(name.removeprefix("p_") for name in given), values, True
    if given:
        label = given[0].removeprefix("p_")
        others = sorted({*truth} - {label})
        if len(others) != 1:
            raise DataError(
                f"{path} has only the column {given[0]} for the labels {_listed({*truth})}: a "
                f"single column suffices only for two labels. It needs {WANTED}."
            )
        p = _numeric(frame[given[0]])
        return (others[0], label), np.stack([1 - p, p], axis=1), True
    further = [name for name in map(str, frame.columns) if name not in _NAMES]
    if len(further) == 1 and {*truth} <= {*_YES_NO}:
        p = _numeric(frame[further[0]])
        return _YES_NO, np.stack([1 - p, p], axis=1), True
    if "predicted" in frame:
        said = [_plain(text) for text in frame["predicted"]]
        labels = tuple(sorted({*truth, *said}))
        hot = np.array([[float(one == label) for label in labels] for one in said])
        return labels, hot, False
    raise DataError(f"{path} needs columns {WANTED}; it has {_listed(frame.columns)}.")


def _numeric(column: pd.Series[str]) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _numbers(path: Path) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}). It needs one number per line."
        ) from None
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip().strip(",")
        if not text:
            continue
        try:
            found.append(float(text))
        except ValueError:
            raise DataError(
                f"{path}: line {number} is {text[:40]!r}, not a number. It needs one number per "
                "line and no header."
            ) from None
    if not found:
        raise DataError(f"{path} is empty. It needs one number per line.")
    return np.array(found)


def _plain(value: object) -> str:
    """Return a label or patient as text; whole numbers lose their decimals, so 1.0 is 1."""
    text = str(value).strip()
    whole, dot, rest = text.partition(".")
    return whole if dot and whole.lstrip("-").isdigit() and rest.strip("0") == "" else text


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) or "none"  # type: ignore[call-overload]  # any iterable
