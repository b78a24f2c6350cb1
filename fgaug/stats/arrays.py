"""Validated arrays: labels, scores, patients and values in the form that statistics use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
# Rounding error of a sum of equal numbers, relative to their size; R's t.test uses the same.
ROUNDING = 10 * float(np.finfo(np.float64).eps)
NAN = float("nan")


def class_indices(y_true: ArrayLike, classes: int | None = None) -> Ints:
    """Return the labels as class indices, int [N], checked against 0..classes - 1 if given.

    Raises:
        UserError: labels are not whole numbers from 0 up, or not one-dimensional.
    """
    y = np.atleast_1d(np.asarray(y_true))
    if y.ndim != 1:
        raise UserError(f"`y_true` must have one dimension, got shape {y.shape}.")
    numbers = y.astype(np.float64) if y.dtype.kind in "biuf" else np.full(1, NAN)
    if not y.size:
        return np.zeros(0, dtype=np.int64)
    top = classes - 1 if classes else None
    if not ((numbers >= 0) & (numbers == np.floor(numbers))).all() or (
        top is not None and numbers.max() > top
    ):
        wanted = f"0 to {top}" if top is not None else "0 and above"
        raise UserError(
            f"`y_true` must hold class indices {wanted}, got {sorted(set(y.tolist()))[:5]}. "
            "Give the index of each image's label."
        )
    return numbers.astype(np.int64)


def run_scores(scores: ArrayLike, images: int, name: str) -> Floats:
    """Return the scores as float [R, N]; one run may be given as [N].

    Raises:
        UserError: the last dimension is not the number of images.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values.reshape(1, -1) if values.ndim < 2 else values
    if values.ndim != 2 or values.shape[1] != images:
        raise UserError(
            f"`{name}` must have one score for each of {images} labels, "
            f"got shape {np.shape(scores)}. Give [images] or [runs, images]."
        )
    return values


def patient_codes(group: ArrayLike | None, images: int) -> Ints:
    """Return each image's patient as a number 0..G - 1, in order of first appearance, int [N].

    Args:
        group: one name or number per image; None makes every image its own patient.
        images: N.

    Raises:
        UserError: `group` has another length.
    """
    if group is None:
        return np.arange(images, dtype=np.int64)
    names = np.atleast_1d(np.asarray(group))
    if names.shape != (images,):
        raise UserError(
            f"`group` must name the patient of each of {images} images, got shape {names.shape}."
        )
    _, first, codes = np.unique(names, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first, kind="stable")] = np.arange(len(first))
    return order[codes.reshape(-1)]


def sample(values: ArrayLike | Sequence[float], name: str) -> Floats:
    """Return one value per run as float [S].

    Raises:
        UserError: the values have more than one dimension.
    """
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1:
        raise UserError(f"`{name}` must hold one value per run, got shape {array.shape}.")
    return array


def missing(**values: Floats) -> str | None:
    """Return why a test of these values is undefined: there are none, or some are not finite."""
    for name, array in values.items():
        if array.size == 0:
            return f"{name} holds no values"
        if bad := int(np.sum(~np.isfinite(array))):
            return f"{bad} of {array.size} values of {name} are not finite"
    return None
