"""Whether a pipeline takes a dataset's images, whatever it draws.

A step that fails and is drawn rarely would end trials hours later. So each step is applied here
for certain, each branch of a group in turn, and optional steps are left out in turn.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgaug.errors import GridError
from fgaug.grid.recipe import Transform
from fgaug.training.pytorch.pipelines import composed, pipeline, reason, seed_streams

SEEDS = 3  # of each image in each order of steps: some steps fail for some of their draws
DRAWS = 12  # of the pipeline as it is, over all images
_KEY = "`recipe.augmentation`"


def check(steps: Sequence[Transform], images: np.ndarray) -> list[str]:
    """Return warnings about steps that cannot do what they are for; refuse steps that fail.

    Args:
        steps: of the pipeline.
        images: some of the dataset's, uint8 [N, H, W, C].

    Raises:
        GridError: unknown steps and options, steps that fail on such images or need more than an
            image, a pipeline that changes the size, the type or, sometimes, the channels.
    """
    whole = pipeline(steps, 0)
    images = np.concatenate([images, np.full_like(images[:1], 128)])
    trial = _Trial(images)
    for order in [*_orders(whole.transforms)]:  # all of them, before any step's p is raised
        trial.apply(order)
    whole = pipeline(steps, 0)  # the other one's steps are applied for certain by now
    for draw in range(DRAWS):
        seed_streams(whole, draw)
        trial.draw(whole, images[draw % len(images)])
    trial.settle()
    return list(trial.remarks)


class _Trial:
    """What is found while steps are applied to images."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.problems: dict[str, None] = {}  # an ordered set
        self.remarks: dict[str, None] = {}
        self.resized: str | None = None  # the first; sizes may differ from draw to draw
        self.channels: set[int] = set()

    def apply(self, order: Sequence[Any]) -> None:
        """Apply transforms one after the other, each for certain."""
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
                except Exception as error:  # whatever albumentations and OpenCV raise
                    self._fails(f"its step {name}: ", error)
                    return
            self.remarks |= {f"{_KEY}: {name}: {one.message}": None for one in heard}
            if not changed and (after.shape[:2], after.dtype) != (result.shape[:2], result.dtype):
                changed = f", since its step {name}"
            result = after
        self._ends(result, image, changed)

    def draw(self, whole: Any, image: np.ndarray) -> None:
        """Apply a pipeline as trials will."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each step was heard by itself
            try:
                result = whole(image=image)["image"]
            except Exception as error:  # as above
                if not self.problems:  # else it is known which step it is
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
            f"{_KEY}: {name} needs {what} beside the image, which a training does not have. "
            "Leave it out"
        ] = None

    def _ends(self, result: np.ndarray, image: np.ndarray, changed: str) -> None:
        """Look at the outcome: size and type are those of the image."""
        if result.shape[:2] == image.shape[:2] and result.dtype == np.uint8:
            self.channels.add(result.shape[2] if result.ndim == 3 else 1)
        elif self.resized is None:
            self.resized = (
                f"{_KEY} must keep the image size and uint8 pixels, got {result.dtype} "
                f"{result.shape[:2]} from uint8 {image.shape[:2]}{changed}; add a Resize step, "
                "drop Normalize and ToFloat"
            )

    def settle(self) -> None:
        """Refuse what was found.

        Raises:
            GridError: with one line for each step.
        """
        found = [*self.problems, *([] if self.resized is None else [self.resized])]
        if not found and (len(self.channels) > 1 or not self.channels <= {1, 3}):
            words = " or ".join(map(str, sorted(self.channels)))
            found.append(
                f"{_KEY} makes images of {words} channels from images of "
                f"{self.images.shape[3]}. All must come out with 1 or all with 3: give steps such "
                "as ToRGB `p: 1`, or leave them out"
            )
        if found:
            raise GridError(found)


def _orders(steps: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield lists of transforms: each branch once, then each optional step left out once."""
    used = [step for step in steps if _possible(step)]
    for turn in range(max(map(_branches, used), default=0)):
        yield [one for step in used for one in _applied(step, turn)]
    for left_out in [step for step in used if step.p < 1 and _name(step) != "OneOrOther"]:
        yield [one for step in used if step is not left_out for one in _applied(step, 0)]


def _name(step: Any) -> str:
    return type(step).__name__


def _possible(step: Any) -> bool:
    return bool(step.p) or _name(step) == "OneOrOther"  # whose p is the share of its first step


def _inside(group: Any) -> list[Any]:
    """Return the steps of a group that it can apply."""
    if _name(group) == "OneOrOther":  # whatever their own p is
        first, second = group.transforms
        return [*([first] if group.p else []), *([second] if group.p < 1 else [])]
    return [step for step in group.transforms if _possible(step)]


def _is_group(step: Any) -> bool:
    return hasattr(step, "transforms")


def _chooses(group: Any) -> bool:
    """Return whether a group applies some of its steps, not all in their order."""
    whole = _name(group) == "SomeOf" and group.n == len(group.transforms) and not group.replace
    return _name(group) != "Sequential" and not whole


def _branches(step: Any) -> int:
    """Return in how many ways a step is tried."""
    if not _is_group(step):
        return 1
    counts = [_branches(one) for one in _inside(step)]
    return max(1, sum(counts) if _chooses(step) else max(counts, default=1))


def _applied(step: Any, turn: int) -> Iterator[Any]:
    """Yield the transforms that one way of trying a step comes to."""
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
