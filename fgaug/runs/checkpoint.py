"""The checkpoint of an unfinished trial: one file, checked as a whole before it is used."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgaug.core import files, write_through
from fgaug.runs.results import as_plain
from fgaug.runs.round import RoundResult, Spent

_log = logging.getLogger("fgaug")
_OF_TRIAL = (
    "cell_id",
    "device",
    "round",
    "training",
    "tensors",
    "left",
    "start",
    "curve",
    "wall_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The complete state of an unfinished trial."""

    cell_id: str
    device: str  # cpu or cuda: rounding differs between them, so a checkpoint fits one
    round: int  # the current one, from 1
    training: Mapping[str, Any] | None  # of the current round; None before its first evaluation
    weights: Mapping[str, np.ndarray]  # that the round starts from; empty after an evaluation
    streams: Mapping[str, Any]  # of the learner: the state of its random streams
    earlier: tuple[RoundResult, ...]  # of earlier rounds: those with a row, and the last
    spent: Spent  # by earlier rounds
    curve: list[dict[str, Any]]
    wall_s: float


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    state = {
        "cell_id": checkpoint.cell_id,
        "device": checkpoint.device,
        "round": checkpoint.round,
        "training": checkpoint.training,
        "tensors": {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()},
        **checkpoint.streams,
        "left": [_result_to_state(each) for each in checkpoint.earlier],
        "start": astuple(checkpoint.spent),
        "curve": checkpoint.curve,
        "wall_s": checkpoint.wall_s,
    }
    with files.atomic_write(path) as temporary:
        torch.save(state, temporary)


def read(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file; None, with a warning, if it cannot be used.

    Without such a file there is no warning: the cell has not begun.
    """
    try:
        state = torch.load(write_through.fetched(path), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch documents no errors for damaged files
        _log.warning(f"{path} cannot be read ({type(error).__name__}); restarting the cell")
        return None
    try:
        return _from_state(state)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        _log.warning(
            f"{path} is damaged or from another version of fgaug ({type(error).__name__}: "
            f"{error}); restarting the cell"
        )
        return None


def _from_state(state: dict[str, Any]) -> Checkpoint:
    epochs, steps, images, train_s = state["start"]
    return Checkpoint(
        cell_id=state["cell_id"],
        device=state["device"],
        round=int(state["round"]),
        training=state["training"],
        weights={name: value.numpy() for name, value in state["tensors"].items()},
        streams={name: value for name, value in state.items() if name not in _OF_TRIAL},
        earlier=tuple(_result_from_state(each) for each in state["left"]),
        spent=Spent(epochs=epochs, steps=steps, images=images, train_s=train_s),
        curve=list(state["curve"]),
        wall_s=float(state["wall_s"]),
    )


def _result_to_state(result: RoundResult) -> dict[str, Any]:
    row = json.dumps({name: as_plain(value) for name, value in result.row.items()})
    return {
        "row": row,
        "valid": torch.from_numpy(result.valid),
        "sealed": None if result.sealed is None else torch.from_numpy(result.sealed),
    }


def _result_from_state(state: Mapping[str, Any]) -> RoundResult:
    return RoundResult(
        row=json.loads(state["row"]),
        valid=state["valid"].numpy(),
        sealed=None if state["sealed"] is None else state["sealed"].numpy(),
    )
