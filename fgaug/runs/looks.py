"""Looks at the sealed test set, each recorded before any test prediction is read.

The seal guards against self-deception; it is not a lock: the files are plain Parquet.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError
from fgaug.runs import preregistration, run_lock
from fgaug.runs.results import read_rows

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the test predictions of some arms."""

    number: int  # from 1, of this run
    date: str
    arms: tuple[str, ...]  # arm_ids, including baselines and twins
    cells: tuple[str, ...]  # of those arms; empty if all of them were opened
    purpose: str  # confirmation, report...
    planned: bool  # whether it is within the number of planned looks
    allowed: int  # planned looks; 0 if no plan was frozen before the first result

    @property
    def counted(self) -> str:
        """The number of the look among the planned ones, as text."""
        if not self.allowed:
            return f"look {self.number}, no looks were planned before the first result"
        further = "" if self.planned else ": not planned, so its results are exploratory"
        return f"look {self.number} of {self.allowed} planned{further}"


def looks_of(run: RunPaths) -> tuple[Look, ...]:
    """Return every look at a run's test set so far, in order.

    Raises:
        RunError: the file is damaged.
    """
    if not run.looks.is_file():
        return ()
    raw = files.read_json(run.looks, RunError)
    try:
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']}")
        return tuple(
            Look(**{**look, "arms": tuple(look["arms"]), "cells": tuple(look["cells"])})
            for look in raw["looks"]
        )
    except (LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.looks} is damaged or from another version of fgaug ({error}). Restore it: the "
            "number of looks at the test set must not be lost."
        ) from None


def open_test(run: RunPaths, arms: Iterable[str], purpose: str, cells: Iterable[str] = ()) -> Look:
    """Record a look at the test predictions of some arms, and return it.

    Args:
        run: the run.
        arms: arm_ids to open, including their baselines and twins.
        purpose: a word or two.
        cells: cells of those arms; empty: all.

    Raises:
        RunError: the record of earlier looks is damaged.
    """
    plan = preregistration.read(run)
    allowed = plan.analysis.looks if plan is not None and not plan.earlier else 0
    with run_lock.held_for_a_moment(run, run.looks):  # of reports and confirmations at once
        earlier = looks_of(run)
        look = Look(
            number=len(earlier) + 1,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            arms=tuple(dict.fromkeys(arms)),
            cells=tuple(dict.fromkeys(cells)),
            purpose=purpose,
            planned=len(earlier) < allowed,
            allowed=allowed,
        )
        known = [asdict(each) for each in (*earlier, look)]
        files.write_json(run.looks, {"schema": SCHEMA, "looks": known})
    return look


def still_sealed(
    run: RunPaths, cell_ids: Iterable[str], arm_of: Callable[[str], str]
) -> list[str]:
    """Return the cells not covered by any look, neither by cell nor by arm."""
    looks = looks_of(run)
    whole = {arm for look in looks if not look.cells for arm in look.arms}
    named = {cell for look in looks for cell in look.cells}
    return [cell for cell in cell_ids if cell not in named and arm_of(cell) not in whole]


def load_sealed(run: RunPaths, cell_ids: Sequence[str]) -> pd.DataFrame:
    """Return the test predictions of cells, one row per image and cell, with `cell_id`.

    For cells with rounds, these are the predictions of the last round.

    Raises:
        RunError: some cells are not covered by a look, or a file is missing or damaged.
    """
    shut = still_sealed(run, cell_ids, lambda cell: _arm_of(run, cell))
    if shut:
        raise RunError(
            f"The test predictions of {len(shut)} of {len(cell_ids)} cells of {run.place} are "
            f"sealed ({', '.join(shut[:3])}). Open them with `fgaug confirm` or `fgaug report "
            "--open-test`, which record the look."
        )
    parts = []
    for cell in cell_ids:
        part = files.read_table(run.trial(cell).sealed, RunError).to_pandas()
        if "round" in part and part["round"].notna().any():
            part = part[part["round"].eq(part["round"].max())]
        part.insert(0, "cell_id", cell)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"cell_id": []})


def _arm_of(run: RunPaths, cell_id: str) -> str:
    return str(read_rows(run.trial(cell_id))[-1]["arm_id"])
