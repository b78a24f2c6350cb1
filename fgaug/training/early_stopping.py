"""Early stopping: the lowest validation loss so far, and how long ago it was."""

from __future__ import annotations


class EarlyStopping:
    """Tracks the lowest loss, and whether patience has run out.

    Both backends use this rule: only a strictly lower loss is an improvement.
    """

    def __init__(self, patience: int | None) -> None:
        """Start before the first evaluation.

        Args:
            patience: number of evaluations without improvement that ends a training; None means no
                limit.
        """
        self.patience = patience
        self.lowest: float | None = None  # None before the first evaluation
        self.waited = 0  # evaluations since the lowest loss

    def improves(self, loss: float) -> bool:
        """Record the loss of the next evaluation; return whether it is the lowest so far."""
        if self.lowest is None or loss < self.lowest:
            self.lowest, self.waited = loss, 0
            return True
        self.waited += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience
