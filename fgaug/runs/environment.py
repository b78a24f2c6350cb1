"""environment.json: the record of a run's latest search, read and written here alone.

Loads no library of numbers, because `fgaug status` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError

_T = TypeVar("_T")
_SIZE = "n_"  # `n_train` is the number of images in the split `train`


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """The dataset of a search; fields that were not recorded are empty or None."""

    labels: tuple[str, ...] = ()  # in the dataset's order
    size: int | None = None  # px
    channels: int | None = None
    digest: str | None = None
    n_images: Mapping[str, int] = field(default_factory=dict)  # by split


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRecord:
    """An arm of the grid and its cells, named before they have rows."""

    columns: Mapping[str, Any]  # of result rows, `arm_id` first
    seeds: Mapping[str, int]  # by cell_id

    @property
    def arm_id(self) -> str:
        return str(self.columns["arm_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a search ran with and what it was to train.

    Earlier versions recorded less: what a run lacks is empty or None.
    """

    versions: Mapping[str, str] = field(default_factory=dict)  # fgaug, python, then packages
    computing: Mapping[str, str] = field(default_factory=dict)  # numerical libraries beneath them
    git_commit: str | None = None
    host: str | None = None
    devices: tuple[str, ...] = ()
    command: str | None = None
    dataset: DatasetRecord | None = None
    plan: Mapping[str, Any] | None = None  # of `preregistration.to_dict`
    cells: tuple[str, ...] | None = None  # of the grid and its second stages
    arms: tuple[ArmRecord, ...] = ()

    def software(self) -> dict[str, Any]:
        """Return what a reader of the report needs, as JSON values: no plan, cells or arms."""
        recorded = _to_json(replace(self, plan=None, cells=None, arms=()))
        return {name: value for name, value in recorded.items() if value is not None}


_NAMED = {each.name for each in fields(Environment)}


def read(run: RunPaths) -> Environment:
    """Read the record of a run's latest search.

    Raises:
        RunError: there is no such file, or a value in it has the wrong type.
    """
    raw = files.read_json(run.environment, RunError)
    try:
        return from_json(raw)
    except TypeError as error:
        raise RunError(
            f"{run.environment} is damaged ({error}). Run the search again to restore it."
        ) from None


def write(run: RunPaths, environment: Environment) -> None:
    """Write the record of a starting search atomically."""
    files.write_json(run.environment, _to_json(environment))


def add_cells(run: RunPaths, cells: Iterable[str]) -> None:
    """Add the cells of a second stage to the record of the run's cells."""
    known = read(run).cells or ()
    raw = files.read_json(run.environment, RunError)  # keeps what another version recorded
    files.write_json(run.environment, {**raw, "cells": joined(known, cells)})


def joined(known: Iterable[str], further: Iterable[str]) -> tuple[str, ...]:
    """Return cells with further ones, each once."""
    first = tuple(known)
    return (*first, *sorted({*further} - {*first}))


def from_json(raw: Any) -> Environment:
    """Return the record that the JSON value of the file holds.

    Raises:
        TypeError: a value of another type than the file's.
    """
    if not isinstance(raw, dict):
        raise TypeError(f"it holds a {type(raw).__name__}, not an object")
    cells = _optional(raw, "cells", list)
    return Environment(
        # every other string is the version of a package, as the file is flat
        versions={k: v for k, v in raw.items() if k not in _NAMED and isinstance(v, str)},
        computing=_optional(raw, "computing", dict) or {},
        git_commit=_optional(raw, "git_commit", str),
        host=_optional(raw, "host", str),
        devices=tuple(_optional(raw, "devices", list) or ()),
        command=_optional(raw, "command", str),
        dataset=_dataset(_optional(raw, "dataset", dict)),
        plan=_optional(raw, "plan", dict),
        cells=None if cells is None else tuple(map(str, cells)),
        arms=tuple(map(_arm, _optional(raw, "arms", list) or ())),
    )


def _dataset(raw: Mapping[str, Any] | None) -> DatasetRecord | None:
    if raw is None:
        return None
    sizes = [key for key in raw if key.startswith(_SIZE)]
    return DatasetRecord(
        labels=tuple(map(str, _optional(raw, "labels", list) or ())),
        size=_optional(raw, "size", int),
        channels=_optional(raw, "channels", int),
        digest=_optional(raw, "digest", str),
        n_images={key.removeprefix(_SIZE): _checked(raw[key], key, int) for key in sizes},
    )


def _arm(raw: Any) -> ArmRecord:
    raw = _checked(raw, "arms", dict)
    for name in ("arm_id", "cells"):
        if name not in raw:
            raise TypeError(f"an arm lacks `{name}`")
    columns = {name: value for name, value in raw.items() if name != "cells"}
    return ArmRecord(columns=columns, seeds=_checked(raw["cells"], "cells of an arm", dict))


def _optional(raw: Mapping[str, Any], name: str, kind: type[_T]) -> _T | None:
    value = raw.get(name)
    return None if value is None else _checked(value, name, kind)


def _checked(value: Any, name: str, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` is of type {type(value).__name__}, not {kind.__name__}")
    return value


def _to_json(environment: Environment) -> dict[str, Any]:
    """Return the JSON value of the file; what is empty has no key, what is unknown is null."""
    raw: dict[str, Any] = {**environment.versions}
    if environment.computing:
        raw["computing"] = dict(environment.computing)
    raw["git_commit"] = environment.git_commit
    raw["host"] = environment.host
    if environment.devices:
        raw["devices"] = list(environment.devices)
    raw["command"] = environment.command
    if environment.dataset is not None:
        raw["dataset"] = _dataset_to_json(environment.dataset)
    if environment.plan is not None:
        raw["plan"] = dict(environment.plan)
    if environment.cells is not None:
        raw["cells"] = list(environment.cells)
    if environment.arms:
        raw["arms"] = [{**arm.columns, "cells": dict(arm.seeds)} for arm in environment.arms]
    return raw


def _dataset_to_json(dataset: DatasetRecord) -> dict[str, Any]:
    raw: dict[str, Any] = {"labels": list(dataset.labels)} if dataset.labels else {}
    for name in ("size", "channels", "digest"):
        if getattr(dataset, name) is not None:
            raw[name] = getattr(dataset, name)
    return raw | {f"{_SIZE}{split}": count for split, count in dataset.n_images.items()}
