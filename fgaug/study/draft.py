"""The draft of a plan: a grid on a dataset, independent of the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fgaug.data import Dataset
from fgaug.grid.axes import Split
from fgaug.grid.cells import Cell
from fgaug.runs.reals import Reals
from fgaug.study.fake_source import FakeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A grid on a dataset: cells and fake sources."""

    cells: tuple[Cell, ...]
    fake_sources: tuple[FakeSource, ...]  # including their scorers
    scoring: Mapping[Split, str]  # cells whose classifiers score fakes, by split
    splits: Mapping[Split, Dataset]  # by `Cell.view`
    reals: Mapping[Split, Reals]  # by `Cell.view`
    scratch: tuple[str, ...]  # models whose pretrained weights are not on this machine
    problems: tuple[str, ...]  # reported together with those of later checks
