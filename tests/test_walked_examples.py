"""The walked examples of docs/contributing.md: their files are there and their code works."""

from __future__ import annotations

import ast
import importlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_report import made_material
from PIL import Image
from sklearn.metrics import matthews_corrcoef

from fgaug.analysis.report.parts import Table, Text
from fgaug.errors import DataError
from fgaug.study.tune.policy import Arm, CellProgress

CLONE = Path(__file__).parent.parent
PAGE = (CLONE / "docs" / "contributing.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE))


def shown(title: str, *modules: str) -> Any:
    """Return what an example's code defines, run with the names of the given modules."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", EXAMPLES[title], re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"Mapping": Mapping, "Sequence": Sequence, "math": math, "np": np}
    names |= {"statistics": statistics, "Path": Path}
    for module in modules:
        names |= vars(importlib.import_module(module))
    (defined,) = ast.parse(code).body
    assert isinstance(defined, ast.FunctionDef | ast.ClassDef)
    exec(compile(f"from __future__ import annotations\n{code}", title, "exec"), names)
    return names[defined.name]


def test_five_things_are_walked_through() -> None:
    named = ["A metric", "A scheduler", "A generator kind", "A report chapter", "A preset"]
    assert list(EXAMPLES) == named


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_names_at_most_three_files_and_what_is_in_them(title: str) -> None:
    steps = re.findall(r"^\d\. `([^`]+)`( \(new\))?: (.*)$", EXAMPLES[title], re.MULTILINE)
    assert 1 <= len(steps) <= 3
    for file, new, what in steps:
        path = CLONE / file
        assert path.exists() != bool(new), file
        if not new and path.suffix == ".py":
            source = path.read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", what):
                assert re.search(rf"\b{name}\b", source), f"{file} has no {name}"
    assert re.search(r"`tests/test_\w+\.py`", EXAMPLES[title]), "no test would notice"


@pytest.mark.parametrize("labels", [2, 4])
def test_the_metric(labels: int) -> None:
    mcc = shown("A metric")
    rng = np.random.default_rng(3)
    truth = rng.integers(0, labels, 60)
    predicted = np.where(rng.random(60) < 0.6, truth, rng.integers(0, labels, 60))
    assert mcc(truth, predicted) == pytest.approx(matthews_corrcoef(truth, predicted))
    assert math.isnan(mcc(np.zeros(3, int), np.zeros(3, int)))


def test_the_scheduler() -> None:
    arms = [
        Arm(arm_id=name, cell_ids=(f"{name}1", f"{name}2"), stoppable=name != "base")
        for name in ("base", "good", "fair", "poor")
    ]
    policy = shown("A scheduler", "fgaug.study.tune.policy")(arms, 0.5)
    first = policy.decide({})
    assert {leg.cell_id: leg.until for leg in first.legs} == {
        **{f"{name}{seed}": 0.5 for name in ("good", "fair", "poor") for seed in (1, 2)},
        **{"base1": 1.0, "base2": 1.0},
    }
    assert (first.stopped, first.complete) == ({}, False)
    values = {"good": 0.9, "fair": 0.8, "poor": 0.7}
    seen = {
        f"{name}{seed}": CellProgress(status="paused", curve=((0.5, value),))
        for name, value in values.items()
        for seed in (1, 2)
    }
    then = policy.decide(seen)
    assert dict(then.stopped) == {"poor": 0}
    assert {leg.cell_id for leg in then.legs if leg.until == 1} == {
        *("good1", "good2", "fair1", "fair2", "base1", "base2")
    }
    done = {leg.cell_id: CellProgress(status="ok", curve=((1.0, 0.9),)) for leg in then.legs}
    assert policy.decide({**seen, **done}).complete


def test_the_generator() -> None:
    generator = shown(
        "A generator kind", "gan_worker.generators.latents", "gan_worker.generators.stub"
    )(8, 3)
    images = generator.generate([4, 9, 4], 0.7)
    assert images.dtype == np.uint8
    assert images.shape == (3, 8, 8, 3)
    assert np.array_equal(images[0], images[2])
    assert np.array_equal(images[1:2], generator.generate([9], 0.7))


def test_the_chapter() -> None:
    parts = shown(
        "A report chapter", "fgaug.analysis.report.material", "fgaug.analysis.report.parts"
    )
    material = made_material()
    (table,) = parts(material)
    assert isinstance(table, Table)
    assert len(table.frame) == material.rows["arm_id"].nunique()
    assert table.text.notna().all(axis=None)
    (words,) = parts(replace(material, rows=material.rows.iloc[:0]))
    assert isinstance(words, Text)


def test_the_preset(tmp_path: Path) -> None:
    udiat = shown("A preset", "fgaug.data.presets")
    with pytest.raises(DataError, match=r"holds no udiat\.csv"):
        udiat(tmp_path)
    (tmp_path / "original").mkdir()
    rows = []
    for number in range(4):
        pixels = np.full((6, 6), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "original" / f"{number}.png")
        label = ("benign", "malignant")[number % 2]
        rows.append({"image": f"{number}.png", "type": label, "patient": f"p{number // 2}"})
    pd.DataFrame(rows).to_csv(tmp_path / "udiat.csv", index=False)
    found = udiat(tmp_path)
    assert found.table["label"].tolist() == ["benign", "malignant"] * 2
    assert found.table["group"].nunique() == 2
