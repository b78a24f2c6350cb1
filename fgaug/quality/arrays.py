"""Validation of feature arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError

Features = NDArray[np.float64]  # [N, D]


def checked(features: ArrayLike, name: str = "features", least: int = 2) -> Features:
    """Return features as float64 [N, D]; refuse other shapes and non-finite numbers.

    Args:
        features: one image per row.
        name: name of the set in messages.
        least: number of images that the measure needs.
    """
    try:
        array = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers, one row per image ({error}).") from None
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"{name} must have the shape [images, features], got {array.shape}.")
    if len(array) < least:
        raise UserError(
            f"{name} must have at least {least} images for this measure, got {len(array)}."
        )
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise UserError(
            f"{name} must be finite numbers; {np.sum(~finite)} of {len(array)} images have "
            f"others (the first is row {int(np.argmin(finite))}). Leave them out, or check the "
            "network."
        )
    return array


def checked_pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str], least: int = 2
) -> tuple[Features, Features]:
    """Return two sets of features of the same network, validated by `checked`."""
    a, b = checked(first, names[0], least), checked(second, names[1], least)
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"{names[0]} and {names[1]} must come from the same network, got {a.shape[1]} and "
            f"{b.shape[1]} features per image."
        )
    return a, b
