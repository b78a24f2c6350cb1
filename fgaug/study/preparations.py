"""Several preparations of one set in one grid: each is planned by itself, then they are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from fgaug.data import Dataset, open_dataset
from fgaug.data.audit import audit
from fgaug.data.problems import counted
from fgaug.errors import DataError
from fgaug.grid.axes import Split
from fgaug.grid.cells import on_dataset, view_of
from fgaug.grid.space import Space
from fgaug.runs.row import TrialSources
from fgaug.study.draft import Draft

Value = TypeVar("Value")
SAME = ("label", "group", "split", "gan", "fold")  # columns that must not differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One dataset of a grid, with the grid that has it alone."""

    name: str | None  # on the axis `dataset`; None without that axis
    space: Space
    dataset: Dataset

    def named(self, problems: Iterable[str]) -> list[str]:
        """Return problems of this part, with its name if it has one."""
        if self.name is None:
            return list(problems)
        return [f"`axes.dataset.{self.name}`: {problem}" for problem in problems]


def parts_of(space: Space, dataset: Dataset) -> tuple[tuple[Part, ...], list[str]]:
    """Return the datasets of a grid, and what differs between them apart from their pixels.

    Args:
        space: the grid.
        dataset: at `space.dataset`.
    """
    if not space.preparations:
        return (Part(name=None, space=space, dataset=dataset),), []
    found: list[Part] = []
    problems: list[str] = []
    for name, entry in space.preparations.items():
        try:
            opened = dataset if entry.path == space.dataset else open_dataset(entry.path)
        except DataError as error:
            problems.append(f"`axes.dataset.{name}`: {error}")
            continue
        part = Part(name=name, space=space.on(name), dataset=opened)
        problems += part.named(audit(opened)) if opened is not dataset else []
        found.append(part)
    for part in found[1:]:
        problems += [
            f"`axes.dataset.{part.name}` and `axes.dataset.{found[0].name}` must show the same "
            f"images of the same patients: {line}"
            for line in differences(found[0].dataset, part.dataset)
        ]
    return tuple(found), problems


def differences(one: Dataset, other: Dataset) -> list[str]:
    """Return what differs between two preparations of one set, apart from the pixels."""
    lines = [
        f"{name} {getattr(one.spec, name)} and {getattr(other.spec, name)}. Prepare both alike"
        for name in ("size", "channels", "labels", "folds")
        if getattr(one.spec, name) != getattr(other.spec, name)
    ]
    a, b = (each.manifest.set_index("image_id") for each in (one, other))
    only_a, only_b = a.index.difference(b.index), b.index.difference(a.index)
    for extra, missing in ((only_a, "second"), (only_b, "first")):
        if len(extra):
            lines.append(
                f"{counted(len(extra), 'image')} {'is' if len(extra) == 1 else 'are'} not in the "
                f"{missing}, such as {extra[0]}. Prepare both from the same list"
            )
    both = a.index.intersection(b.index)
    for column in (name for name in SAME if name in a and name in b):
        differ = a.loc[both, column].astype(str) != b.loc[both, column].astype(str)
        if differ.any():
            first = both[differ][0]
            lines.append(
                f"`{column}` of {counted(int(differ.sum()), 'image')} differs, such as {first} "
                f"({a.loc[first, column]} and {b.loc[first, column]}). Prepare both with the same "
                "options"
            )
    return lines


def joined(parts: Iterable[tuple[Part, Draft]]) -> Draft:
    """Return the drafts of a grid's datasets as one, with cells ordered by seed.

    Cells, fake sources, splits and reals carry the name of their dataset.
    """
    pairs = tuple(parts)
    if pairs[0][0].name is None:
        return pairs[0][1]
    named = {part.name: drafted for part, drafted in pairs if part.name is not None}
    cells = [on_dataset(cell, name) for name, of in named.items() for cell in of.cells]
    seeds = dict.fromkeys(cell.seed for of in named.values() for cell in of.cells)
    order = {seed: place for place, seed in enumerate(seeds)}
    return Draft(
        cells=tuple(sorted(cells, key=lambda cell: order[cell.seed])),
        fake_sources=tuple(
            replace(source, snapshot=name)
            for name, of in named.items()
            for source in of.fake_sources
        ),
        scoring={},
        splits=_named(named, lambda of: of.splits),
        reals=_named(named, lambda of: of.reals),
        scratch=tuple(dict.fromkeys(model for of in named.values() for model in of.scratch)),
        problems=tuple(dict.fromkeys(line for of in named.values() for line in of.problems)),
    )


def _named(
    drafts: Mapping[str, Draft], of: Callable[[Draft], Mapping[Split, Value]]
) -> dict[Split, Value]:
    return {
        view_of(name, split): value
        for name, drafted in drafts.items()
        for split, value in of(drafted).items()
    }


def joined_sources(
    found: Iterable[tuple[Part, Mapping[str | None, TrialSources]]],
) -> dict[str | None, TrialSources]:
    """Return the image sources of trials by `Cell.source`."""
    pairs = tuple(found)
    if pairs[0][0].name is None:
        return dict(pairs[0][1])
    # a grid with named datasets has one generator per dataset at most, so its fakes are unnamed
    return {part.name: list(sources.values())[-1] for part, sources in pairs}
