"""What a search says of itself in words: rates, time left, the best arm.  tally -> [wording]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fgaug.cells import Cell
from fgaug.errors import one_line
from fgaug.search.tally import Tally, number

_DETAILS = (
    "share",
    "rung",
    "wall_s",
    "error",
    "traceback",
)  # of JSON lines, where an event has them


def rates(tally: Tally, elapsed_s: float, ended: int) -> str:
    """Return cells a minute, images a second and the time left.

    Args:
        elapsed_s: since the first cell of this search began.
        ended: cells that ended since then.
    """
    rate = ended / elapsed_s * 60
    parts = [f"{rate:.{1 if rate < 100 else 0}f} cells/min"] if ended else []
    speed = sum(images_per_s(report) for report in tally.running.values())
    parts += [f"{speed:.0f} images/s"] if speed else []
    if tally.trained > 0 and tally.left > 1e-6:
        # arms that are stopped later make it shorter
        bound = "at most" if tally.counts["paused"] or tally.counts["pruned"] else "about"
        parts.append(f"{bound} {duration(elapsed_s / tally.trained * tally.left)} left")
    return ", ".join(parts)


def best_arm(tally: Tally) -> str:
    """Return the arm with the highest mean AUC; nothing while no cell has ended."""
    scored = [(mean, arm) for arm in tally.arms.values() if (mean := arm.mean("auc"))]
    if not scored:
        return ""
    mean, best = max(scored, key=lambda pair: pair[0])
    return f"best {best.name}: auc {mean:.3f} ({best.states['ok']}/{best.seeds})"


def images_per_s(report: Mapping[str, Any]) -> float:
    """Return the images that a running cell trains a second; 0 before its first evaluation."""
    seconds = float(report.get("train_s") or 0.0)
    return float(report.get("images_seen") or 0.0) / seconds if seconds > 0 else 0.0


def duration(seconds: float) -> str:
    """Return a time as it is said: a minute, 12 min, 3.4 h."""
    if seconds < 60:
        return "a minute"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def event_of(cell: Cell, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a JSON line says of a cell and of what it reported last."""
    names = ("cell_id", "arm_id", "mode", "psi", "ratio", "seed")
    return {
        **{name: getattr(cell, name) for name in names},
        "cell": cell.described,
        "step": result.get("step"),
        "metrics": {k: number(v) for k, v in result.items() if k.startswith("valid_")},
        **{name: result[name] for name in _DETAILS if name in result},
    }


def outcome(result: Mapping[str, Any]) -> str:
    """Return how a cell ended: its validation metrics, or why it failed."""
    if result.get("status") == "failed":
        where = result.get("traceback")
        told = f" (traceback: {where})" if where else ""
        return f"failed: {one_line(str(result.get('error') or ''))}{told}"
    return (
        f"acc {result['valid_acc']:.3f} auc {result['valid_auc']:.3f} "
        f"loss {result['valid_loss']:.3f} in {result['wall_s']:.1f} s"
    )
