"""Seeds beyond those of a grid's axis: for its baseline, and fresh ones for a second stage.

axes -> [seeds] -> points, confirmation
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator

from fgaug.axes import Lists, SeedSample

FIRST_FRESH = 1_000_000  # beyond what grids list or draw, so that a grown grid meets none of them


def seeds_after(axes: Lists, taken: Collection[int]) -> Iterator[int]:
    """Yield seeds that are not `taken`, without end, always the same ones in the same order.

    Where the axis is a draw, the next of that draw, so that a larger `sample` has them in the same
    order; where it is a list, and once all of a draw's population are used, the smallest numbers.
    """
    known = set(taken)
    drawn = _rest_of(axes.seed) if isinstance(axes.seed, SeedSample) else iter(())
    for seed in itertools.chain(drawn, itertools.count()):
        if seed not in known:
            known.add(seed)
            yield seed


def fresh_seeds(count: int, used: Collection[int]) -> tuple[int, ...]:
    """Return the first `count` seeds from FIRST_FRESH on that are not `used`."""
    unused = (seed for seed in itertools.count(FIRST_FRESH) if seed not in used)
    return tuple(itertools.islice(unused, count))


def _rest_of(sample: SeedSample) -> Iterator[int]:
    """Yield what `random.sample` would go on to draw, until its population is spent.

    It swaps positions of a list where the population is small, and otherwise draws numbers until
    one is new.
    """
    population = range(sample.population)
    rng = random.Random(sample.rng)
    first = rng.sample(population, sample.sample)
    if sample.population <= 16 * sample.sample + 32:
        whole = random.Random(sample.rng).sample(population, sample.population)
        if whole[: sample.sample] == first:
            yield from whole[sample.sample :]
            return
    drawn = set(first)
    while len(drawn) < sample.population:
        seed = rng.randrange(sample.population)
        if seed not in drawn:
            drawn.add(seed)
            yield seed
