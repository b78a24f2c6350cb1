"""Augmentation of training batches: none, fastai's, or an albumentations pipeline.

recipe -> [transforms] -> fit
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import ValidationError

from fgaug.errors import GridError
from fgaug.recipe import Recipe, Transform
from fgaug.training.augment import fastai_transform, to_unit


class Augmentation(Protocol):
    """A seeded transform of batches whose place in its stream of draws can be kept."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return uint8 [N, C, H, W] as float32 in [0, 1]."""
        ...

    def state(self) -> Any:
        """Return the place in the stream of draws; tensors or text."""
        ...

    def restore(self, state: Any) -> None:
        """Go on from a place that `state` gave."""
        ...


def build(recipe: Recipe, seed: int, device: torch.device) -> Augmentation:
    """Return a recipe's augmentation of training batches on a device."""
    if recipe.augmentation == "none":
        return Plain()
    if recipe.augmentation == "fastai":
        return Fastai(seed, device)
    return Albumentations(recipe.augmentation, seed)


class Plain:
    """No augmentation."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return to_unit(batch)

    def state(self) -> None:
        return None

    def restore(self, state: None) -> None:
        return None


class Fastai:
    """fastai's `aug_transforms()`, see `augment.fastai_transform`."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return fastai_transform(to_unit(batch), self.generator)

    def state(self) -> torch.Tensor:
        return self.generator.get_state()

    def restore(self, state: torch.Tensor) -> None:
        self.generator.set_state(state.cpu())


class Albumentations:
    """A pipeline of albumentations transforms, image by image on the CPU."""

    def __init__(self, steps: Sequence[Transform], seed: int) -> None:
        self.pipeline = pipeline(steps, seed)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return _transformed(self.pipeline, batch)

    def state(self) -> str:
        return json.dumps([_draws_of(member) for member in self._members()])

    def restore(self, state: str) -> None:
        for member, (arrays, (version, numbers, spare)) in zip(
            self._members(), json.loads(state), strict=True
        ):
            member.random_generator.bit_generator.state = arrays
            member.py_random.setstate((version, tuple(numbers), spare))

    def _members(self) -> list[Any]:
        """Return all that draw, each from a stream of its own."""
        return [self.pipeline, *self.pipeline.transforms]


def _draws_of(member: Any) -> list[Any]:
    version, numbers, spare = member.py_random.getstate()
    return [member.random_generator.bit_generator.state, [version, list(numbers), spare]]


def pipeline(steps: Sequence[Transform], seed: int) -> Any:
    """Return the albumentations pipeline of a recipe, seeded.

    Raises:
        GridError: a transform that albumentations does not have, or options it does not take.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version
    import albumentations

    transforms, problems = [], []
    for step in steps:
        ((name, options),) = step.items()
        made: Any = getattr(albumentations, name, None)
        if not _is_transform(made):
            problems.append(f"`recipe.augmentation`: albumentations has no transform `{name}`")
            continue
        try:
            with warnings.catch_warnings():
                # options it does not know are only warned about, and then ignored
                warnings.filterwarnings("error", r"Argument\(s\) .* not valid")
                transforms.append(made(**options))
        except (TypeError, ValueError, UserWarning) as error:
            problems.append(f"`recipe.augmentation`: {name} refuses {options}: {_reason(error)}")
    if problems:
        raise GridError(problems)
    return albumentations.Compose(transforms, seed=seed)


def try_out(steps: Sequence[Transform], size: int, channels: int) -> None:
    """Refuse, as `pipeline` does, also steps that fail on an image of this size or change it."""
    blank = torch.full((1, channels, size, size), 128, dtype=torch.uint8)
    _transformed(pipeline(steps, 0), blank)


def _is_transform(made: Any) -> bool:
    """Return whether a name of albumentations is a transform, not one of their base classes."""
    import albumentations

    return (
        isinstance(made, type)
        and issubclass(made, albumentations.BasicTransform)
        and made.__module__.startswith("albumentations.augmentations.")
    )


def _reason(error: Exception) -> str:
    """Return what is wrong with a transform's options in one line."""
    cause = error.__cause__  # albumentations turns pydantic's findings into 4 lines of text each
    if not isinstance(cause, ValidationError):
        return str(error).splitlines()[0]
    found = {f"`{one['loc'][0]}`: {one['msg']}" for one in cause.errors() if one["loc"]}
    return "; ".join(sorted(found)) or str(cause)


def _transformed(transform: Any, batch: torch.Tensor) -> torch.Tensor:
    images = batch.permute(0, 2, 3, 1).cpu().numpy()
    try:
        changed = [transform(image=image)["image"] for image in images]
    except Exception as error:  # whatever albumentations and OpenCV raise
        size, channels = images.shape[2:]
        raise GridError(
            [
                f"`recipe.augmentation` fails on an image of {size} px and {channels} channels: "
                f"{_reason(error)}"
            ]
        ) from None
    for image in changed:
        if image.shape[:2] != images.shape[1:3] or image.dtype != np.uint8:
            raise GridError(
                [
                    "`recipe.augmentation` must keep the image size and uint8 pixels, got "
                    f"{image.dtype} {tuple(image.shape[:2])} from uint8 {images.shape[1:3]}; "
                    "add a Resize step, drop Normalize and ToFloat"
                ]
            )
    return to_unit(torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).to(batch.device))
