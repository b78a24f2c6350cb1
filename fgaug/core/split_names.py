"""Names of a dataset's splits: as prepared, the seed of a resplit, or one fold held out."""

from __future__ import annotations

import re

PREPARED = "dataset"
FOLDS = "folds"  # of arms, and of predictions pooled over folds
_FOLD = re.compile(r"fold-(0|[1-9][0-9]{0,3})")


def fold_split(fold: int) -> str:
    """Return the name of the split that holds out a fold, such as `fold-3`."""
    return f"fold-{fold}"


def fold_of(split: int | str) -> int | None:
    """Return the fold that a split holds out; None for a split without folds."""
    found = _FOLD.fullmatch(split) if isinstance(split, str) else None
    return int(found[1]) if found else None


def in_words(split: int | str) -> str:
    """Return a split for messages: `split 7`, or `fold 3`."""
    fold = fold_of(split)
    return f"split {split}" if fold is None else f"fold {fold}"
