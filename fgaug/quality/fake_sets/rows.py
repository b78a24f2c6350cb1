"""Rows of the record for one set of fakes: measures, copies, strata, frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np

from fgaug.bank import Bank, Demand
from fgaug.errors import UserError
from fgaug.grid.filters import Filter
from fgaug.quality.copies import closest, copies_of
from fgaug.quality.fake_sets.reals import APPEARANCE, LabelReals, quantiles_of
from fgaug.quality.fake_sets.record import TABLES, Row
from fgaug.quality.scoring.image_scores import NeighbourScores
from fgaug.quality.set_measures import drawn
from fgaug.quality.spectrum import halves, high_frequencies, real_or_fake
from fgaug.quality.strata import Machines, Shares, appearance, shares_of
from fgaug.quality.two_sample import two_sample_test

PAIRS = 6  # closest fakes and training images per set


@dataclass(slots=True, kw_only=True, eq=False)
class TableRows:
    """Rows collected while measuring, by table."""

    tables: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def add(self, table: str, key: Row, measure: Callable[[], Row]) -> None:
        """Add a row, or the reason why it could not be measured."""
        try:
            row = {**key, **measure(), "reason": None}
        except UserError as error:
            row = {**key, "reason": str(error)}
        self.tables[table].append(row)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fakes:
    """The fakes of one label and psi that pass any of the filters."""

    label: str
    psi: float
    z_seeds: np.ndarray  # [n]
    taken: Mapping[str, np.ndarray]  # by filter: bool [n]
    counts: Mapping[str, Row]  # by filter: numbers in the bank, scored, and passing


def fakes_of(bank: Bank, wanted: Demand, filters: list[Filter], images: int) -> list[Fakes]:
    """Return the fakes to measure: at most `images` per filter, the lowest z_seeds.

    Filters read the existing scores; fakes without scores do not pass.

    Raises:
        BankError: the bank lacks the scores of a filter.
    """
    scorers = list(dict.fromkeys(name for each in filters for name in each.scorers))
    index = bank.index(scores=scorers)
    found = []
    for label, psi in wanted.wanted:
        rows = index[index["label"].eq(label) & index["psi"].eq(psi)].sort_values("z_seed")
        z_seeds = rows["z_seed"].to_numpy()
        taken: dict[str, np.ndarray] = {}
        counts: dict[str, Row] = {}
        for each in filters:
            passes = each.passes(rows)
            scored = rows[list(each.columns)].notna().all(axis=1)
            taken[each.text] = np.isin(z_seeds, drawn(z_seeds[passes], images))
            counts[each.text] = {
                "n_bank": len(rows),
                "n_scored": int(scored.sum()),
                "n_pass": int(passes.sum()),
            }
        used = np.any(list(taken.values()), axis=0)
        found.append(
            Fakes(
                label=label,
                psi=psi,
                z_seeds=z_seeds[used],
                counts=counts,
                taken={text: mask[used] for text, mask in taken.items()},
            )
        )
    return found


def add_reals(found: TableRows, reals: LabelReals, own: Row) -> None:
    """Add the scores of a label's reals, including `own`."""
    held = quantiles_of("realism", reals.of_held.realism) if len(reals.held) else {}
    key = {
        "label": reals.label,
        "n_real": len(reals.features),
        "n_held": len(reals.held),
        "n_patients": len(np.unique(reals.groups.astype(str))),
        **own,
        **held,
    }
    found.add("reals", key, lambda: asdict(halves(reals.frequencies, reals.groups)))


def add_fakes(
    found: TableRows,
    bank: Bank,
    fakes: Fakes,
    by_network: Sequence[np.ndarray],
    reals: LabelReals,
    machines: Mapping[str, Machines],
    network: str,
) -> None:
    """Add the rows of every filter of a label and psi.

    Args:
        found: takes the rows.
        bank: holds the fakes.
        fakes: of one label and psi.
        by_network: their features, float [n, D], by the network of FID; then by that of precision
            and recall, if it is another.
        reals: of the label.
        machines: classifiers of strata, by column.
        network: label of the first network.
    """
    features = by_network[0]
    pixels = bank.read(fakes.label, fakes.psi, fakes.z_seeds.tolist())
    inputs = {network: features, APPEARANCE: appearance(pixels)}
    called = {name: each.call(inputs) for name, each in machines.items()}
    frequencies = high_frequencies(pixels)
    for text, mask in fakes.taken.items():
        key: Row = {"label": fakes.label, "psi": fakes.psi, "filter": text}
        counts = {**key, **fakes.counts[text]}
        found.add("sets", counts, partial(reals.measured.measured, *(f[mask] for f in by_network)))
        if not mask.any():
            continue
        near = reals.reference.scores(features[mask])
        found.add("copies", key, partial(_copies, near, reals))
        found.tables["pairs"] += _pairs(key, fakes.z_seeds[mask], near, reals)
        found.add("spectrum", key, partial(_told, reals, frequencies[mask]))
        for name, machine in machines.items():
            own = reals.among[machine.rows]
            if own.any():
                shares = shares_of(machine, own, called[name][mask])
                found.tables["shares"] += _shares({**key, "stratum": name}, machine, shares)


def add_networks(
    found: TableRows,
    banks: tuple[Bank, Bank],
    fakes: Fakes,
    features: tuple[np.ndarray, np.ndarray],
    z_seeds: np.ndarray,
) -> None:
    """Add the two-sample test of the fakes of two banks' networks of one label."""
    own, other = (bank.spec.sources[fakes.label].sha256 for bank in banks)
    key: Row = {"label": fakes.label, "psi": fakes.psi, "other": other}
    further = {"other_name": banks[1].spec.sources[fakes.label].name, "own": own}
    apart = partial(two_sample_test, *features, z_seeds, z_seeds, shared=True)
    found.add("networks", {**key, **further}, lambda: asdict(apart()))


def _copies(near: NeighbourScores, reals: LabelReals) -> Row:
    held = reals.of_held if len(reals.held) else None
    distances = () if held is None else held.nearest_distance
    return {
        **asdict(copies_of(near.nearest_distance, distances, reals.held_groups)),
        "authentic": reals.authentic(near),
        "authentic_held": math.nan if held is None else reals.authentic(held),
    }


def _pairs(
    key: Row, z_seeds: np.ndarray, near: NeighbourScores, reals: LabelReals
) -> Iterator[Row]:
    chosen = closest(near.nearest_distance, near.nearest, PAIRS)
    for rank, number in enumerate(chosen, start=1):
        yield {
            **{**key, "rank": rank, "z_seed": int(z_seeds[number])},
            "image_id": str(reals.image_ids[near.nearest[number]]),
            "distance": float(near.nearest_distance[number]),
        }


def _told(reals: LabelReals, frequencies: np.ndarray) -> Row:
    return asdict(real_or_fake(reals.frequencies, reals.groups, frequencies))


def _shares(key: Row, machines: Machines, found: Shares) -> Iterator[Row]:
    """Yield one row per value of a stratum; each repeats the values for the whole stratum."""
    whole = {name: getattr(found, name) for name in _OF_ALL}
    for number, value in enumerate(machines.strata):
        yield {**key, "value": value, **{n: getattr(found, n)[number] for n in _OF_EACH}, **whole}


_OF_EACH = ("real", "fake", "low", "high", "called_real", "called_fake", "missing")
_OF_ALL = ("total_variation", "tv_low", "tv_high", "tv_chance", "chi_square", "p_value")
