"""The comparators of an arm, defined once: its baseline, and its twins.

A comparator has the arm's seed, split, share of patients and recipe. Of the axes that describe
fakes it keeps some and drops the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

AMOUNTS = ("ratio", "fakes")
_OF_FAKES = ("snapshot", "psi", "psi_by_label", "filter")
_AXES = (*_OF_FAKES, *AMOUNTS, "remove")


@dataclass(frozen=True, slots=True)
class Comparator:
    """A kind of cell that arms are compared with; its name is the mode of its cells."""

    name: str
    of_modes: tuple[str, ...]  # modes of the arms that have it
    dropped: tuple[str, ...]  # axes without a value in its cells

    @property
    def kept(self) -> tuple[str, ...]:
        """The axes of fakes that it shares with its arm."""
        return tuple(name for name in _AXES if name not in self.dropped)

    def key(self, value: Callable[[str], Hashable]) -> tuple[Hashable, ...]:
        """Return what an arm and its comparator share beside split, share and recipe.

        Args:
            value: returns the value of an arm, or of the comparator itself, on an axis.
        """
        return (self.name, *(value(axis) for axis in self.kept))


# trains on the real images alone
BASELINE = Comparator(
    "baseline", ("augmentation", "replacement", "synthetic", "oversample", "drop"), _AXES
)
# trains on as many repeated reals as the arm has fakes
OVERSAMPLE = Comparator("oversample", ("augmentation", "replacement"), _OF_FAKES)
# trains on the reals that replacement leaves
DROP = Comparator("drop", ("replacement",), (*_OF_FAKES, *AMOUNTS))
COMPARATORS = {each.name: each for each in (BASELINE, OVERSAMPLE, DROP)}
