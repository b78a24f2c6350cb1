"""The plan of a grid with every check made, those of its networks included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fgaug import planning
from fgaug.cells import Cell
from fgaug.errors import GridError
from fgaug.grid_fit import problems_of
from fgaug.grid_load import load_space
from fgaug.machine.room import Room
from fgaug.planning import Plan, Shard
from fgaug.space import Space
from fgaug.stocks import FakeNeeds
from fgaug.study.stocking import check_critics, describe, label_sources, scorer_of

if TYPE_CHECKING:
    from gan_worker.sources import LabelSource


def plan(
    grid: str | Path | Space,
    out: str | Path | None = None,
    shard: Shard | None = None,
    keep: Callable[[Cell], bool] | None = None,
    room: Room | None = None,
) -> Plan:
    """Return the plan of a grid, all checks made; see `planning.make_plan`."""
    space = grid if isinstance(grid, Space) else load_space(Path(grid))
    # `load_space` has checked its grid; `keep` comes with one derived from a checked grid
    if isinstance(grid, Space) and keep is None and (problems := problems_of(space)):
        raise GridError(problems, space.name)
    place = Path(out) if out is not None else None
    planned = planning.make_plan(space, place, describe, scorer_of, shard, keep, room)
    for needs in planned.needs:
        check_networks(needs, label_sources(needs.source))
        check_critics(planned, needs)
    return planned


def check_networks(needs: FakeNeeds, sources: Mapping[str, LabelSource]) -> None:
    """Refuse networks that cannot make the fakes that their bank lacks."""
    if needs.missing.count:
        from gan_worker.sources import check_sources

        check_sources(sources, needs.source.spec, needs.source.store)
