"""Early stopping, one rule for both backends."""

from __future__ import annotations

import pytest

from fgaug.training.early_stopping import EarlyStopping


@pytest.mark.parametrize(
    ("losses", "better", "over"),
    [
        ([0.7, 0.6, 0.5], [True, True, True], [False, False, False]),
        ([0.5, 0.6, 0.7], [True, False, False], [False, False, True]),
        ([0.5, 0.5, 0.5], [True, False, False], [False, False, True]),  # a tie is not better
        ([0.5, 0.6, 0.4, 0.5], [True, False, True, False], [False, False, False, False]),
        ([float("inf"), 0.5], [True, True], [False, False]),
    ],
)
def test_patience_of_two(losses: list[float], better: list[bool], over: list[bool]) -> None:
    stopping = EarlyStopping(2)
    seen = [(stopping.improves(loss), stopping.is_over) for loss in losses]
    assert seen == list(zip(better, over, strict=True))
    assert stopping.lowest == min(losses)


def test_without_patience_it_never_stops() -> None:
    stopping = EarlyStopping(None)
    for loss in [0.5, *[0.6] * 100]:
        stopping.improves(loss)
        assert not stopping.is_over
    assert stopping.waited == 100
