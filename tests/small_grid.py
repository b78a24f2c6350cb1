"""A grid that trains in seconds: simulated heads of 32 px, a tiny network, a handful of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fgaug.data.prepare import prepare


def phantom_dataset(root: Path, images: int = 60, **rule: Any) -> Path:
    """Prepare a phantom dataset of 32 px below `root` and return its folder."""
    folder = root / "dataset"
    prepare(out=folder, size=32, preset="phantom", phantom={"images": images}, **rule)
    return folder


def grid(root: Path, **changes: Any) -> dict[str, Any]:
    """Return a grid over a dataset below `root`; `changes` replace top-level keys."""
    value: dict[str, Any] = {
        "name": "small",
        "dataset": str(root / "dataset"),
        "bank": str(root / "bank"),
        "generator": {"kind": "phantom"},
        "pool": 100,
        "axes": {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]},
        "recipe": {
            "model": "mobilenetv3_small_050",
            "pretrained": False,
            "batch_size": 16,
            "augmentation": "fastai",
        },
        "budget": {"unit": "steps", "max": 4, "evaluations": 2},
    }
    return {**value, **changes}


def write_grid(root: Path, **changes: Any) -> Path:
    """Write a grid file below `root` and return its path."""
    path = root / "grid.yaml"
    path.write_text(yaml.safe_dump(grid(root, **changes)), encoding="utf-8")
    return path
