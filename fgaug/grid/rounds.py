"""Rounds: a synthetic arm trained on fresh fakes again and again.

Round r draws from the r-th of as many blocks of the pool and goes on from the weights of the round
before: a cascade, in which no fake is seen in two rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from fgaug.grid.recipe import Frozen


def _distinct_and_rising(values: list[int]) -> list[int]:
    if sorted(set(values)) != values:
        raise ValueError(f"must rise, each round named once, got {values}")
    return values


class Rounds(Frozen):
    """The key `rounds` of a grid: of its synthetic arms, which then have no ratio."""

    size: Annotated[int, Field(strict=True, ge=2)]  # fakes a round, as many of each label
    count: Annotated[int, Field(strict=True, ge=1)]
    # rounds that get a row of their own; the last always does
    report_at: Annotated[
        list[Annotated[int, Field(strict=True, ge=1)]], AfterValidator(_distinct_and_rising)
    ] = Field(default_factory=list)
    keep_shards: StrictBool = True  # false: the bank drops a round's images after it

    @model_validator(mode="after")
    def _last_is_reported(self) -> Self:
        beyond = [number for number in self.report_at if number > self.count]
        if beyond:
            raise ValueError(f"`report_at` names round {beyond[0]} of {self.count}")
        if self.count not in self.report_at:
            object.__setattr__(self, "report_at", [*self.report_at, self.count])
        return self

    def misfits(self, pool: int, labels: int) -> Iterator[str]:
        """Yield what a pool and a number of labels say of the rounds."""
        if self.size % labels:
            yield (
                f"`rounds.size` is {self.size}, which {labels} labels cannot share equally. "
                f"Give a multiple of {labels}"
            )
        elif self.size // labels > pool // self.count:
            yield (
                f"`pool` of {pool} cut into {self.count} rounds has {pool // self.count} fakes of "
                f"a label for each, but a round wants {self.size // labels}. Raise `pool` to "
                f"{self.size // labels * self.count} or more (a filter wants more than it keeps), "
                "or lower `rounds.size`"
            )


def block(pool: int, count: int, number: int) -> range:
    """Return the z_seeds that a round draws from: the `number`-th (from 1) of `count` blocks.

    What is left over of the pool, fewer than `count`, belongs to none.
    """
    size = pool // count
    return range((number - 1) * size + 1, number * size + 1)
