"""Builds the result row of a trial."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fgaug.bank import Scorer
from fgaug.core.version import __version__
from fgaug.grid.arm_words import PSI_BY_LABEL
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell, digest, recipe_identity
from fgaug.runs.mix import MixPlan, fakes_wanted
from fgaug.runs.reals import Reals
from fgaug.training.learner import PeakMemory, TrainingResult

MAX_ERROR = 20_000  # characters of an error in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Which images of a dataset the generators of the fakes were trained on.

    An image also counts as seen if another image of its patient was.
    """

    seen: frozenset[int] = frozenset()  # rows of the manifest
    unknown: frozenset[int] = frozenset()  # rows that may have been seen

    def to(self, rows: Iterable[int]) -> bool | None:
        """Return whether any of these images was seen; None if unknown."""
        images = {int(row) for row in rows}
        if images & self.seen:
            return True
        return None if images & self.unknown else False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSources:
    """Where a trial finds its images, and their provenance; small enough to send to workers."""

    dataset: str
    bank: str | None
    pool: int
    leakage: str  # none | unknown | by_choice: leakage by the networks' training images
    snapshots: str  # short digests by label, for the row
    dataset_digest: str
    exposure: Exposure = field(default_factory=Exposure)  # of the generators of the fakes
    # the scorers of filters by split and name
    scorers: Mapping[Split, Mapping[str, Scorer]] = field(default_factory=dict)


def failed_row(cell: Cell, sources: TrialSources, error: str) -> dict[str, Any]:
    """Return the row of a cell that could not be trained."""
    return {
        **identity_columns(cell),
        "status": "failed",
        "stopped_by": "error",
        "error": error if len(error) <= MAX_ERROR else f"{error[:MAX_ERROR]}... (cut)",
        "budget_unit": cell.budget.unit,
        **provenance(cell, sources, ""),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def identity_columns(cell: Cell) -> dict[str, Any]:
    """Return the columns that identify the cell, including counts, removals and further axes."""
    further: dict[str, Any] = dict(cell.axes)
    if "split" in further:
        further["split"] = str(cell.split)  # mixed numbers and text would have no column type
    if cell.fakes is not None:
        further["fakes"] = _counts(cell.fakes)
    if cell.psi_by_label is not None:
        further[PSI_BY_LABEL] = psi_text(cell.psi_by_label)
    if cell.remove is not None:
        further["remove"] = _counts(cell.remove)
    return {
        "cell_id": cell.cell_id,
        "arm_id": cell.arm_id,
        "mode": cell.mode,
        "psi": cell.psi,
        "ratio": cell.ratio,
        "filter": cell.filter if cell.uses_fakes else None,
        "seed": cell.seed,
        "round": None if cell.rounds is None else cell.round,
        **further,
    }


def provenance(cell: Cell, sources: TrialSources, weights: str) -> dict[str, Any]:
    """Return the columns on a trial's inputs: digests, weights, leakage, version and host."""
    named = {cell.recipe.model_dump_json(): weights}
    return {
        "leakage": _leakage(cell, sources),
        "dataset_digest": sources.dataset_digest,
        "recipe_digest": digest(recipe_identity(cell.recipe, named))[:12],
        "weights": weights,
        "computed_in": cell.recipe.precision,
        "snapshots": sources.snapshots if cell.uses_fakes else None,
        "version": __version__,
        "host": platform.node(),
    }


def _leakage(cell: Cell, sources: TrialSources) -> str:
    """Return the leakage of a cell: by choice of the validation images, or by the networks."""
    keras = cell.recipe.keras
    if keras is not None and keras.validate_on == "training_fold":
        return "by_choice"
    return sources.leakage if cell.uses_fakes else "none"


def outcome(cell: Cell, plan: MixPlan, fitted: TrainingResult) -> dict[str, Any]:
    """Return the columns on training: status, numbers of images, budget and best evaluation."""
    return {
        "status": "ok",
        "stopped_by": fitted.stopped_by,
        "error": None,
        "n_real": plan.n_real,
        "n_fake": cell.round * plan.n_fake,  # over all rounds so far, which have equal numbers
        "n_dropped": plan.n_dropped,
        "budget_unit": cell.budget.unit,
        "budget_used": fitted.last.step if cell.budget.unit == "steps" else fitted.last.epoch,
        "best_epoch": fitted.best.epoch,
        "best_step": fitted.best.step,
    }


def metrics(valid: Mapping[str, float]) -> dict[str, float]:
    per_label = ("precision_", "recall_", "specificity_")
    return {
        name if name.startswith(per_label) else f"valid_{name}": value
        for name, value in valid.items()
    }


def added(plan: MixPlan, cell: Cell, label: str, reals: Reals) -> int:
    """Return the number of fakes (oversample: repeats) of a label in a plan."""
    if cell.mode == "oversample":
        return fakes_wanted(cell, reals, label)
    return len(plan.fakes.get(label, ()))


def costs(fitted: TrainingResult, peaks: PeakMemory) -> dict[str, Any]:
    gpu = peaks.gpu_bytes
    return {
        "images_seen": fitted.last.images_seen,
        "train_images_per_s": round(fitted.last.images_seen / max(fitted.last.train_s, 1e-9), 2),
        "peak_rss_mb": round(peaks.memory_bytes / 2**20, 1),
        "peak_gpu_mb": round(gpu / 2**20, 1) if gpu is not None else None,
        "micro_batch": fitted.micro_batch,
        "oom_events": fitted.oom_events,
    }


def psi_text(by_label: tuple[tuple[str, float], ...]) -> str:
    """Return psi by label as text, exact: `benign=1.6 malignant=1.2`."""
    return " ".join(f"{label}={float(psi)!r}".removesuffix(".0") for label, psi in by_label)


def _counts(pairs: tuple[tuple[str, Any], ...]) -> str:
    return " ".join(
        f"{label}={value:g}" if isinstance(value, (int, float)) else f"{label}={value}"
        for label, value in pairs
    )
