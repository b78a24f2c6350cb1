"""The plan of a run as it was when its first trial started, and what has changed since."""

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
from fgaug.data import Dataset
from fgaug.errors import RunError
from fgaug.grid.analysis_plan import AnalysisPlan, Confirmation
from fgaug.grid.cells import CONTROLS, Cell, digest
from fgaug.grid.space import Space

SCHEMA = 1
_PARTS = ("analysis", "confirmation", "arms", "seeds", "baseline_seeds", "sizes", "dataset_digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preregistration:
    """What is claimed, of which arms, on how many seeds and patients."""

    analysis: AnalysisPlan
    confirmation: Confirmation | None
    arms: tuple[str, ...]  # arm_ids that are compared: no baseline, no twin; sorted
    seeds: int  # the most that an arm has
    baseline_seeds: int  # the most that a baseline has
    sizes: Mapping[str, Mapping[str, int]]  # of valid (also `valid, split 1`) and test
    dataset_digest: str
    date: str = ""  # when it was written; empty where it was not
    earlier: int = field(default=0)  # cells that had a row by then
    recorded: str = ""  # the digest as it was written

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what it says, without when that was written."""
        return digest({name: _plain(getattr(self, name)) for name in _PARTS})


def plan_of(space: Space, cells: Sequence[Cell], dataset: Dataset) -> Preregistration:
    """Return the plan of a grid as it is now.

    Args:
        space: the grid.
        cells: all of its cells.
        dataset: theirs, as it was prepared.
    """
    seeds = Counter(cell.arm_id for cell in cells)
    modes = {cell.arm_id: cell.mode for cell in cells}
    compared = [arm for arm, mode in modes.items() if mode not in ("baseline", *CONTROLS)]
    sizes = {"test": _size(dataset, "test")}
    for split in dict.fromkeys(cell.split for cell in cells):
        name = "valid" if split == "dataset" else f"valid, split {split}"
        sizes[name] = _size(dataset.with_split(split), "valid")
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
    """Return the plan that a run was started with; write `now` where it has none yet."""
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
    """Return the plan that a run was started with; None where none was written.

    Raises:
        RunError: the file is damaged.
    """
    if not run.plan.is_file():
        return None
    return from_dict(files.read_json(run.plan, RunError), str(run.plan))


def read_latest(run: RunPaths) -> Preregistration | None:
    """Return the plan as the last search of a run had it; None where it did not note it.

    Raises:
        RunError: no such run, or a damaged file.
    """
    environment = files.read_json(run.environment, RunError)
    found = environment.get("plan") if isinstance(environment, dict) else None
    return None if found is None else from_dict(found, str(run.environment))


def deviations(frozen: Preregistration, now: Preregistration) -> tuple[str, ...]:
    """Return what of a plan is no longer as it was frozen, a line each: what makes it exploratory.

    A larger grid is one: its arms share an error rate with those of the plan.
    """
    lines = []
    if frozen.recorded != frozen.digest:
        lines.append(
            f"the file of the plan was edited: its digest says {frozen.recorded[:12] or 'nothing'}"
            f", its content has {frozen.digest[:12]}"
        )
    if frozen.earlier:
        lines.append(f"the plan was written when {frozen.earlier} cells already had a result")
    lines += _changed("analysis", frozen.analysis, now.analysis)
    lines += _changed("confirmation", frozen.confirmation, now.confirmation)
    more, fewer = (len({*a} - {*b}) for a, b in ((now.arms, frozen.arms), (frozen.arms, now.arms)))
    if more or fewer:
        lines.append(
            f"arms compared: {len(frozen.arms)} in the plan, {len(now.arms)} now "
            f"({more} added, {fewer} gone)"
        )
    for name, words in (("seeds", "seeds of an arm"), ("baseline_seeds", "seeds of a baseline")):
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
    """Return a plan as JSON holds it."""
    content = {name: _plain(getattr(plan, name)) for name in _PARTS}
    written = {"date": plan.date, "earlier": plan.earlier, "digest": plan.recorded}
    return {"schema": SCHEMA, **content, **written}


def from_dict(value: Any, source: str) -> Preregistration:
    """Return the plan that `to_dict` wrote.

    Raises:
        RunError: it is none.
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
            f"{source} holds no plan of this version of fgaug ({reason}). Restore it; without it "
            "what a search was meant to show is not known."
        ) from None


def _changed(key: str, then: BaseModel | None, now: BaseModel | None) -> list[str]:
    """Return a line for each field of a part of the grid that has another value."""
    if then is None or now is None:
        return [] if then is now else [f"`{key}`: {_said(then)} in the plan, {_said(now)} now"]
    pairs = [(name, getattr(then, name), getattr(now, name)) for name in type(then).model_fields]
    return [
        f"`{key}.{name}`: {_said(a)} in the plan, {_said(b)} now" for name, a, b in pairs if a != b
    ]


def _said(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {_said(inner)}" for name, inner in value if inner is not None)
    return "none" if value is None else str(value)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _size(dataset: Dataset, split: str) -> dict[str, int]:
    images = dataset.manifest[dataset.manifest["split"] == split]
    return {"images": len(images), "patients": int(images["group"].nunique())}


def _sized(size: Mapping[str, int]) -> str:
    return f"{size['images']} images of {size['patients']} patients"


def planned_metric(run: Path) -> str:
    """Return the primary metric that a run's plan names; auc where it names none."""
    frozen = read(RunPaths(run))
    return "auc" if frozen is None else str(frozen.analysis.metric)
