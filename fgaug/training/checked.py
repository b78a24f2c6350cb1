"""A look at a network on its way: metrics, or the error that ends its trial.  [checked] -> fit"""

from __future__ import annotations

import math

import numpy as np

from fgaug.errors import TrialError
from fgaug.training.metrics import evaluate

_CURE = "Lower `recipe.learning_rate`."


def check_loss(train_loss: float, step: int) -> None:
    """Refuse a training loss that is not a finite number."""
    if not math.isfinite(train_loss):
        raise TrialError(f"The training loss became {train_loss} before step {step}. {_CURE}")


def looked(
    truth: np.ndarray, probability: np.ndarray, labels: tuple[str, ...], step: int
) -> dict[str, float]:
    """Return the metrics of a validation set, see `metrics.evaluate`.

    Raises:
        TrialError: its loss is not a number.
    """
    valid = evaluate(truth, probability, labels)
    if math.isnan(valid["loss"]):
        raise TrialError(f"The validation loss is not a number at step {step}. {_CURE}")
    return valid
