"""Augment training batches: with nothing, fastai's transforms or an albumentations pipeline."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe, Transform
from fgaug.training.pytorch.fastai_augment import fastai_transform, to_unit
from fgaug.training.pytorch.pipelines import members, pipeline, reason


class Augmentation(Protocol):
    """A seeded transform of batches whose random state can be saved."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return uint8 [N, C, H, W] as float32 in [0, 1]."""
        ...

    def state(self) -> Any:
        """Return the random state, as tensors or text."""
        ...

    def restore(self, state: Any) -> None:
        """Restore a random state returned by `state`."""
        ...


def build(recipe: Recipe, seed: int, device: torch.device) -> Augmentation:
    """Return the augmentation of a recipe on a device."""
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
        return json.dumps([_draws_of(member) for member in members(self.pipeline)])

    def restore(self, state: str) -> None:
        for member, (arrays, (version, numbers, spare)) in zip(
            members(self.pipeline), json.loads(state), strict=True
        ):
            member.random_generator.bit_generator.state = arrays
            member.py_random.setstate((version, tuple(numbers), spare))


def _draws_of(member: Any) -> list[Any]:
    version, numbers, spare = member.py_random.getstate()
    return [member.random_generator.bit_generator.state, [version, list(numbers), spare]]


def _transformed(transform: Any, batch: torch.Tensor) -> torch.Tensor:
    images = batch.permute(0, 2, 3, 1).cpu().numpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # already shown by the pipeline check
            changed = [transform(image=image)["image"] for image in images]
    except Exception as error:  # albumentations and OpenCV raise many kinds
        size, channels = images.shape[2:]
        raise GridError(
            [
                f"`recipe.augmentation` fails on an image of {size} px and {channels} channels: "
                f"{reason(error)}"
            ]
        ) from None
    for image in changed:
        if image.shape[:2] != images.shape[1:3] or image.dtype != np.uint8:
            raise GridError(
                [
                    "`recipe.augmentation` must keep the image size and uint8 pixels, got "
                    f"{image.dtype} {tuple(image.shape[:2])} from uint8 {images.shape[1:3]}. Add "
                    "a Resize step, and remove Normalize and ToFloat"
                ]
            )
    return to_unit(torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).to(batch.device))
