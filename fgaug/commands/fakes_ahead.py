"""What a dry run says of the fakes that a search makes: rounds, and the time it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgaug.cascade import RemainingRounds
    from fgaug.planning import Plan
    from fgaug.stocks import FakeNeeds


def lines(planned: Plan, needs: FakeNeeds) -> Iterator[str]:
    """Yield what the rounds of a needs need, and how long its fakes take to be made."""
    from fgaug import cluster
    from fgaug.study.pacing import fakes_per_s

    found = planned.rounds_left(needs)
    if found is not None:
        yield from _of_rounds(found)
    least = most = needs.missing.count
    if found is not None:
        least, most = found.least, found.most
    if not most or (rate := fakes_per_s(needs)) is None:
        return
    gpus = cluster.visible_gpus()
    device = "GPU" if gpus else "machine, on its cores,"
    hours = _span(least / rate / 3600, most / rate / 3600)
    shared = f", shared by {gpus}" if gpus > 1 else ""
    yield (
        f"  to make them: about {hours} h of one {device}{shared} ({rate:.3g} fakes/s, "
        "measured now)"
    )


def _of_rounds(found: RemainingRounds) -> Iterator[str]:
    yield (
        f"  rounds: {found.rounds} left for {found.cells} cells; in each a cell trains on "
        f"{found.size} fakes a label, of {found.block} z_seeds that no other round draws from: "
        f"{found.z_seeds} z_seeds a label in all"
    )
    unknown = "" if found.least == found.most else " (by what the filters keep)"
    held = "" if found.keeps else ": one round's, as `keep_shards: false` drops the others"
    yield (
        f"  of all rounds: {_span(found.least, found.most)} images to make{unknown}, "
        f"{_span(found.least_bytes / 1e9, found.most_bytes / 1e9)} GB in the bank{held}"
    )


def _span(low: float, high: float) -> str:
    first, last = (f"{x:.0f}" if x >= 100 else f"{x:.2g}" for x in (low, high))
    return first if first == last else f"{first} to {last}"
