"""Options that several commands share, and where they print their tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from fgaug.errors import BankError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from fgaug.bank import Bank, Demand, Scorer

FILE_COLUMNS = 200  # of a file, which has no width of its own: no table of ours is wrapped


def z_seeds(text: str) -> list[int]:
    """Return the integers of `1-2000` or `1,5,9-12`."""
    from fgaug.grid.axes import MAX_POOL

    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise BankError(f"--seeds is a range or a list such as 1-2000 or 1,5,9, got {text}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 2**32:
            raise BankError(f"--seeds: {part} is not a range within 0-4294967295.")
        if len(found) + last + 1 - first > MAX_POOL:
            raise BankError(f"--seeds: at most {MAX_POOL} at once, got {text}. Use several parts.")
        found += range(first, last + 1)
    return found


def psis(texts: Iterable[str]) -> list[float]:
    """Return the distinct values of `--psi 0.3,0.5 --psi 1`, in the order given."""
    from fgaug.grid.axes import usable_psi

    found: dict[float, None] = {}
    for part in (part for text in texts for part in text.split(",")):
        try:
            psi = float(part)
        except ValueError:
            raise BankError(
                f"--psi is a number or a list such as 0.3,0.5,1, got {part.strip() or 'none'}."
            ) from None
        try:
            found[usable_psi(psi)] = None
        except ValueError as error:
            raise BankError(f"--psi: {error}.") from None
    return list(found)


def selected(
    bank: Bank, labels: Sequence[str], psis: Sequence[float], z_seeds: Sequence[int] | None
) -> Demand:
    """Return the fakes chosen, all of which the bank holds.

    Args:
        bank: an open bank.
        labels: empty for every label.
        psis: empty for whatever psis a label has.
        z_seeds: None for whatever z_seeds a (label, psi) has.

    Raises:
        BankError: the bank lacks some of what was named; it says what, all at once.
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
            problems.append(f"no label `{label}`; its labels are {', '.join(known)}")
            continue
        for psi in dict.fromkeys(psis or known[label]):
            if psi not in known[label]:
                has = ", ".join(map(psi_text, known[label]))
                problems.append(f"no {label} at psi {psi_text(psi)}; its psis are {has}")
                continue
            here = held[label, psi]
            asked = here if z_seeds is None else np.unique(np.asarray(z_seeds, np.int64))
            lacking = np.setdiff1d(asked, here)
            if len(lacking):
                problems.append(
                    f"{len(lacking)} of {len(asked)} z_seeds of {label} at psi {psi_text(psi)} "
                    f"are not there (the first is {lacking[0]})"
                )
            chosen.append((label, psi, asked))
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise BankError(
            f"The bank lacks some of what is asked:\n{lines}\nAsk for less, or fill it."
        )
    return Demand.of(chosen)


def _held(bank: Bank) -> Mapping[tuple[str, float], np.ndarray]:
    from fgaug.bank import Demand

    groups = bank.index().groupby(["label", "psi"])["z_seed"]
    held = Demand.of((*cast(tuple[str, float], key), rows.to_numpy()) for key, rows in groups)
    if not held.wanted:
        raise BankError("The bank holds no image yet. Fill it with `fgaug bank fill`.")
    return held.wanted


def passing(bank: Bank, chosen: Demand, text: str, scorers: Sequence[str] = ()) -> Demand:
    """Return the chosen fakes that pass a filter, by the scores that the bank holds.

    Args:
        bank: an open bank.
        chosen: fakes that it holds.
        text: the words of a grid's `filter`.
        scorers: folders below `scores`, of which the bank has several of one kind.

    Raises:
        UserError: no such filter; no scores of some fakes, or of several scorers of one kind; no
            fake passes.
    """
    import pandas as pd

    from fgaug.bank import Demand
    from fgaug.bank.scores import read_scores
    from fgaug.grid.filters import parse

    rule = parse(text)
    used = [_scorer(bank, name, scorers) for name in rule.scorers]
    kept = []
    for (label, psi), z_seeds in chosen.wanted.items():
        frames = [read_scores(bank.store, scorer, label, psi, z_seeds) for scorer in used]
        columns = [frame.drop(columns="z_seed") for frame in frames]
        scores = pd.concat([pd.DataFrame(index=range(len(z_seeds))), *columns], axis=1)
        kept.append((label, psi, z_seeds[rule.passes(scores)]))
    found = Demand.of((label, psi, z_seeds) for label, psi, z_seeds in kept if len(z_seeds))
    if not found.count:
        raise BankError(f"--filter {rule.text} keeps none of {chosen.count} fakes. Loosen it.")
    sys.stderr.write(
        f"filter {rule.text}: {found.count} of {chosen.count} fakes kept, "
        f"{chosen.count - found.count} left out\n"
    )
    return found


def _scorer(bank: Bank, name: str, named: Sequence[str]) -> Scorer:
    """Return the bank's scorer of a kind; where it has several, the one that was named."""
    from fgaug.bank.scores import scorers_of

    held = [scorer for scorer in scorers_of(bank.store) if scorer.name == name]
    if not held:
        raise BankError(
            f"{bank.store.place()} has no scores `{name}`, which --filter reads. Make them: "
            f"`fgaug bank score {bank.store.place()} --dataset DATASET --scorer {name}`."
        )
    chosen = [scorer for scorer in held if scorer.folder in named] or held
    if len(chosen) > 1:
        known = "; ".join(f"{scorer.folder} ({scorer.words})" for scorer in chosen)
        raise BankError(
            f"{bank.store.place()} has scores `{name}` of {len(chosen)} scorers: {known}. "
            "Name one by --scorer."
        )
    return chosen[0]


def output() -> Console:
    """Return standard output, as wide as the terminal or FILE_COLUMNS."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
