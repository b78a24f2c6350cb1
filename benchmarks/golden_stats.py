"""Compare the statistics with stored numbers made in R.

FOLDER/*.json, each with id, family, inputs, expected, tolerance -> one row a case, exit 1 on any
miss, on a number that was not compared without a reason below, and on a family not known here.

    python benchmarks/golden_stats.py FOLDER

In `expected` null stands for undefined: NaN here, or arguments that are refused by name.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from golden_families import FAMILIES, Found

from fgaug.errors import UserError

# (family, key) that are not compared, and why. An empty list is R's NULL: nothing to compare.
REASONS: dict[tuple[str, str], str] = {}
DEFAULT = {"abs": 1e-8, "rel": 1e-6}
UNDEFINED = (None, "NaN", "NA")  # as R's writers of JSON have it
MISSING = object()


@dataclass
class Row:
    """What was compared for one case."""

    name: str
    total: int = 0  # keys of `expected`
    keys: int = 0  # of these compared
    numbers: int = 0
    worst: float = 0.0  # error over its tolerance; above 1 is a miss
    worst_key: str = ""
    misses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether numbers were compared and all lie within their tolerances."""
        return not self.misses and self.numbers > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds *.json, one case each")
    folder = parser.parse_args().folder
    rows = []
    print(f"{'case':<36}{'keys':>8}{'numbers':>9}{'error/tolerance':>17}  result")
    for path in sorted(folder.glob("*.json")):
        row = row_of(path)
        rows.append(row)
        print(
            f"{row.name:<36}{f'{row.keys}/{row.total}':>8}{row.numbers:>9}{row.worst:>17.2g}  "
            f"{'ok' if row.ok else 'MISS'} {row.worst_key}"
        )
        for line in [*row.misses, *row.notes]:
            print(f"{'':<36}{line}")
    if not rows:
        print(f"No *.json in {folder}.", file=sys.stderr)
    print(f"{sum(row.ok for row in rows)} of {len(rows)} cases agree")
    return 0 if rows and all(row.ok for row in rows) else 1


def row_of(path: Path) -> Row:
    """Return the comparison of one file; whatever goes wrong is a miss of this case alone."""
    try:
        return compared(json.loads(path.read_text(encoding="utf-8")))
    except Exception as error:  # a file of any kind may lie there, and the others still count
        return Row(path.stem, misses=[f"{type(error).__name__}: {error}"])


def compared(case: dict[str, Any]) -> Row:
    """Return the comparison of one case with what the public functions give."""
    row, family = Row(case["id"]), case["family"]
    if family not in FAMILIES:
        row.misses.append(f"unknown family {family}")
        return row
    ours: Found | None
    try:
        ours = in_order_of(FAMILIES[family](readable(case["inputs"])), case["expected"])
    except UserError as error:
        ours = None
        row.notes.append(f"refused, so undefined: {error}")
    tolerance = case.get("tolerance") or DEFAULT
    for key, theirs in leaves(case["expected"]):
        row.total += 1
        if isinstance(theirs, list) and not theirs:
            row.notes.append(f"not compared: {key}: empty in the file (R's NULL)")
        elif (family, key) in REASONS:
            row.notes.append(f"not compared: {key}: {REASONS[family, key]}")
        else:
            compare(row, key, None if ours is None else looked_up(ours, key), theirs, tolerance)
    return row


def compare(row: Row, key: str, mine: Any, theirs: Any, tolerance: dict[str, float]) -> None:
    """Count one key in: a number, a text or a list of them; null stands for NaN."""
    if mine is MISSING:
        row.misses.append(f"no such number here: {key}")
        return
    left, right = flat(mine), flat(theirs)
    if theirs is None:  # all of a block or an interval is undefined
        right = [None] * len(left)
    if mine is None:
        left = [None] * len(right)
    if len(left) != len(right):
        row.misses.append(f"{key}: {len(left)} numbers here, {len(right)} in the file")
        return
    row.keys += 1
    for own, other in zip(left, right, strict=True):
        row.numbers += 1
        error = error_of(own, other, key.split(".")[-1], tolerance)
        if error > row.worst:
            row.worst, row.worst_key = error, key
        if not error <= 1:
            row.misses.append(f"{key}: {own} here, {other} in the file")


def error_of(mine: Any, theirs: Any, name: str, tolerance: dict[str, float]) -> float:
    """Return the error over its tolerance: the larger of an absolute and a relative one."""
    if isinstance(theirs, str) and theirs not in (*UNDEFINED, "Inf", "-Inf"):
        return 0.0 if mine == theirs else math.inf
    value = math.nan if mine is None else float(mine)
    if theirs in UNDEFINED or math.isnan(float(theirs)):
        # an infinity too is written as null
        return math.inf if math.isfinite(value) else 0.0
    wanted = float(theirs)
    if not (math.isfinite(value) and math.isfinite(wanted)):
        return 0.0 if value == wanted else math.inf
    absolute, relative = tolerance.get("abs", 0.0), tolerance.get("rel", 0.0)
    if name in tolerance:
        absolute, relative = tolerance[name], 0.0
    elif name.endswith("_qmc") and "qmc_abs" in tolerance:
        absolute, relative = tolerance["qmc_abs"], 0.0
    elif not tolerance.keys() & {"abs", "rel"}:
        absolute, relative = DEFAULT["abs"], DEFAULT["rel"]
    allowed, apart = max(absolute, relative * abs(wanted)), abs(value - wanted)
    return apart / allowed if allowed else (0.0 if apart == 0 else math.inf)


def leaves(expected: Found, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key below `expected` with dots between levels, and what it holds."""
    for key, value in expected.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, [] if value == {} else value


def looked_up(ours: Found, key: str) -> Any:
    here: Any = ours
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return MISSING
        here = here[part]
    return here


def flat(value: Any) -> list[Any]:
    """Return all numbers in a value in reading order; R may write one number without a list."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in flat(part)]
    if isinstance(value, np.ndarray):
        return list(value.ravel().tolist())
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in flat(part)]
    return [value]


def readable(value: Any) -> Any:
    """Return inputs with None where R wrote the text NA."""
    if isinstance(value, dict):
        return {key: readable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [readable(part) for part in value]
    return None if isinstance(value, str) and value in UNDEFINED else value


def in_order_of(ours: Found, expected: Found) -> Found:
    """Return our numbers with their arms in the file's order, where it names the same arms."""
    names, wanted = list(ours.get("cells", [])), flat(expected.get("cells", []))
    if sorted(names) != sorted(wanted) or names == wanted:
        return ours
    order = [names.index(name) for name in wanted]
    by_arm = {
        key: value[order]
        for key, value in ours.items()
        if isinstance(value, np.ndarray) and value.shape[:1] == (len(order),)
    }
    return {**ours, **by_arm, "cells": wanted}


if __name__ == "__main__":
    sys.exit(main())
