"""Parts of a dry run's output: images by arm and label, rounds, and time to generate fakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgaug.core.split_names import in_words

if TYPE_CHECKING:
    from fgaug.grid.axes import Split
    from fgaug.grid.cells import Cell
    from fgaug.runs.reals import Reals
    from fgaug.study.fake_needs import FakeNeeds
    from fgaug.study.plan import Plan
    from fgaug.study.rounds import RemainingRounds


def lines(planned: Plan, needs: FakeNeeds) -> Iterator[str]:
    """Yield the fakes that the remaining rounds need, and the time to generate them."""
    from fgaug.core import devices
    from fgaug.study.dry_run import fakes_per_s

    found = planned.rounds_left(needs)
    if found is not None:
        yield from _of_rounds(found)
    least = most = needs.missing.count
    if found is not None:
        least, most = found.least, found.most
    if not most or (rate := fakes_per_s(needs)) is None:
        return
    gpus = devices.visible_gpus()
    device = "GPU" if gpus else "machine's CPU cores"
    hours = _span(least / rate / 3600, most / rate / 3600)
    shared = f", shared by {gpus}" if gpus > 1 else ""
    yield (
        f"  time to generate: about {hours} h of one {device}{shared} ({rate:.3g} fakes/s, "
        "measured now)"
    )


def _of_rounds(found: RemainingRounds) -> Iterator[str]:
    yield (
        f"  rounds: {found.rounds} left for {found.cells} cells; each trains on {found.size} "
        f"fakes per label from its own {found.block} z_seeds: {found.z_seeds} z_seeds per label "
        "in total"
    )
    unknown = "" if found.least == found.most else " (depends on the filters)"
    held = "" if found.keeps else " for one round; `keep_shards: false` drops the others"
    yield (
        f"  all rounds: {_span(found.least, found.most)} images to generate{unknown}, "
        f"{_span(found.least_bytes / 1e9, found.most_bytes / 1e9)} GB in the bank{held}"
    )


def _span(low: float, high: float) -> str:
    first, last = (f"{x:.0f}" if x >= 100 else f"{x:.2g}" for x in (low, high))
    return first if first == last else f"{first} to {last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """What the arms of a mode with the same ratio or counts train on besides their reals."""

    mode: str
    amount: str  # the ratio, `counts` or the number of rounds; empty if nothing is added
    further: str  # split and share of patients, unless they are the dataset's own
    added: Mapping[str, int]  # fakes by label over all rounds; repeated reals in oversample
    removed: Mapping[str, int]  # reals by label removed by `remove`


def amounts_of(cells: Iterable[Cell], reals: Mapping[Split, Reals]) -> list[Amount]:
    """Return the distinct amounts, each computed at its first seed."""
    from fgaug.runs.mix import fakes_wanted
    from fgaug.runs.reals import removed_rows

    found: dict[Any, Amount] = {}
    for cell in cells:
        key = (cell.mode, cell.ratio, cell.fakes, cell.remove, cell.view, cell.real_fraction)
        if key in found:
            continue
        of = reals[cell.view]
        here = of.share(cell.real_fraction, cell.seed)
        amount = _amount(cell)
        wanted = {label: fakes_wanted(cell, of, label) if amount else 0 for label in of.labels}
        found[key] = Amount(
            mode=cell.mode,
            amount=amount,
            further=_further(cell),
            added={label: cell.last_round * count for label, count in wanted.items()},
            removed={
                label: len(removed_rows(cell, label, here.removable(label), flagged=of.any_flag))
                for label in of.labels
            },
        )
    return list(found.values())


def amount_lines(cells: Iterable[Cell], reals: Mapping[Split, Reals]) -> Iterator[str]:
    """Yield the lines of a small table with one amount per line."""
    amounts = amounts_of(cells, reals)
    labels = list(amounts[0].added) if amounts else []
    head = [
        "mode",
        "ratio",
        "",
        *(f"fakes {x}" for x in labels),
        *(f"removed {x}" for x in labels),
    ]
    rows = [
        [
            "oversample (repeats)" if each.mode == "oversample" else each.mode,
            each.amount,
            each.further,
            *(str(count) for count in (*each.added.values(), *each.removed.values())),
        ]
        for each in amounts
    ]
    kept = [place for place in range(len(head)) if head[place] or any(row[place] for row in rows)]
    widths = [max(len(line[place]) for line in (head, *rows)) for place in kept]
    for line in (head, *rows):
        words = [line[place] for place in kept]
        padded = [words[0].ljust(widths[0])]
        padded += [word.rjust(width) for word, width in zip(words[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(padded)


def _amount(cell: Cell) -> str:
    if cell.rounds is not None:
        return f"{cell.last_round} rounds"
    if cell.fakes is not None:
        return "counts"
    return "" if cell.ratio is None else f"{cell.ratio:g}"


def _further(cell: Cell) -> str:
    parts = [] if cell.dataset is None else [cell.dataset]
    parts += [] if cell.split == "dataset" else [in_words(cell.split)]
    parts += [] if cell.real_fraction == 1 else [f"{cell.real_fraction:g} of the patients"]
    return ", ".join(parts)
