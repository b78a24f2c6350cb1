"""Check at planning time that a network accepts a dataset's images.

Small images are passed through the network. Larger ones use torch's meta device, where tensors
have shapes but no values: a pass costs the same at every size, needs no memory, and raises the
same errors as a real one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fgaug.errors import FgaugError, GridError
from fgaug.grid.recipe import Recipe
from fgaug.training.pytorch import models
from fgaug.training.pytorch.models import Classifier
from fgaug.training.weights import Weights

# sides in px to try for the message if a network refuses the dataset's
LADDER = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 768, 1024)
META_ABOVE = 128  # px; up to this size a real pass is faster than one on the meta device
_BATCHES = (
    (True, 2),
    (False, 1),
)  # training, images: BatchNorm trains on 2; the last evaluation has 1
_MAX_REASON = 160  # characters


def check(recipe: Recipe, weights: Weights, size: int, channels: int, labels: int) -> None:
    """Refuse a network that cannot be built, or cannot be trained on images of this size.

    Args:
        recipe: of the torch backend.
        weights: its initial weights.
        size: of the images, px.
        channels: of the images, 1 or 3.
        labels: number of labels.

    Raises:
        GridError: names the model, the size and the sizes that work.
        UserError: the weights do not fit the network.
    """
    network = _built(recipe, weights, labels)
    if size > META_ABOVE:
        if _failure(network.to("meta"), size, channels, labels) is None:
            return
        network = _built(recipe, weights, labels)  # some layers lack meta tensors: use real ones
    reason = _failure(network, size, channels, labels)
    if reason is not None:
        sizes = _sizes_that_work(network, size, channels, labels)
        raise GridError(
            [
                f"`recipe.model`: {recipe.model} cannot train on images of {size} px ({reason}). "
                f"{sizes}, or choose another model"
            ]
        )


def _built(recipe: Recipe, weights: Weights, labels: int) -> Classifier:
    try:
        return models.build(recipe, weights, labels)
    except FgaugError:
        raise
    except Exception as error:  # each of timm's model families fails in its own way
        raise GridError(
            [
                f"`recipe.model`: {recipe.model} cannot be built without its own head "
                f"({_reason(error)}). Choose another model"
            ]
        ) from None


def _failure(network: Classifier, size: int, channels: int, labels: int) -> str | None:
    """Return why a network returns no logits for images of this size; None if it does."""
    device = network.mean.device
    for training, count in _BATCHES:
        network.train(training)
        images = torch.zeros(count, channels, size, size, device=device)
        try:
            with torch.no_grad():
                logits = network(images)
        except Exception as error:  # RuntimeError, ValueError, AssertionError, IndexError...
            return _reason(error)
        if logits.shape != (count, labels):
            return f"it returns {tuple(logits.shape)} for {count} images and {labels} labels"
    return None


def _sizes_that_work(network: Classifier, size: int, channels: int, labels: int) -> str:
    """Return a sentence with the smallest size that works, or the nearest ones on both sides."""

    def works(side: int) -> bool:
        return _failure(network, side, channels, labels) is None

    below = next((side for side in reversed(LADDER) if side < size and works(side)), None)
    above = next((side for side in LADDER if side > size and works(side)), None)
    if below is not None:
        near = " and ".join(f"{side} px" for side in (below, above) if side is not None)
        return (
            f"Sizes nearby that work: {near}. Prepare the dataset at one of them "
            f"(`--size {below}`)"
        )
    if above is None:
        return f"No size up to {LADDER[-1]} px was found that works: choose another kind of model"
    fails = max([size, *(side for side in LADDER if side < above)])
    while above - fails > 1:
        middle = (above + fails) // 2
        fails, above = (fails, middle) if works(middle) else (middle, above)
    return (
        f"The smallest size that works is {above} px: prepare the dataset at that size (`fgaug "
        f"data prepare --size {above}`)"
    )


def _reason(error: Exception) -> str:
    """Return an error's first line, or its class if it has no message."""
    first = next(_lines(error), type(error).__name__)
    return first if len(first) <= _MAX_REASON else f"{first[:_MAX_REASON]}..."


def _lines(error: Exception) -> Iterator[str]:
    return (line.strip().rstrip(".") for line in str(error).splitlines() if line.strip())
