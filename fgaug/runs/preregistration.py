"""The plan of a run, frozen when its first trial starts, and later deviations from it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.core.split_names import in_words
from fgaug.data import Dataset
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation
from fgaug.grid.cells import CONTROLS, Cell, digest
from fgaug.grid.space import Space
from fgaug.runs import environment
from fgaug.runs.place import run_at

SCHEMA = 1
_PARTS = ("analysis", "confirmation", "arms", "seeds", "baseline_seeds", "sizes", "dataset_digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preregistration:
    """A frozen plan: the analysis, the arms, and the numbers of seeds and patients."""

    analysis: AnalysisPlan
    confirmation: Confirmation | None
    arms: tuple[str, ...]  # sorted arm_ids to compare, without baselines and twins
    seeds: int  # the largest number of an arm
    baseline_seeds: int  # the largest number of a baseline
    # of valid (with resplits `valid, split 1`, with folds `valid, fold 1`) and test
    sizes: Mapping[str, Mapping[str, int]]
    dataset_digest: str
    date: str = ""  # when it was frozen; empty before
    earlier: int = field(default=0)  # cells that already had a row by then
    recorded: str = ""  # the digest when it was frozen

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the content, without the date."""
        return digest({name: _plain(getattr(self, name)) for name in _PARTS})


def plan_of(space: Space, cells: Sequence[Cell], dataset: Dataset) -> Preregistration:
    """Return the current plan of a grid.

    Args:
        space: the grid.
        cells: all of its cells.
        dataset: of the grid, with its original split.
    """
    # an arm with folds has several cells with one seed
    seeds = Counter(arm for arm, _ in {(cell.arm_id, cell.seed) for cell in cells})
    modes = {cell.arm_id: cell.mode for cell in cells}
    compared = [arm for arm, mode in modes.items() if mode not in ("baseline", *CONTROLS)]
    sizes = {"test": _size(dataset, "test")}
    for split in dict.fromkeys(cell.split for cell in cells):
        name = "valid" if split == "dataset" else f"valid, {in_words(split)}"
        divided = dataset.with_split(split)
        sizes[name] = _size(divided, divided.evaluated)
    return Preregistration(
        analysis=space.analysis,
        confirmation=space.confirmation,
        arms=tuple(sorted(compared)),
        seeds=max((seeds[arm] for arm in compared), default=0),
        baseline_seeds=max(
            (seeds[a] for a, mode in modes.items() if mode == "baseline"), default=0
        ),
        sizes=sizes,
        dataset_digest=dataset.spec.digest,
    )


def freeze(run: RunPaths, now: Preregistration) -> Preregistration:
    """Return the frozen plan of a run; if there is none, freeze `now`."""
    known = read(run)
    if known is not None:
        return known
    written = replace(
        now,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        earlier=sum(1 for _ in run.trials.glob("*/result.json")),
        recorded=now.digest,
    )
    files.write_json(run.plan, to_dict(written))
    return written


def read(run: RunPaths) -> Preregistration | None:
    """Return the frozen plan of a run; None if there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not run.plan.is_file():
        return None
    return from_dict(files.read_json(run.plan, RunError), str(run.plan))


def read_latest(run: RunPaths) -> Preregistration | None:
    """Return the plan of a run's latest search; None if it was not recorded.

    Raises:
        RunError: the run does not exist, or a file is damaged.
    """
    recorded = environment.read(run).plan
    return None if recorded is None else from_dict(recorded, str(run.environment))


def deviations(frozen: Preregistration, now: Preregistration) -> tuple[str, ...]:
    """Return the deviations of a plan from the frozen one, one line each.

    Deviations make an analysis exploratory. A larger grid is one, because its arms share the error
    rate with the planned arms.
    """
    lines = []
    if frozen.recorded != frozen.digest:
        lines.append(
            f"the plan file was edited: it records digest {frozen.recorded[:12] or 'none'}, but "
            f"its content has {frozen.digest[:12]}"
        )
    if frozen.earlier:
        lines.append(f"the plan was frozen when {frozen.earlier} cells already had a result")
    lines += _changed("analysis", frozen.analysis, now.analysis)
    lines += _changed("confirmation", frozen.confirmation, now.confirmation)
    more, fewer = (len({*a} - {*b}) for a, b in ((now.arms, frozen.arms), (frozen.arms, now.arms)))
    if more or fewer:
        lines.append(
            f"arms compared: {len(frozen.arms)} in the plan, {len(now.arms)} now "
            f"({more} added, {fewer} removed)"
        )
    for name, words in (("seeds", "seeds per arm"), ("baseline_seeds", "seeds per baseline")):
        then, current = getattr(frozen, name), getattr(now, name)
        if then != current:
            lines.append(f"{words}: {then} in the plan, {current} now")
    if frozen.dataset_digest != now.dataset_digest:
        digests = f"{frozen.dataset_digest[:12]} in the plan, {now.dataset_digest[:12]} now"
        lines.append(f"dataset: {digests}")
    for name in dict.fromkeys((*frozen.sizes, *now.sizes)):
        if name in frozen.sizes and name in now.sizes and frozen.sizes[name] != now.sizes[name]:
            then, current = (_sized(plan.sizes[name]) for plan in (frozen, now))
            lines.append(f"{name}: {then} in the plan, {current} now")
    return tuple(lines)


def to_dict(plan: Preregistration) -> dict[str, Any]:
    """Convert a plan for JSON."""
    content = {name: _plain(getattr(plan, name)) for name in _PARTS}
    written = {"date": plan.date, "earlier": plan.earlier, "digest": plan.recorded}
    return {"schema": SCHEMA, **content, **written}


def from_dict(value: Any, source: str) -> Preregistration:
    """Rebuild a plan from the output of `to_dict`.

    Raises:
        RunError: `value` is not a plan.
    """
    try:
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}")
        confirmation = value["confirmation"]
        return Preregistration(
            analysis=AnalysisPlan.model_validate(value["analysis"]),
            confirmation=confirmation and Confirmation.model_validate(confirmation),
            arms=tuple(map(str, value["arms"])),
            seeds=int(value["seeds"]),
            baseline_seeds=int(value["baseline_seeds"]),
            sizes={name: dict(size) for name, size in value["sizes"].items()},
            dataset_digest=str(value["dataset_digest"]),
            date=str(value["date"]),
            earlier=int(value["earlier"]),
            recorded=str(value["digest"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{source} is damaged or from another version of fgaug ({reason}). Restore it: "
            "without the frozen plan, the analysis planned for the run is unknown."
        ) from None


def _changed(key: str, then: BaseModel | None, now: BaseModel | None) -> list[str]:
    """Return one line for every changed field of a part of the grid."""
    if then is None or now is None:
        return [] if then is now else [f"`{key}`: {_text(then)} in the plan, {_text(now)} now"]
    pairs = [(name, getattr(then, name), getattr(now, name)) for name in type(then).model_fields]
    return [
        f"`{key}.{name}`: {_text(a)} in the plan, {_text(b)} now" for name, a, b in pairs if a != b
    ]


def _text(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value if inner is not None)
    return "none" if value is None else str(value)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _size(dataset: Dataset, split: str) -> dict[str, int]:
    images = dataset.manifest[dataset.manifest["split"] == split]
    return {"images": len(images), "patients": int(images["group"].nunique())}


def _sized(size: Mapping[str, int]) -> str:
    return f"{size['images']} images of {size['patients']} patients"


def planned_metric(run: Path) -> str:
    """Return the primary metric of a run's frozen plan; auc without a plan."""
    frozen = read(run_at(run))
    return "auc" if frozen is None else str(frozen.analysis.metric)
