"""Names of arms in words: one style for a cell, a result row, a panel of a report and a status."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from test_cells import REPLACEMENT, one

from fgaug.analysis.report.panels import Panel, title, varying
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.grid.arm_names import arm_name
from fgaug.grid.arm_words import arm_in_words
from fgaug.grid.cells import Cell
from fgaug.runs import status
from fgaug.runs.results import write_row
from fgaug.runs.row import identity_columns

FEW = "augmentation psi 0.7 ratio 1"
MANY = "replacement psi 0.7 ratio 1 remove dbp 500, trv all filter agrees model resnet18"


def plain() -> Cell:
    return one("augmentation")


def test_axes_come_in_one_order_whatever_the_callers() -> None:
    axes = [
        ("recipe.model", "resnet18"),
        ("filter", "agrees"),
        ("remove", "dbp 500, trv all"),
        ("ratio", "1"),
        ("psi", "0.7"),
    ]
    assert arm_in_words("replacement", axes) == MANY
    assert arm_in_words("replacement", reversed(axes)) == MANY
    assert arm_in_words("synthetic", [("", "3 rounds of 20")]) == "synthetic 3 rounds of 20"


def test_a_cell_its_row_and_its_panel_name_an_arm_alike() -> None:
    cell = plain()
    assert cell.arm_described == FEW
    assert cell.described == f"{FEW} seed 3"
    row = identity_columns(cell)
    assert arm_name({**row, "round": None}, ()) == FEW
    row |= {
        "mode": "replacement",
        "filter": "agrees",
        "remove": "dbp=500 trv=all",
        "recipe.model": "resnet18",
    }
    assert arm_name({**row, "round": None}, ("recipe.model", "filter", "remove")) == MANY


def test_values_by_label_read_alike_in_a_cell_and_in_its_row() -> None:
    cell = dataclasses.replace(
        one("replacement", **REPLACEMENT),
        psi=None,
        psi_by_label=(("a b", 0.5), ("c=2", -1.0)),
        ratio=None,
        fakes=(("a b", 5), ("c=2", 7)),
        remove=(("a b", 0.5), ("c=2", "all")),
    )
    words = "psi a b 0.5, c=2 -1 fakes a b 5, c=2 7 remove a b 0.5, c=2 all"
    assert cell.arm_described == f"replacement {words}"
    row = identity_columns(cell)
    assert arm_name(row, ("fakes", "psi_by_label", "remove")) == cell.arm_described


def test_counts_are_named_beside_ratios() -> None:
    modes, fakes = ["baseline", "augmentation", "augmentation"], [None, None, "dbp=5 trv=7"]
    arms = pd.DataFrame(
        {"mode": modes, "filter": None, "round": None, "fakes": fakes, "seeds": 1}, dtype=object
    )
    assert "fakes" in varying(arms)
    assert "fakes" not in varying(arms.drop(index=1))  # all arms have the same


@pytest.mark.parametrize(("mode", "end"), [("augmentation", ""), ("oversample", " (control)")])
def test_a_panel_has_the_words_of_its_arms(mode: str, end: str) -> None:
    none = pd.DataFrame()
    axes = {"filter": "agrees", "recipe.model": "resnet18"}
    panel = Panel(mode=mode, psi=0.7, axes=axes, baseline=none, arms=none, controls=none)
    words = f"{mode.capitalize()} psi 0.7 filter agrees model resnet18{end}"
    assert title(panel, ("recipe.model", "filter")) == words


def test_a_failure_in_a_status_has_the_words_of_its_cell(tmp_path: Path) -> None:
    run, cell = RunPaths(tmp_path), plain()
    files.write_text(run.space, "name: little\n")
    files.write_json(run.environment, {"cells": [cell.cell_id]})
    row = {**identity_columns(cell), "status": "failed", "error": "out of memory"}
    write_row(run.trial(cell.cell_id), row)
    (failure,) = status.read(tmp_path).failures
    assert failure.cell == cell.described
