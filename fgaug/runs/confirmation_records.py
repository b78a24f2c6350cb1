"""Second stages of a run as they are written down: arms, fresh seeds, what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.errors import RunError

SCHEMA = 1
NUMBERS = ("mean", "mean_against", "effect", "se", "df", "ci_low", "ci_high", "p_raw", "p_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortlistedArm:
    """An arm that is confirmed, and what it is compared with."""

    arm_id: str
    arm: str  # in words
    mean: float | None  # of the metric on validation over the screening seeds that are ok
    gain: float | None  # of that mean over its baseline's; larger is better for every metric
    seeds: int  # screening seeds that are ok
    baseline: str  # arm_id
    twins: Mapping[str, str]  # control -> arm_id


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedVerdict:
    """What the sealed test said of a stage."""

    date: str
    look: int
    counted: str  # the look among those planned, in words
    comparisons: tuple[Mapping[str, Any], ...]  # rows of `judging.judge`; undefined is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondStage:
    """Arms trained again on seeds that the run had not used, to be judged on the sealed test."""

    by: str  # search: by the grid's `confirmation`; confirm: named by somebody
    date: str
    metric: str
    shortlist: tuple[ShortlistedArm, ...]
    left_out: tuple[str, ...]  # arms that could not be chosen, each with its reason
    seeds: Mapping[str, tuple[int, ...]]  # arm_id -> fresh seeds; twins and baselines too
    cells: tuple[str, ...] = ()
    judged: tuple[SealedVerdict, ...] = ()  # each time that the test was opened for it

    @property
    def comparisons(self) -> pd.DataFrame:
        """The latest verdict: one row an arm and what it is compared with; empty before."""
        frame = pd.DataFrame(list(self.judged[-1].comparisons) if self.judged else [])
        numbers = [name for name in frame if name in NUMBERS]
        return frame.assign(**{str(name): frame[name].astype(float) for name in numbers})


def read(run: RunPaths) -> tuple[SecondStage, ...]:
    """Return the second stages of a run in their order; none where there is no such file.

    Raises:
        RunError: the file is damaged.
    """
    if not run.stages.is_file():
        return ()
    raw = files.read_json(run.stages, RunError)
    try:
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']}")
        return tuple(_stage(value) for value in raw["stages"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{run.stages} is no record of second stages of this version of fgaug ({error}). "
            "Restore it: which arms were chosen, on which seeds, must not be decided again."
        ) from None


def write(run: RunPaths, stages: Iterable[SecondStage]) -> None:
    """Write all second stages of a run, whole or not at all."""
    files.write_json(run.stages, {"schema": SCHEMA, "stages": [asdict(each) for each in stages]})


def cells_of(run: RunPaths) -> frozenset[str]:
    """Return the cells of every second stage of a run."""
    return frozenset(cell for stage in read(run) for cell in stage.cells)


def _stage(value: Mapping[str, Any]) -> SecondStage:
    judged = (
        SealedVerdict(**{**each, "comparisons": tuple(each["comparisons"])})
        for each in value["judged"]
    )
    return SecondStage(
        **{
            **value,
            "shortlist": tuple(ShortlistedArm(**each) for each in value["shortlist"]),
            "left_out": tuple(value["left_out"]),
            "seeds": {arm: tuple(seeds) for arm, seeds in value["seeds"].items()},
            "cells": tuple(value["cells"]),
            "judged": tuple(judged),
        }
    )
