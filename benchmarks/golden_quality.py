"""Compare the measures of fakes with stored numbers of torch-fidelity and prdc.

FOLDER/<name>.npz (`real`, `fake`: float32 [N, D]; `realism_k3`, `realism_k3_median`: one number a
fake) and FOLDER/<name>.json (`fid`, `kid`, `precision_k3`, `prdc_density_k5`, ...) -> one row a
case, exit 1 on any miss, on a key of a kind not known here, and on a file without its other half.

    python benchmarks/golden_quality.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fgaug import quality

TOLERANCE = 1e-6  # relative; shares are rounded to float32 in the files
FEW = 1e-4  # FID of fewer images than features, where the peer's own rounding adds up
ARRAYS = ("real", "fake")


@dataclass
class Row:
    """What was compared for one case."""

    name: str
    total: int = 0  # keys in both files, the features left out
    keys: int = 0  # of these compared
    worst: float = 0.0  # error over its tolerance; above 1 is a miss
    worst_key: str = ""
    misses: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether every key was compared and lies within its tolerance."""
        return not self.misses and 0 < self.keys == self.total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds *.npz and *.json, a pair a case")
    folder = parser.parse_args().folder
    rows = []
    print(f"{'case':<28}{'keys':>8}{'error/tolerance':>17}  result")
    for name in sorted({path.stem for end in ("json", "npz") for path in folder.glob(f"*.{end}")}):
        row = row_of(folder, name)
        rows.append(row)
        print(
            f"{name:<28}{f'{row.keys}/{row.total}':>8}{row.worst:>17.2g}  "
            f"{'ok' if row.ok else 'MISS'} {row.worst_key}"
        )
        for line in row.misses:
            print(f"{'':<28}{line}")
    if not rows:
        print(f"No *.npz and *.json in {folder}.", file=sys.stderr)
    print(f"{sum(row.ok for row in rows)} of {len(rows)} cases agree")
    return 0 if rows and all(row.ok for row in rows) else 1


def row_of(folder: Path, name: str) -> Row:
    """Return the comparison of one case; whatever goes wrong is a miss of this case alone."""
    try:
        with np.load(folder / f"{name}.npz") as arrays:
            stored = dict(arrays)
        return compared(name, stored, json.loads((folder / f"{name}.json").read_text("utf-8")))
    except Exception as error:  # files of any kind may lie there, and the others still count
        return Row(name, misses=[f"{type(error).__name__}: {error}"])


def compared(name: str, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> Row:
    """Return the comparison of every number and array of a case with what is computed here."""
    row = Row(name)
    lacking = [each for each in ARRAYS if each not in arrays]
    if lacking:
        row.misses.append(f"no array {' and '.join(lacking)}")
        return row
    real, fake = (arrays[each] for each in ARRAYS)
    theirs = {**numbers, **{key: arrays[key] for key in arrays if key not in ARRAYS}}
    row.total = len(numbers) + len(arrays) - len(ARRAYS)
    for key, value in theirs.items():
        mine = ours(key, real, fake)
        if mine is None:
            row.misses.append(f"no such number here: {key}")
            continue
        row.keys += 1
        few = key == "fid" and min(len(real), len(fake)) < real.shape[1]
        compare(row, key, mine, value, FEW if few else TOLERANCE)
    return row


def ours(key: str, real: np.ndarray, fake: np.ndarray) -> Any:
    """Return the number of a name, or None where no measure has it."""
    match re.split(r"_k(?=\d)", key):
        case ["n_real"]:
            return len(real)
        case ["n_fake"]:
            return len(fake)
        case ["dim"]:
            return real.shape[1]
        case ["fid"]:
            return quality.fid(real, fake)
        case ["kid"]:
            return quality.kid(real, fake)
        case [("precision" | "recall" | "prdc_precision" | "prdc_recall") as name, k]:
            precision, recall = quality.precision_recall(real, fake, int(k))
            return precision if name.endswith("precision") else recall
        case [("prdc_density" | "prdc_coverage") as name, k]:
            density, coverage = quality.density_coverage(real, fake, int(k))
            return density if name.endswith("density") else coverage
        case ["realism", rest]:
            k, _, median = rest.partition("_")
            if median not in ("", "median"):
                return None
            return quality.realism(real, fake, int(k), prune_median=bool(median))
    return None


def compare(row: Row, key: str, mine: Any, theirs: Any, tolerance: float) -> None:
    """Count one key in: a number, or an array of them; equal infinities agree."""
    left, right = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    if left.shape != right.shape:
        row.misses.append(f"{key}: shape {left.shape} here, {right.shape} in the file")
        return
    for own, other, error in errors(left, right, tolerance):
        if not error <= row.worst:
            row.worst, row.worst_key = error, key
        if not error <= 1:
            row.misses.append(f"{key}: {own} here, {other} in the file")
            return


def errors(
    left: np.ndarray, right: np.ndarray, tolerance: float
) -> Iterator[tuple[float, float, float]]:
    """Yield (number here, number in the file, error over its tolerance)."""
    for own, other in zip(left.ravel().tolist(), right.ravel().tolist(), strict=True):
        if own == other:
            yield own, other, 0.0
        else:
            yield own, other, abs(own - other) / (tolerance * abs(other)) if other else np.inf


if __name__ == "__main__":
    sys.exit(main())
