"""Check that a pipeline works on a dataset's images, for every possible draw.

A failing step that is rarely drawn would end trials hours later. So every step and every branch of
a group is applied here with certainty, and optional steps are skipped in turn.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgaug.errors import GridError
from fgaug.grid.recipe import Transform
from fgaug.training.pytorch.pipelines import composed, pipeline, reason, seed_streams

SEEDS = 3  # per image and order of steps, as some steps fail only for some draws
DRAWS = 12  # of the unchanged pipeline, over all images
_KEY = "`recipe.augmentation`"


def check(steps: Sequence[Transform], images: np.ndarray) -> list[str]:
    """Return warnings about ineffective steps; refuse steps that fail.

    Args:
        steps: steps of the pipeline.
        images: some images of the dataset, uint8 [N, H, W, C].

    Raises:
        GridError: steps or options are unknown, a step fails on these images or needs more than an
            image, or the pipeline changes the size, the type or, for some draws, the channels.
    """
    whole = pipeline(steps, 0)
    images = np.concatenate([images, np.full_like(images[:1], 128)])
    trial = _Trial(images)
    for order in [*_orders(whole.transforms)]:  # all orders, before any p is raised
        trial.apply(order)
    whole = pipeline(steps, 0)  # the steps of the other one now always apply
    for draw in range(DRAWS):
        seed_streams(whole, draw)
        trial.draw(whole, images[draw % len(images)])
    trial.settle()
    return list(trial.remarks)


class _Trial:
    """Collects the problems found while applying steps to images."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.problems: dict[str, None] = {}  # an ordered set
        self.remarks: dict[str, None] = {}
        self.resized: str | None = None  # the first; sizes may vary between draws
        self.channels: set[int] = set()

    def apply(self, order: Sequence[Any]) -> None:
        """Apply transforms one after the other, each with certainty."""
        built = []
        for transform in order:
            transform.p = 1.0
            if needs := transform.targets_as_params:
                self._needs(_name(transform), ", ".join(f"`{each}`" for each in needs))
                return
            built.append((_name(transform), composed([transform])))
        for image in self.images:
            for seed in range(SEEDS):
                self._applied(built, image, seed)

    def _applied(self, built: Sequence[tuple[str, Any]], image: np.ndarray, seed: int) -> None:
        result, changed = image, ""
        for name, step in built:
            step.set_random_seed(seed)
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                try:
                    after = step(image=result)["image"]
                except KeyError as error:
                    self._needs(name, f"`{error.args[0]}`")
                    return
                except Exception as error:  # albumentations and OpenCV raise many kinds
                    self._fails(f"its step {name}: ", error)
                    return
            self.remarks |= {f"{_KEY}: {name}: {one.message}": None for one in heard}
            if not changed and (after.shape[:2], after.dtype) != (result.shape[:2], result.dtype):
                changed = f", since its step {name}"
            result = after
        self._ends(result, image, changed)

    def draw(self, whole: Any, image: np.ndarray) -> None:
        """Apply a pipeline as trials do."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # already shown for each step
            try:
                result = whole(image=image)["image"]
            except Exception as error:  # as above
                if not self.problems:  # otherwise the failing step is known
                    self._fails("", error)
                return
        self._ends(result, image, "")

    def _fails(self, step: str, error: Exception) -> None:
        size, channels = self.images.shape[2:]
        many = "1 channel" if channels == 1 else f"{channels} channels"
        text = f"{_KEY} fails on an image of {size} px and {many}: {step}{reason(error)}"
        self.problems[text] = None

    def _needs(self, name: str, what: str) -> None:
        self.problems[
            f"{_KEY}: {name} needs {what} in addition to the image, which training does not "
            "provide. Remove it"
        ] = None

    def _ends(self, result: np.ndarray, image: np.ndarray, changed: str) -> None:
        """Record a problem if a result differs from the image in size or type."""
        if result.shape[:2] == image.shape[:2] and result.dtype == np.uint8:
            self.channels.add(result.shape[2] if result.ndim == 3 else 1)
        elif self.resized is None:
            self.resized = (
                f"{_KEY} must keep the image size and uint8 pixels, got {result.dtype} "
                f"{result.shape[:2]} from uint8 {image.shape[:2]}{changed}. Add a Resize step, "
                "and remove Normalize and ToFloat"
            )

    def settle(self) -> None:
        """Raise the collected problems.

        Raises:
            GridError: with one line per step.
        """
        found = [*self.problems, *([] if self.resized is None else [self.resized])]
        if not found and (len(self.channels) > 1 or not self.channels <= {1, 3}):
            words = " or ".join(map(str, sorted(self.channels)))
            found.append(
                f"{_KEY} makes images of {words} channels from images of {self.images.shape[3]}. "
                "Results must all have 1 or all have 3 channels: give steps such as ToRGB `p: "
                "1`, or remove them"
            )
        if found:
            raise GridError(found)


def _orders(steps: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield lists of transforms: each branch once, then each optional step skipped once."""
    used = [step for step in steps if _possible(step)]
    for turn in range(max(map(_branches, used), default=0)):
        yield [one for step in used for one in _applied(step, turn)]
    for left_out in [step for step in used if step.p < 1 and _name(step) != "OneOrOther"]:
        yield [one for step in used if step is not left_out for one in _applied(step, 0)]


def _name(step: Any) -> str:
    return type(step).__name__


def _possible(step: Any) -> bool:
    return bool(step.p) or _name(step) == "OneOrOther"  # its p is the share of its first step


def _inside(group: Any) -> list[Any]:
    """Return the steps that a group can apply."""
    if _name(group) == "OneOrOther":  # regardless of their own p
        first, second = group.transforms
        return [*([first] if group.p else []), *([second] if group.p < 1 else [])]
    return [step for step in group.transforms if _possible(step)]


def _is_group(step: Any) -> bool:
    return hasattr(step, "transforms")


def _chooses(group: Any) -> bool:
    """Return whether a group selects among its steps instead of applying all in order."""
    whole = _name(group) == "SomeOf" and group.n == len(group.transforms) and not group.replace
    return _name(group) != "Sequential" and not whole


def _branches(step: Any) -> int:
    """Return the number of ways to try a step."""
    if not _is_group(step):
        return 1
    counts = [_branches(one) for one in _inside(step)]
    return max(1, sum(counts) if _chooses(step) else max(counts, default=1))


def _applied(step: Any, turn: int) -> Iterator[Any]:
    """Yield the transforms of one way of trying a step."""
    if not _is_group(step):
        yield step
        return
    turn %= _branches(step)
    for one in _inside(step):
        if not _chooses(step):
            yield from _applied(one, turn)
        elif turn < _branches(one):
            yield from _applied(one, turn)
            return
        else:
            turn -= _branches(one)
