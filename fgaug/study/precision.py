"""`precision: auto`: float32 or bfloat16, whichever a run's devices train faster in.

The choice is made once a run and recorded there. A search that goes on elsewhere, or finds slower
nodes, keeps it: arms of different precisions could not be compared.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fgaug.core import files
from fgaug.core.devices import visible_gpus
from fgaug.core.paths import RunPaths
from fgaug.core.precision import PRECISIONS, Precision, bfloat16_unit, faster
from fgaug.data import DatasetSpec
from fgaug.errors import FgaugError, RunError, one_line
from fgaug.grid.points import Point
from fgaug.grid.recipe import Recipe
from fgaug.study import estimate

BATCH, IMAGES, ROUNDS = 16, 64, 2  # of a measurement
# models whose bfloat16 results were found to differ from float32 by more than half a point
UNEQUAL: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The precision that `auto` stands for in one recipe."""

    # backend, model and image size, such as `torch resnet18 at 128 px`, or the networks of a bank
    recipe: str
    precision: Precision
    reason: str

    @property
    def described(self) -> str:
        return f"precision: auto: {self.precision} for {self.recipe}; {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a device has for bfloat16, and how fast a recipe trains on it."""

    device: str  # core or GPU
    unit: str | None  # see `bfloat16_unit`
    times: float | None = None  # speed in bfloat16 over that in float32; None: not measured


class Choices:
    """The choices of a run: those recorded in its folder, and those made by this search.

    Args:
        run: the run.
        address: of the Ray cluster that the search joins; None: it uses this machine, or the
            cluster that this process is connected to.
        cores_only: trials use no GPU, even where there are some.
    """

    def __init__(self, run: RunPaths, address: str | None, *, cores_only: bool = False) -> None:
        self._address, self._cores_only = address, cores_only
        self._recorded = _read(run)
        self._used: dict[str, Choice] = {}

    def resolve(self, points: Sequence[Point], spec: DatasetSpec) -> tuple[Point, ...]:
        """Return the points with `auto` replaced by the precision it stands for."""
        named = {point.recipe_name: point.recipe for point in points}
        unsettled = {n: each for n, each in named.items() if each.precision == "auto"}
        if not unsettled:
            return tuple(points)
        settled = {name: self._settled(each, spec) for name, each in unsettled.items()}
        names = {name: each.model_dump_json() for name, each in settled.items()}
        return tuple(
            replace(point, recipe=settled[name], recipe_name=names[name])
            if (name := point.recipe_name) in settled
            else point
            for point in points
        )

    @property
    def used(self) -> tuple[Choice, ...]:
        """The choices that `resolve` needed so far."""
        return tuple(self._used.values())

    def _settled(self, recipe: Recipe, spec: DatasetSpec) -> Recipe:
        name = f"{recipe.backend} {recipe.model} at {spec.size} px"
        found = self.choice(name, lambda: chosen(name, recipe.model, self._of(recipe, spec)))
        return recipe.model_copy(update={"precision": found.precision})

    def choice(self, name: str, choose: Callable[[], Choice]) -> Choice:
        """Return the recorded choice of a name, or else that of `choose`, called once."""
        if name not in self._used:
            self._used[name] = self._recorded.get(name) or choose()
        return self._used[name]

    def _of(self, recipe: Recipe, spec: DatasetSpec) -> list[Speed]:
        if recipe.model in UNEQUAL:
            return []
        text = recipe.model_copy(update={"batch_size": BATCH}).model_dump_json()
        return self.speeds(
            functools.partial(speed_of, text, spec.size, spec.channels, len(spec.labels))
        )

    def speeds(self, ask: Callable[[bool], Speed]) -> list[Speed]:
        """Return what `ask`, called with whether GPUs are used, finds on each node that trains."""
        if self._address is None and not _connected():
            return [ask(visible_gpus() > 0 and not self._cores_only)]
        from fgaug.core import cluster

        with cluster.started(dashboard=False, address=self._address):
            return cluster.on_training_nodes(ask, cores_only=self._cores_only)


def record(run: RunPaths, choices: Iterable[Choice]) -> None:
    """Record the choices of a starting search in its run.

    Raises:
        RunError: another search of this run has recorded something else meanwhile.
    """
    recorded = _read(run)
    mine = {choice.recipe: choice for choice in choices}
    for name, choice in mine.items():
        known = recorded.get(name, choice)
        if known.precision != choice.precision:
            raise RunError(
                f"Another search of {run.place} chose {known.precision} for {name} while this one "
                f"chose {choice.precision}. Start this one again: it then uses the same."
            )
    if mine.keys() - recorded.keys():
        whole = {**mine, **recorded}
        files.write_json(run.precision, [asdict(choice) for choice in whole.values()])


def chosen(name: str, model: str, speeds: Sequence[Speed], does: str = "trains") -> Choice:
    """Return the choice for a recipe, given the speeds of all nodes that may train it.

    Args:
        name: of the choice.
        model: that is trained; empty for a generator.
        speeds: of all nodes.
        does: what was measured, a verb.
    """
    if model in UNEQUAL:
        reason = f"bfloat16 was found to change the results of {model}"
        return Choice(recipe=name, precision="float32", reason=reason)
    lacking = sorted({each.device for each in speeds if each.unit is None})
    if lacking:
        reason = f"{_subject(lacking, speeds)} no unit for bfloat16"
        return Choice(recipe=name, precision="float32", reason=reason)
    times = [each.times for each in speeds if each.times is not None]
    if not speeds:
        reason = "the cluster had no node to measure it on"
        return Choice(recipe=name, precision="float32", reason=reason)
    if len(times) < len(speeds):
        reason = "the speed could not be measured" + " on every node" * (len(speeds) > 1)
        return Choice(recipe=name, precision="float32", reason=reason)
    units = " and ".join(sorted({str(each.unit) for each in speeds}))
    measured = f"bfloat16 {does} {min(times):.2f} times as fast as float32 with {units}"
    return Choice(recipe=name, precision=faster(min(times)), reason=measured)


def _subject(lacking: Sequence[str], speeds: Sequence[Speed]) -> str:
    where = "some nodes have" if len(speeds) > 1 else "this machine has"
    return f"{' and '.join(lacking)} of {where}"


def speed_of(recipe: str, size: int, channels: int, labels: int, on_gpu: bool) -> Speed:
    """Return how much faster than in float32 this machine trains a recipe in bfloat16.

    Args:
        recipe: as JSON.
        size: of the images, px.
        channels: of the images.
        labels: number of labels.
        on_gpu: trials train on this machine's GPUs.
    """
    device = "the GPU" if on_gpu else "the processor"
    unit = bfloat16_unit("cuda" if on_gpu else "cpu")
    if unit is None:
        return Speed(device=device, unit=None)
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (IMAGES, size, size, channels), np.uint8)
    names = [str(number) for number in range(labels)]
    base = Recipe.model_validate_json(recipe)
    fastest = dict.fromkeys(PRECISIONS, 0.0)
    try:
        for _ in range(ROUNDS):
            for precision in PRECISIONS:  # in turn: another process may slow a while
                here = base.model_copy(update={"precision": precision})
                found = estimate.measure_on(here, names, pixels, 1, "cuda" if on_gpu else "cpu")
                fastest[precision] = max(fastest[precision], found.train_per_s)
    except FgaugError:  # the checks of the plan report it
        return Speed(device=device, unit=unit)
    return Speed(device=device, unit=unit, times=fastest["bfloat16"] / fastest["float32"])


def _connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _read(run: RunPaths) -> dict[str, Choice]:
    if not run.precision.is_file():
        return {}
    found: Any = files.read_json(run.precision, RunError)
    try:
        return {each["recipe"]: Choice(**each) for each in found}
    except (TypeError, KeyError) as error:
        raise RunError(
            f"{run.precision} is damaged ({one_line(str(error))}). Restore it: without it, cells "
            "of this run could be trained in another precision."
        ) from None
