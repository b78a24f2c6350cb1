"""What a round of a trial leaves, on its way to disk.  trial -> [outcomes] -> results"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from fgaug.data import Dataset
from fgaug.results import as_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a round leaves, of a cell without rounds its training."""

    row: dict[str, Any]
    valid: np.ndarray  # float64 [N, L], probabilities of the validation images
    sealed: np.ndarray | None  # of the test images, where there are some


def predictions(dataset: Dataset, split: str, outcomes: Iterable[Outcome]) -> pd.DataFrame | None:
    """Return the probabilities of one side of the split, round by round; None where it has none.

    Args:
        dataset: divided as the trial's.
        split: valid or test.
        outcomes: of the rounds that are reported.
    """
    frames = []
    for outcome in outcomes:
        probability = outcome.valid if split == "valid" else outcome.sealed
        if probability is None:
            continue
        chosen = dataset.manifest["split"] == split
        frame = dataset.manifest.loc[chosen, ["image_id", "group", "label"]]
        frame = frame.reset_index(drop=True)
        for index, label in enumerate(dataset.spec.labels):
            frame[f"p_{label}"] = probability[:, index]
        number = outcome.row["round"]
        rounds = [pd.NA if number is None else number] * len(frame)
        frames.append(frame.assign(round=pd.array(rounds, dtype="Int64")))
    if len(frames) < 2:
        return frames[0] if frames else None
    return pd.concat(frames, ignore_index=True)


def as_state(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a checkpoint holds it."""
    sealed = None if outcome.sealed is None else torch.from_numpy(outcome.sealed)
    row = json.dumps({name: as_plain(value) for name, value in outcome.row.items()})
    return {"row": row, "valid": torch.from_numpy(outcome.valid), "sealed": sealed}


def from_state(state: dict[str, Any]) -> Outcome:
    """Return the outcome that `as_state` gave."""
    sealed = None if state["sealed"] is None else state["sealed"].numpy()
    return Outcome(row=json.loads(state["row"]), valid=state["valid"].numpy(), sealed=sealed)
