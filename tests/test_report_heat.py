"""Heat maps of every shape: nothing that is written lies outside the figure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from fgaug.analysis.report.chapters.heat_map import _figure, _Map
from fgaug.analysis.report.drawing import DARK, LIGHT, Theme


def heat_map(psis: int, sizes: int, name: str) -> _Map:
    gain = np.random.default_rng(0).normal(0, 0.02, (psis, sizes))
    large = name == "n_fake"
    return _Map(
        psis=tuple(
            0.123456 + 0.1 * place if large else 0.3 + 0.1 * place for place in range(psis)
        ),
        sizes=tuple((1234567.0 if large else 1.0) * (place + 1) for place in range(sizes)),
        name=name,
        gain=gain,
        sure=gain > 0.02,
        tried=np.ones_like(gain, bool),
    )


def written(figure: Figure) -> Iterator[Text]:
    """Yield the texts that are drawn: names of axes, numbers in fields, ticks in their range."""
    for axes in figure.axes:
        yield from (axes.xaxis.label, axes.yaxis.label, *axes.texts)
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ratio", "n_fake", "round"])
@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy", "log_loss"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 16), (24, 3)])
def test_no_label_is_cut(shape: tuple[int, int], metric: str, name: str, theme: Theme) -> None:
    figure = _figure(heat_map(*shape, name), metric, theme)
    figure.draw_without_rendering()
    whole = figure.bbox.padded(0.5)
    for text in written(figure):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent()
            assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text.get_text()
            assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text.get_text()
