"""Option parsing and table output shared by several commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fgaug.errors import BankError

if TYPE_CHECKING:
    import numpy as np
    from rich import table
    from rich.console import Console

    from fgaug.analysis.report.parts import Table
    from fgaug.bank import Bank, Demand, Scorer
    from fgaug.bank.export import Selection

DATASET = "A prepared dataset: a folder, or a URI such as s3://bucket/datasets/breast."
FILE_COLUMNS = 200  # width for files and pipes: wide enough that no table wraps


def place(text: str) -> str | Path:
    """Return the path that a user gave, or the URI as it is."""
    from fgaug.core.store import is_uri

    return text if is_uri(text) else Path(text)


def z_seeds(text: str) -> list[int]:
    """Parse `1-2000` or `1,5,9-12` into a list of integers."""
    from fgaug.grid.axes import MAX_POOL

    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise BankError(f"--seeds must be a range or a list, as 1-2000 or 1,5,9, got {text}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 2**32:
            raise BankError(f"--seeds must lie within 0-4294967295 in rising order, got {part}.")
        if len(found) + last + 1 - first > MAX_POOL:
            raise BankError(f"--seeds takes at most {MAX_POOL} at once, got {text}. Split them.")
        found += range(first, last + 1)
    return found


def psis(texts: Iterable[str]) -> list[float]:
    """Parse `--psi 0.3,0.5 --psi 1` into distinct values in the order given."""
    from fgaug.grid.axes import usable_psi

    found: dict[float, None] = {}
    for part in (part for text in texts for part in text.split(",")):
        try:
            psi = float(part)
        except ValueError:
            raise BankError(
                f"--psi must be a number or a list, as 0.3,0.5,1, got {part.strip() or 'none'}."
            ) from None
        try:
            found[usable_psi(psi)] = None
        except ValueError as error:
            raise BankError(f"--psi: {error}.") from None
    return list(found)


def psis_of_labels(
    texts: Iterable[str], labels: Sequence[str]
) -> list[tuple[list[str], list[float]]]:
    """Parse `--psi benign=1.6,malignant=1.2`, or plain values for all labels.

    Args:
        texts: the values of --psi.
        labels: the values of --label; must be empty if --psi names labels.

    Returns:
        Pairs of labels and psis, as `selected` takes them.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not any("=" in part for part in parts):
        return [(list(labels), psis(parts))]
    if labels:
        raise BankError("--psi names the labels already. Drop --label.")
    found: dict[str, list[float]] = {}
    for part in parts:
        label, equals, value = part.rpartition("=")
        if not (label and equals):
            raise BankError(f"--psi must name the label of each psi or of none, got {part}.")
        found.setdefault(label, []).extend(psis([value]))
    return [([label], values) for label, values in found.items()]


def selected(
    bank: Bank, labels: Sequence[str], psis: Sequence[float], z_seeds: Sequence[int] | None
) -> Demand:
    """Return the selected fakes, after checking that the bank holds all of them.

    Args:
        bank: an open bank.
        labels: empty for every label.
        psis: empty for every psi of a label.
        z_seeds: None for every z_seed of a (label, psi).

    Raises:
        BankError: the bank lacks some of them; the message lists everything missing.
    """
    import numpy as np

    from fgaug.bank import Demand
    from fgaug.bank.export import psi_text

    held = _held(bank)
    known: dict[str, list[float]] = {}
    for label, psi in held:
        known.setdefault(label, []).append(psi)
    problems, chosen = [], []
    for label in dict.fromkeys(labels or known):
        if label not in known:
            problems.append(f"no label `{label}`; the bank has {', '.join(known)}")
            continue
        for psi in dict.fromkeys(psis or known[label]):
            if psi not in known[label]:
                has = ", ".join(map(psi_text, known[label]))
                problems.append(f"no {label} at psi {psi_text(psi)}; the bank has psi {has}")
                continue
            here = held[label, psi]
            asked = here if z_seeds is None else np.unique(np.asarray(z_seeds, np.int64))
            lacking = np.setdiff1d(asked, here)
            if len(lacking):
                problems.append(
                    f"{len(lacking)} of {len(asked)} z_seeds of {label} at psi {psi_text(psi)} "
                    f"are missing (the first is {lacking[0]})"
                )
            chosen.append((label, psi, asked))
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise BankError(
            f"The bank lacks some of the fakes:\n{lines}\nSelect fewer, or fill the bank."
        )
    return Demand.of(chosen)


def _held(bank: Bank) -> Mapping[tuple[str, float], np.ndarray]:
    from fgaug.bank import Demand

    groups = bank.index().groupby(["label", "psi"])["z_seed"]
    held = Demand.of((*cast(tuple[str, float], key), rows.to_numpy()) for key, rows in groups)
    if not held.wanted:
        raise BankError("The bank is empty. Fill it with `fgaug bank fill`.")
    return held.wanted


def passing(bank: Bank, chosen: Demand, text: str, scorers: Sequence[str] = ()) -> Demand:
    """Return the chosen fakes whose stored scores pass a filter.

    Args:
        bank: an open bank.
        chosen: fakes in the bank.
        text: a filter, written as in a grid.
        scorers: folders below `scores` to use where the bank has several of one kind.

    Raises:
        UserError: the filter is invalid, scores are missing or ambiguous, or no fake passes.
    """
    import pandas as pd

    from fgaug.bank import Demand
    from fgaug.bank.scores import read_scores
    from fgaug.grid.filters import parse

    rule = parse(text)
    used = [scorer_in(bank, name, scorers) for name in rule.scorers]
    kept = []
    for (label, psi), z_seeds in chosen.wanted.items():
        frames = [read_scores(bank.store, scorer, label, psi, z_seeds) for scorer in used]
        columns = [frame.drop(columns="z_seed") for frame in frames]
        scores = pd.concat([pd.DataFrame(index=range(len(z_seeds))), *columns], axis=1)
        kept.append((label, psi, z_seeds[rule.passes(scores)]))
    found = Demand.of((label, psi, z_seeds) for label, psi, z_seeds in kept if len(z_seeds))
    if not found.count:
        raise BankError(f"--filter {rule.text} keeps none of the {chosen.count} fakes. Loosen it.")
    sys.stderr.write(
        f"filter {rule.text}: {found.count} of {chosen.count} fakes kept, "
        f"{chosen.count - found.count} removed\n"
    )
    return found


def selection_of(bank: Bank, text: str, scorers: Sequence[str] = ()) -> Selection:
    """Return a filter and the scores that it reads, as exports record them; see `passing`."""
    from fgaug.bank.export import Selection
    from fgaug.grid.filters import parse

    rule = parse(text)
    used = tuple(scorer_in(bank, name, scorers).folder for name in rule.scorers)
    return Selection(filter=rule.text, scorers=used)


def first(chosen: Demand, count: int, keys: Iterable[tuple[str, float]]) -> Demand:
    """Return the first `count` fakes of each label and psi, by z_seed.

    z_seeds are exchangeable, so these are as good as a random draw, and the same on every call.

    Args:
        chosen: the selected fakes.
        count: how many of each label and psi.
        keys: every label and psi of the export, including those of which no fake is selected.

    Raises:
        BankError: the count is below 1, or a label and psi has fewer fakes.
    """
    from fgaug.bank import Demand

    if count < 1:
        raise BankError(f"--count must be at least 1, got {count}.")
    short = [
        f"{label} at psi {psi:g} has {have}"
        for label, psi in keys
        if (have := len(chosen.wanted.get((label, psi), ()))) < count
    ]
    if short:
        raise BankError(
            f"--count {count} is more than the selected fakes: {'; '.join(short)}. Lower it, "
            "loosen --filter, or fill the bank with more z_seeds."
        )
    return Demand.of((*key, z_seeds[:count]) for key, z_seeds in chosen.wanted.items())


def scorer_in(bank: Bank, name: str, named: Sequence[str]) -> Scorer:
    """Return the bank's scorer of a kind, or the one named in `named` if there are several."""
    from fgaug.bank.scores import scorers_of

    held = [scorer for scorer in scorers_of(bank.store) if scorer.name == name]
    if not held:
        raise BankError(
            f"{bank.store.place()} has no `{name}` scores, which --filter needs. Run "
            f"`fgaug bank score {bank.store.place()} --dataset DATASET --scorer {name}`."
        )
    chosen = [scorer for scorer in held if scorer.folder in named] or held
    if len(chosen) > 1:
        known = "; ".join(f"{scorer.folder} ({scorer.words})" for scorer in chosen)
        raise BankError(
            f"{bank.store.place()} has `{name}` scores from {len(chosen)} scorers: {known}. "
            "Choose one with --scorer."
        )
    return chosen[0]


def output() -> Console:
    """Return a console on stdout, as wide as the terminal or FILE_COLUMNS."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)


def printed(part: Table) -> table.Table:
    """Return a report's table for the terminal."""
    from rich import table

    found = table.Table(title=part.title, title_justify="left")
    for name in part.text.columns:
        found.add_column(str(name), justify="left" if name in part.words else "right")
    for row in part.text.itertuples(index=False, name=None):
        found.add_row(*map(str, row))
    return found
