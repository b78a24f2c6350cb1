"""The stored numbers, and `benchmarks/golden_stats.py` that compares them, for tests."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "stats"

# a script beside its families, as `python benchmarks/golden_stats.py` finds them
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
golden_stats: Any = importlib.import_module("golden_stats")
families: Any = importlib.import_module("golden_families")


def agrees(
    family: str, inputs: dict[str, Any], expected: dict[str, Any], **tolerance: float
) -> None:
    """Fail unless every key of `expected` is compared and agrees, as the script does it."""
    case = {"id": family, "family": family, "inputs": inputs, "expected": expected}
    case["tolerance"] = {"abs": 1e-9, "rel": 1e-7, **tolerance}
    row = golden_stats.compared(json.loads(json.dumps(case, default=lambda value: value.tolist())))
    assert row.ok, row.misses
    assert row.keys == row.total, row.notes
