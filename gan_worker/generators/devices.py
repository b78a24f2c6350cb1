"""Exact float32 on GPUs, and asynchronous copies back to the CPU."""

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
    """Disable TF32 convolutions on a GPU, which would change every second uint8 level."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A finished batch whose copy to CPU memory may still be in progress."""

    images: Tensor
    finite: Tensor  # whether all pixels are finite
    done: torch.cuda.Event | None

    @classmethod
    def send(cls, pixels: Tensor, finish: Callable[[Tensor], Tensor]) -> OnItsWay:
        """Apply `finish` to `pixels` and start copying the result."""
        finite = torch.isfinite(pixels).all()
        images = finish(pixels)
        if images.device.type != "cuda":
            return cls(images.cpu(), finite.cpu(), None)
        # a separate stream: in the compute stream, the next batch would wait for the copy
        aside = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]  # torch's gap
        aside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(aside):
            here = cls(_pinned(images), _pinned(finite), aside.record_event())
        for tensor in (images, finite):
            tensor.record_stream(aside)
        return here

    def arrived(self, psi: float, precision: str) -> NDArray[np.generic]:
        """Wait for the images and return them; refuse pixels that are not finite."""
        if self.done is not None:
            self.done.synchronize()
        if not self.finite:
            raise UserError(
                f"The network produces non-finite pixels at psi {psi} in {precision}. Use a psi "
                "nearer to 1, precision float32, or another snapshot."
            )
        images: NDArray[np.generic] = self.images.numpy()
        return images


def _pinned(tensor: Tensor) -> Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)
