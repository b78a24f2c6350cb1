"""How strongly the discriminator's images are augmented: as much as it overfits.

Karras et al. 2020, arXiv:2006.06676, section 3: the mean sign of D at real images, which nears 1
as D comes to know them by heart, is held at a target.
"""

from __future__ import annotations

from torch import Tensor

INTERVAL = 4  # iterations between two adjustments


class AdaController:
    """The strength p, raised or lowered by a fixed amount every INTERVAL iterations."""

    def __init__(
        self, *, target: float | None, batch: int, kimg: float = 500.0, p: float = 0.0
    ) -> None:
        """Start at `p`.

        Args:
            target: mean sign of D at real images, -1 to 1; None: p stays as it is.
            batch: images an iteration, of all processes together.
            kimg: p moves by at most 1 in so many thousand images.
            p: probability of each transform; may rise above 1, where all are always on and D has
                time to recover before they cease.
        """
        self.target, self.p = target, p
        self._amount = INTERVAL * batch / (kimg * 1000)
        self._signs: Tensor | float = 0.0  # sum since the last adjustment
        self._images = 0  # that it is the sum of
        self._iterations = 0  # since the last adjustment

    def see(self, sign: Tensor | float, images: int) -> None:
        """Take in the mean sign of D at so many real images; a tensor is not waited for.

        Args:
            sign: mean of sign(D(x)); a 0-d tensor without gradient, or a number.
            images: of all processes, as is their mean.
        """
        self._signs = self._signs + sign * images
        self._images += images

    def step(self) -> float:
        """Return p after an iteration."""
        if self.target is None:
            return self.p
        self._iterations += 1
        if self._iterations == INTERVAL:
            assert self._images, "step() came without see()"
            # rounded, as 12 of 20 in float32 is a little above 0.6
            mean = round(float(self._signs) / self._images, 6)
            direction = (mean > self.target) - (mean < self.target)
            self.p = max(0.0, self.p + direction * self._amount)
            self._signs, self._images, self._iterations = 0.0, 0, 0
        return self.p

    def state(self) -> dict[str, float]:
        """Return all that changes, as plain numbers."""
        return {
            "p": self.p,
            "signs": float(self._signs),
            "images": self._images,
            "iterations": self._iterations,
        }

    def restore(self, state: dict[str, float]) -> None:
        """Go on from where `state` was taken."""
        self.p, self._signs = float(state["p"]), float(state["signs"])
        self._images, self._iterations = int(state["images"]), int(state["iterations"])
