"""Devices: where torch computes, its exact arithmetic, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgaug.errors import UserError


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Keep a GPU from rounding convolutions to TF32, which alters every other uint8 level."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A finished batch whose copy to this machine's memory may still run beside the next."""

    images: Tensor
    finite: Tensor  # whether all pixels are numbers
    done: torch.cuda.Event | None

    @classmethod
    def send(cls, pixels: Tensor, finish: Callable[[Tensor], Tensor]) -> OnItsWay:
        """Return what `finish` makes of `pixels`, on its way."""
        finite = torch.isfinite(pixels).all()
        images = finish(pixels)
        if images.device.type != "cuda":
            return cls(images.cpu(), finite.cpu(), None)
        # a stream of its own: in the one that computes, the next batch would wait for the copy
        aside = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]  # torch's gap
        aside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(aside):
            here = cls(_pinned(images), _pinned(finite), aside.record_event())
        for tensor in (images, finite):
            tensor.record_stream(aside)
        return here

    def arrived(self, psi: float, precision: str) -> NDArray[np.generic]:
        """Return the images once they are here; refuse pixels that are no numbers."""
        if self.done is not None:
            self.done.synchronize()
        if not self.finite:
            raise UserError(
                f"The network gives pixels that are not finite at psi {psi} in {precision}. "
                "Use a psi nearer to 1, precision float32, or another snapshot."
            )
        images: NDArray[np.generic] = self.images.numpy()
        return images


def _pinned(tensor: Tensor) -> Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)
