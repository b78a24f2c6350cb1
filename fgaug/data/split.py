"""Split a dataset into training, validation and test sets that share no patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from fgaug.data.problems import counted
from fgaug.errors import DataError

SEED = 19  # seed used in the thesis


def assign_splits(
    table: pd.DataFrame,
    valid: float = 0.5,
    test: float | None = None,
    test_per_label: int | None = None,
    extend: bool = False,
    seed: int = SEED,
) -> pd.DataFrame:
    """Return a copy of the table with `split` (train, valid, test) and `gan`, by whole groups.

    The test set is drawn first; `valid` is a share of the remaining patients. An existing split is
    kept; if it has only training and test images, as published datasets often do, validation
    patients are drawn from the training patients. The split depends only on the sorted distinct
    groups.

    Args:
        table: one row per image, with label and group, optionally split and gan.
        valid: share of the patients (not of the images) for validation.
        test: share of the patients for the test set.
        test_per_label: alternatively, minimum number of test images per label, drawn by whole
            patients.
        extend: second baseline of the thesis: the training half gets the gan flag, and half the
            patients of the validation half join the training set without it.
        seed: seed of every random choice.
    """
    table = table.copy()
    _check_rule(table, valid, test, test_per_label, extend)
    if "split" not in table:
        table["split"] = "train"
        _take_test(table, test, test_per_label, seed)
        _move(table, "train", "valid", valid, seed)
        if extend:
            table["gan"] = table["split"] == "train"
            _move(table, "valid", "valid", 0.5, seed)
    elif _lacks_validation(table["split"]):
        _move(table, "train", "valid", valid, seed)
    if "gan" not in table:
        table["gan"] = False
    table["gan"] = table["gan"].astype(bool)
    _check_labels(table)
    return table


def redrawn(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a copy of a split table with the patients outside the test set split anew.

    The number of validation patients stays the same. They are drawn as in `assign_splits`, so the
    seed of a split reproduces it. Test images and gan flags do not change; a label may be missing
    from a split.

    Args:
        table: one row per image, with group and split; no group in two splits.
        seed: seed of the draw, 0 to 2**32 - 1.
    """
    table = table.copy()
    before = table["split"].to_numpy()
    validating = table.loc[before == "valid", "group"].nunique()
    table["split"] = np.where(before == "test", "test", "train")
    _draw(table, "train", "valid", validating, seed)
    return table


def split_rule(
    *,
    given: str | None,
    valid: float,
    test: float | None,
    test_per_label: int | None,
    extend: bool,
    seed: int,
) -> dict[str, Any]:
    """Return the rule as stored in `dataset.json`; `given` is the column of an existing split."""
    if given is not None:
        _check_given(test, test_per_label, extend)
        return {"kind": "given", "column": given}
    return {
        "kind": "grouped",
        "valid": valid,
        "test": test,
        "test_per_label": test_per_label,
        "extend": extend,
        "seed": seed,
    }


def completed_rule(
    rule: dict[str, Any], table: pd.DataFrame, valid: float, seed: int
) -> dict[str, Any]:
    """Return the rule; for a given split without validation images, add how to draw them."""
    if "split" in table and _lacks_validation(table["split"]):
        return {**rule, "valid": valid, "seed": seed}
    return rule


def _lacks_validation(given: pd.Series) -> bool:
    return set(given.dropna()) == {"train", "test"}


def _check_rule(
    table: pd.DataFrame,
    valid: float,
    test: float | None,
    test_per_label: int | None,
    extend: bool,
) -> None:
    for name, share in (("valid", valid), ("test", test)):
        if share is not None and not 0 < share < 1:
            raise DataError(
                f"--{name} must lie between 0 and 1, got {share}. Give a share of the patients, "
                "for example 0.2."
            )
    if test is not None and test_per_label is not None:
        raise DataError("--test and --test-per-label both define the test set. Give only one.")
    if test_per_label is not None and test_per_label < 1:
        raise DataError(f"--test-per-label must be at least 1, got {test_per_label}.")
    if "split" in table:
        _check_given(test, test_per_label, extend)
        _check_whole(table["split"])
    if "gan" in table and extend:
        raise DataError("--extend sets the gan flags itself. Omit --gan-col or --extend.")


def _check_given(test: float | None, test_per_label: int | None, extend: bool) -> None:
    if extend or test is not None or test_per_label is not None:
        raise DataError(
            "The split is given by a column or by folders, so --test, --test-per-label and "
            "--extend do not apply. Omit them, or omit --split-col or --split-folders."
        )


def _check_whole(given: pd.Series) -> None:
    """Refuse a given split without training images, or with neither validation nor test images."""
    present = set(given.dropna())
    lacking = [name for name in ("train", "valid") if name not in present]
    if lacking and not _lacks_validation(given):
        has = ", ".join(f"{name} ({count})" for name, count in given.value_counts().items())
        raise DataError(
            f"The given split has {has} and no image for {' and '.join(lacking)}. Assign some "
            f"patients to {' and some to '.join(lacking)}, or omit the split column to have the "
            "split drawn."
        )


def _take_test(table: pd.DataFrame, test: float | None, per_label: int | None, seed: int) -> None:
    if test is not None:
        _move(table, "train", "test", test, seed)
    elif per_label is not None:
        chosen = _groups_per_label(table, per_label, seed)
        table.loc[table["group"].isin(chosen), "split"] = "test"


def _move(table: pd.DataFrame, origin: str, to: str, share: float, seed: int) -> None:
    """Move a share of the patients of `origin` to the split `to`, and the others to `train`."""
    rows = np.flatnonzero(table["split"] == origin)
    groups = table["group"].to_numpy()[rows]
    patients = len(np.unique(groups))
    if int(patients - np.ceil(share * patients)) < 1:  # rounded as in scikit-learn
        raise DataError(
            f"A {to} share of {share:g} leaves no patient to train on: there "
            f"{'is' if patients == 1 else 'are'} {counted(patients, 'patient')}. Add patients, "
            "lower the share, or omit the group column if images are unrelated."
        )
    _draw(table, origin, to, share, seed)


def _draw(table: pd.DataFrame, origin: str, to: str, go_of: float | int, seed: int) -> None:
    """Move a share or a number of the patients of `origin`, drawn at random, to the split `to`."""
    rows = np.flatnonzero(table["split"] == origin)
    groups = table["group"].to_numpy()[rows]
    splitter = GroupShuffleSplit(1, test_size=go_of, random_state=seed)
    stay, go = next(splitter.split(rows, groups=groups))
    split = table["split"].to_numpy(dtype=object, copy=True)
    split[rows[stay]] = "train"
    split[rows[go]] = to
    table["split"] = split


def _groups_per_label(table: pd.DataFrame, per_label: int, seed: int) -> list[Any]:
    """Draw whole patients, in a seeded order, until each label has `per_label` test images."""
    counts = pd.crosstab(table["group"], table["label"])
    have = counts.sum()
    short = [f'"{label}" has {n}' for label, n in have.items() if n <= per_label]
    if short:
        raise DataError(
            f"--test-per-label {per_label} would empty the training set: {', '.join(short)} "
            "images. Ask for fewer test images."
        )
    order = np.random.RandomState(seed).permutation(len(counts))
    needed = np.full(counts.shape[1], per_label)
    chosen = []
    for index in order:
        images = counts.to_numpy()[index]
        if ((images > 0) & (needed > 0)).any():
            chosen.append(counts.index[index])
            needed = needed - images
    left = have - counts.loc[chosen].sum()
    emptied = [f'"{label}"' for label, n in left.items() if n == 0]
    if emptied:
        raise DataError(
            f"--test-per-label {per_label} takes every patient with label {', '.join(emptied)}. "
            "Ask for fewer test images."
        )
    return chosen


def _check_labels(table: pd.DataFrame) -> None:
    """Refuse splits that lack a label or are empty."""
    labels = sorted(table["label"].unique())
    problems = []
    for split in ("train", "valid", *(["test"] if (table["split"] == "test").any() else [])):
        present = set(table.loc[table["split"] == split, "label"])
        missing = [label for label in labels if label not in present]
        if missing:
            names = ", ".join(f'"{label}"' for label in missing)
            problems.append(f"no image of label {names} is in the {split} set")
    if problems:
        raise DataError(
            f"{'; '.join(problems)}. Add patients with that label, change the shares of the "
            "split, or drop the label with --keep-label."
        )
