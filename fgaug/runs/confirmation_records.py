"""Reads and writes a run's record of second stages: arms, fresh seeds and verdicts."""

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
    """An arm to confirm, and the arms it is compared with."""

    arm_id: str
    arm: str  # its description
    mean: float | None  # mean validation metric over the screening seeds that are ok
    gain: float | None  # gain of that mean over the baseline's; larger is better for every metric
    seeds: int  # screening seeds that are ok
    baseline: str  # arm_id
    twins: Mapping[str, str]  # arm_id by control


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedVerdict:
    """The comparisons of a stage at one look at the sealed test set."""

    date: str
    look: int
    counted: str  # text such as "look 1 of 1 planned"
    comparisons: tuple[Mapping[str, Any], ...]  # rows of `verdict.judge`; None if undefined


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondStage:
    """Arms retrained on seeds that the run had not used, to be tested on the sealed test set."""

    by: str  # search: from the grid's `confirmation`; confirm: chosen by the user
    date: str
    metric: str
    shortlist: tuple[ShortlistedArm, ...]
    left_out: tuple[str, ...]  # ineligible arms with reasons
    seeds: Mapping[str, tuple[int, ...]]  # fresh seeds by arm_id, twins and baselines included
    cells: tuple[str, ...] = ()
    judged: tuple[SealedVerdict, ...] = ()  # one per look at the test set for this stage

    @property
    def comparisons(self) -> pd.DataFrame:
        """The latest verdict, one row per comparison; empty before the first."""
        frame = pd.DataFrame(list(self.judged[-1].comparisons) if self.judged else [])
        numbers = [name for name in frame if name in NUMBERS]
        return frame.assign(**{str(name): frame[name].astype(float) for name in numbers})


def read(run: RunPaths) -> tuple[SecondStage, ...]:
    """Return the second stages of a run in order; empty if there is no record.

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
            f"{run.stages} is damaged or from another version of fgaug ({error}). Restore it: "
            "the choice of arms and seeds must not be repeated."
        ) from None


def write(run: RunPaths, stages: Iterable[SecondStage]) -> None:
    """Write all second stages of a run atomically."""
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
