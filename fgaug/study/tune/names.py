"""What Ray's dashboard calls a trial: the names of its tasks, its process and its actor.

Looked at in Ray 2.60 (state API, dashboard, `ps`). Tune reuses one actor for many cells. Ray
records the repr of an actor once, after its creation, and its name and class even earlier. So the
list of actors can only show the first cell of a reused actor. A task has a name of its own, which
is in the list of tasks and is the title of the process while the task runs: `ps`, `top`, the page
of the node and the label `Component` of Ray's own metrics show the cell that trains now.

Where cells train long enough to pay for a process of their own, each gets a new actor, so the list
of actors is exact as well. Tune reuses an actor only for an equal resource request, and the name
of the placement group is a part of the request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.execution.placement_groups import resource_dict_to_pg_factory

from fgaug.grid.cells import Cell

CLASS = "Trial"  # of the actors; Tune's own is `with_resources.<locals>.ResourceTrainable`
# A new process imports PyTorch and maps pixels again: 5 to 10 s, below 1% of such a segment.
LONG_S = 1200.0
LATEST = 4  # segments that must all have been that long


class Names(tune.Callback):
    """A Tune callback that names the tasks of a trial by its cell, and times its segments."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = {cell.cell_id: cell.described for cell in cells}
        self.began: dict[str, float] = {}  # by trial
        self.latest: deque[float] = deque(maxlen=LATEST)  # seconds of the last segments

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that is never used

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.began[trial.trial_id] = time.monotonic()
        actor = trial.temporary_state.ray_actor
        vars(actor).pop("train", None)  # of the cell before
        # found by Tune in place of the handle's own method
        actor.train = actor.train.options(name=self.cells[str(trial.config["cell_id"])])

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        began = self.began.pop(trial.trial_id, None)
        if began is not None:
            self.latest.append(time.monotonic() - began)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.began.pop(trial.trial_id, None)

    def long(self) -> bool:
        """Whether segments have taken long enough for a process of their own."""
        return bool(self.latest) and min(self.latest) >= LONG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResources:
    """Returns what a trial holds, by its config; Tune calls it on the driver and in workers."""

    cpu: float
    gpu: float

    def __call__(self, config: Mapping[str, Any]) -> Any:
        request = resource_dict_to_pg_factory({"cpu": self.cpu, "gpu": self.gpu})
        if not config["alone"]:
            return request
        return tune.PlacementGroupFactory(request.bundles, name=config["cell_id"])


def trial_class(trainable: Any, resources: TrialResources) -> Any:
    """Return a trainable with its resources and the name that the list of actors shows."""
    made = tune.with_resources(trainable, resources)
    made.__name__ = made.__qualname__ = CLASS
    return made
