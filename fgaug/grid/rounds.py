"""Rounds: synthetic arms that train on fresh fakes in every round.

The pool is cut into one block per round. Round r draws from block r and continues from the weights
of round r - 1, so no fake is seen in two rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from fgaug.grid.recipe import Frozen


def _distinct_and_rising(values: list[int]) -> list[int]:
    if sorted(set(values)) != values:
        raise ValueError(f"must be strictly increasing, got {values}")
    return values


class Rounds(Frozen):
    """The key `rounds` of a grid, for its synthetic arms, which then take no ratio."""

    size: Annotated[int, Field(strict=True, ge=2)]  # fakes per round, split equally among labels
    count: Annotated[int, Field(strict=True, ge=1)]
    # rounds that get their own result row; the last always does
    report_at: Annotated[
        list[Annotated[int, Field(strict=True, ge=1)]], AfterValidator(_distinct_and_rising)
    ] = Field(default_factory=list)
    keep_shards: StrictBool = True  # false: drop a round's images from the bank afterwards

    @model_validator(mode="after")
    def _last_is_reported(self) -> Self:
        beyond = [number for number in self.report_at if number > self.count]
        if beyond:
            raise ValueError(
                f"`report_at` must not exceed `count` ({self.count}), got {beyond[0]}"
            )
        if self.count not in self.report_at:
            object.__setattr__(self, "report_at", [*self.report_at, self.count])
        return self

    def misfits(self, pool: int, labels: int) -> Iterator[str]:
        """Yield conflicts of the rounds with the pool size and the number of labels."""
        if self.size % labels:
            yield (
                f"`rounds.size` is {self.size}, which {labels} labels cannot share equally. "
                f"Give a multiple of {labels}"
            )
        elif self.size // labels > pool // self.count:
            yield (
                f"`pool` is {pool}: with {self.count} rounds that is {pool // self.count} fakes "
                f"per label and round, but a round needs {self.size // labels}. Raise `pool` to "
                f"at least {self.size // labels * self.count} (more with a filter), or lower "
                "`rounds.size`"
            )


def block(pool: int, count: int, number: int) -> range:
    """Return the z_seeds of round `number` (from 1): the pool is cut into `count` equal blocks.

    A remainder of fewer than `count` z_seeds stays unused.
    """
    size = pool // count
    return range((number - 1) * size + 1, number * size + 1)
