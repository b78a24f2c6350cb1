"""A dry run of every grid that ships and states no image counts, on simulated images.

The images that the grids are for are not here. What a dry run reads of them is replaced: the
dataset, the networks (by generators that need no file) and weight files that users bring. Axes,
controls, filters, rounds, schedulers and budgets are those of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fgaug.data.prepare import prepare
from fgaug.grid.load import load_space

SHIPPED = sorted((Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))
GRIDS = [path for path in SHIPPED if load_space(path).counts is None]  # others: as they ship
SIDE = 96  # pixels; InceptionResNetV2 takes 75 or more
PER_LABEL = 24  # images, each of a patient of its own


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets made so far, by name, and their common folder, by an empty name."""
    return {"": tmp_path_factory.mktemp("shipped")}


def made(folders: dict[str, Path], labels: tuple[str, ...], *, folded: bool) -> Path:
    """Return a prepared dataset with these labels, made at the first call."""
    name = "-".join([*labels, *(["folded"] if folded else [])])
    if name not in folders:
        root = folders[""] / name
        root.mkdir()
        rng = np.random.default_rng(1)
        lines = ["image,label,patient,fold"]
        for label in labels:
            for k in range(PER_LABEL):
                pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
                Image.fromarray(pixels).save(root / f"{label}{k}.png")
                lines.append(f"{label}{k}.png,{label},{label}{k},{k % 5 + 1}")
        (root / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
        split: dict[str, Any] = {"fold_col": "fold"} if folded else {"test": 0.25}
        prepare(
            out=root / "dataset",
            size=SIDE,
            csv=root / "labels.csv",
            images=str(root),
            group_col="patient",
            **split,
        )
        folders[name] = root / "dataset"
    return folders[name]


def labels_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of a grid's networks; without any, those of breast ultrasound."""
    generators = [raw.get("generator", {})]
    generators += [each["generator"] for each in raw["axes"].get("snapshot", [])]
    named = {label for each in generators for label in each.get("snapshots", {})}
    return tuple(sorted(named)) or ("benign", "malignant")


def transplanted(path: Path, dataset: Path, root: Path) -> Path:
    """Write a grid for this machine, changed as little as its dry run allows; return its path."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["dataset"] = str(dataset)
    for number, holder in enumerate([raw, *raw["axes"].get("snapshot", [])]):
        if "generator" in holder:
            if "snapshots" in holder["generator"]:
                holder["generator"] = {"kind": "stub"}
            holder["bank"] = str(root / f"bank{number}")
    recipe = raw["recipe"]
    if recipe.pop("weights", None) is not None or recipe.get("model") != "tf_efficientnet_lite0":
        recipe["pretrained"] = False  # only the weights of this model ship
    target = root / path.name
    target.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return target


def marked(path: Path) -> Any:
    """Return a parameter; building InceptionResNetV2 in Keras takes ten seconds and more."""
    keras = "backend: keras" in path.read_text(encoding="utf-8")
    return pytest.param(path, marks=[pytest.mark.slow] if keras else [], id=path.stem)


@pytest.mark.parametrize("path", [marked(path) for path in GRIDS])
def test_a_shipped_grid_has_a_plan(
    fgaug: Any,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fgaug.study.resources.visible_gpus", lambda: 4)
    monkeypatch.setattr("fgaug.study.resources.cores", lambda: 64)
    monkeypatch.setattr("fgaug.study.estimate.trial_seconds", lambda *_: 60.0)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    dataset = made(folders, labels_of(raw), folded="fold" in raw["axes"])
    grid = transplanted(path, dataset, tmp_path)
    code, out, err = fgaug("search", grid, "--dry-run")
    assert code == 0, err
    assert f"grid {raw['name']}: " in out
    assert "finished: 0, to train:" in out
    for mode in raw["axes"]["mode"]:
        assert f"\n  {mode} " in out
    if "cells" in raw:
        assert f"grid {raw['name']}: {raw['cells']} cells" in out
    assert not (tmp_path / "runs").exists()
