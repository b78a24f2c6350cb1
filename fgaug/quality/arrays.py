"""Features as arrays, checked at the door."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fgaug.errors import UserError

Features = NDArray[np.float64]  # [N, D]


def checked(features: ArrayLike, name: str = "features", least: int = 2) -> Features:
    """Return features in float64; refuse what is no array [N, D] of finite numbers.

    Args:
        features: an image a row.
        name: of the set, for messages.
        least: how many images the measure needs.
    """
    try:
        array = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be numbers, one row an image ({error}).") from None
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"{name} must have the shape [images, features], got {array.shape}.")
    if len(array) < least:
        raise UserError(
            f"{name} must have at least {least} images for this measure, got {len(array)}."
        )
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise UserError(
            f"{name} must be finite numbers, {np.sum(~finite)} of {len(array)} images have others "
            f"(the first is row {int(np.argmin(finite))}). Leave them out, or look at the network."
        )
    return array


def checked_pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str], least: int = 2
) -> tuple[Features, Features]:
    """Return two sets of features of one network, as `checked` does."""
    a, b = checked(first, names[0], least), checked(second, names[1], least)
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"{names[0]} and {names[1]} must come from one network, got {a.shape[1]} and "
            f"{b.shape[1]} features an image."
        )
    return a, b
