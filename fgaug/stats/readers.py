"""Agreement of readers beyond chance: Cohen's kappa of two, Fleiss' kappa of several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fgaug.errors import UserError
from fgaug.stats.arrays import NAN, class_indices


def cohen_kappa(one: ArrayLike, other: ArrayLike) -> float:
    """Return Cohen's kappa of two readers (Cohen 1960); NaN if chance alone gives agreement.

    kappa = (p - e) / (1 - e): p is the share of images with equal votes, e the share expected if
    both kept their frequencies of labels and voted independently. If both give every image one and
    the same label, e is 1 and kappa is undefined.

    Args:
        one: class indices, int [N], the votes of one reader.
        other: likewise, the votes of the other, for the same images.

    Raises:
        UserError: the votes are not class indices, or are of different numbers of images.
    """
    first, second = class_indices(one), class_indices(other)
    if first.size != second.size:
        raise UserError(
            f"Both readers need a vote for every image, got {first.size} and {second.size} votes."
        )
    if not first.size:
        return NAN
    count = int(max(first.max(), second.max())) + 1
    table = np.zeros((count, count))
    np.add.at(table, (first, second), 1)
    return _beyond_chance(
        np.trace(table) / first.size, table.sum(axis=0) @ table.sum(axis=1) / first.size**2
    )


def fleiss_kappa(votes: ArrayLike) -> float:
    """Return Fleiss' kappa of several readers (Fleiss 1971); NaN if it is undefined.

    p is the share of pairs of votes on one image that are equal, averaged over images; e is the
    sum of squares of the labels' shares among all votes.

    Args:
        votes: class indices, int [N, R]: the votes of R readers, 2 or more, on N images.

    Raises:
        UserError: the votes are not class indices [N, R], or of fewer than two readers.
    """
    table = np.asarray(votes)
    if table.ndim != 2 or table.shape[1] < 2:
        raise UserError(
            "`votes` must have a row for each image and a column for each of two readers or more, "
            f"got shape {table.shape}."
        )
    images, readers = table.shape
    if not images:
        return NAN
    classes = class_indices(table.ravel()).reshape(table.shape)
    counts = (classes[:, :, None] == np.arange(classes.max() + 1)).sum(axis=1)  # [N, K]
    equal = (counts * (counts - 1)).sum() / (images * readers * (readers - 1))
    shares = counts.sum(axis=0) / (images * readers)
    return _beyond_chance(equal, shares @ shares)


def _beyond_chance(agreed: float, expected: float) -> float:
    # Shares of counts, so that a chance of 1 is exact.
    return float((agreed - expected) / (1 - expected)) if expected < 1 else NAN
