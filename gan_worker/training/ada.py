"""Adapt the augmentation strength of the discriminator's images to its overfitting.

Karras et al. 2020, arXiv:2006.06676, section 3: controls the mean sign of D on real images, which
approaches 1 as D memorises them, to a target.
"""

from __future__ import annotations

from torch import Tensor

INTERVAL = 4  # iterations between adjustments


class AdaController:
    """Controls the strength p, in fixed steps every INTERVAL iterations."""

    def __init__(
        self, *, target: float | None, batch: int, kimg: float = 500.0, p: float = 0.0
    ) -> None:
        """Start at `p`.

        Args:
            target: mean sign of D on real images, -1 to 1; None keeps p constant.
            batch: images per iteration, over all processes.
            kimg: p changes by at most 1 per this many thousand images.
            p: initial probability of each transform. It may exceed 1: all transforms are then
                always on, and D has time to recover before p falls below 1.
        """
        self.target, self.p = target, p
        self._amount = INTERVAL * batch / (kimg * 1000)
        self._signs: Tensor | float = 0.0  # sum since the last adjustment
        self._images = 0  # images in the sum
        self._iterations = 0  # since the last adjustment

    def see(self, sign: Tensor | float, images: int) -> None:
        """Record the mean sign of D on real images, without synchronising with the GPU.

        Args:
            sign: mean of sign(D(x)); a 0-d tensor without gradient, or a number.
            images: number of images, over all processes, like the mean.
        """
        self._signs = self._signs + sign * images
        self._images += images

    def step(self) -> float:
        """Finish an iteration and return p."""
        if self.target is None:
            return self.p
        self._iterations += 1
        if self._iterations == INTERVAL:
            assert self._images, "step() came without see()"
            # rounded, as 12 / 20 in float32 is slightly above 0.6
            mean = round(float(self._signs) / self._images, 6)
            direction = (mean > self.target) - (mean < self.target)
            self.p = max(0.0, self.p + direction * self._amount)
            self._signs, self._images, self._iterations = 0.0, 0, 0
        return self.p

    def state(self) -> dict[str, float]:
        """Return the complete state as plain numbers."""
        return {
            "p": self.p,
            "signs": float(self._signs),
            "images": self._images,
            "iterations": self._iterations,
        }

    def restore(self, state: dict[str, float]) -> None:
        """Restore a result of `state`."""
        self.p, self._signs = float(state["p"]), float(state["signs"])
        self._images, self._iterations = int(state["images"]), int(state["iterations"])
