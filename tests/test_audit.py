"""Audit: planted leaks are found, a good set passes, and `prepare` refuses what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgaug.data.audit import audit, suspicions
from fgaug.data.prepare import prepare
from fgaug.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def good() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": list("abcdefgh"),
            "label": ["dbp", "trv"] * 4,
            "group": [1, 1, 2, 2, 3, 3, 4, 4],
            "split": ["train"] * 4 + ["valid"] * 2 + ["test"] * 2,
            "gan": False,
            "sha256": [f"{number:064x}" for number in range(8)],
        }
    )


def test_a_good_set_passes(good: pd.DataFrame) -> None:
    assert audit(good) == []
    assert audit(good[good["split"] != "test"]) == []


def test_a_group_on_two_sides(good: pd.DataFrame) -> None:
    good.loc[4, "group"] = 1
    assert audit(good) == [
        "1 group in more than one split: 1. Omit the split column to have the split drawn by group"
    ]


def test_copies_across_splits_and_labels(good: pd.DataFrame) -> None:
    good.loc[4, "sha256"] = good.loc[0, "sha256"]
    (problem,) = audit(good)
    assert problem.startswith("1 exact duplicate is in more than one split: a = e.")
    good.loc[3, "sha256"] = good.loc[0, "sha256"]
    across, labels = audit(good)
    assert "in more than one split: a = d = e" in across
    assert "under more than one label: a = d = e" in labels


def test_copies_in_one_split_and_label_are_no_leak(good: pd.DataFrame) -> None:
    good.loc[2, "sha256"] = good.loc[0, "sha256"]
    assert audit(good) == []


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_missing_label(good: pd.DataFrame, split: str) -> None:
    good.loc[good["split"] == split, "label"] = "dbp"
    assert audit(good) == [f"no image of label trv in the {split} set"]


def picture(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 200, size=(48, 48)).astype(np.uint8)


def given_set(tmp_path: Path, extra: dict[str, np.ndarray]) -> dict[str, object]:
    """Return the arguments of `prepare` for eight images of eight patients, some replaced."""
    (tmp_path / "i").mkdir()
    for number in range(8):
        name = f"p{number}"
        Image.fromarray(extra.get(name, picture(number))).save(tmp_path / "i" / f"{name}.png")
    table = pd.DataFrame(
        {
            "image": [f"p{number}" for number in range(8)],
            "label": ["dbp", "trv"] * 4,
            "patient": range(8),
            "split": ["train"] * 4 + ["valid"] * 4,
            "gan": [1, 0] * 4,
        }
    )
    table.to_csv(tmp_path / "L.csv", index=False)
    columns = {"group_col": "patient", "split_col": "split"}
    return {"csv": tmp_path / "L.csv", "images": tmp_path / "i", "size": 32, **columns}


def test_prepare_refuses_a_copy_across_splits(tmp_path: Path) -> None:
    arguments = given_set(tmp_path, {"p4": picture(0)})
    with pytest.raises(DataError, match=r"1 exact duplicate is in more than one split: p0 = p4"):
        prepare(out=tmp_path / "d", **arguments)
    assert not (tmp_path / "d").exists()


def test_near_copies_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    brighter = (picture(1) * 1.2 + 5).astype(np.uint8)
    small = np.asarray(Image.fromarray(brighter).resize((40, 44), Image.Resampling.BICUBIC))
    arguments = given_set(tmp_path, {"p6": small})
    dataset = prepare(out=tmp_path / "d", **arguments)
    assert audit(dataset) == []
    assert "1 pair of near-duplicate images in different splits: p1 ~ p6 (valid)" in caplog.text


def test_flags_outside_training_are_a_warning(tmp_path: Path) -> None:
    arguments = given_set(tmp_path, {})
    dataset = prepare(out=tmp_path / "d", gan_col="gan", **arguments)
    (doubt,) = suspicions(dataset)
    assert doubt.startswith("2 images with the gan flag outside the training set: p4, p6")


def test_flat_images_are_not_near_copies(tmp_path: Path) -> None:
    flat = {"p0": np.full((48, 48), 90, np.uint8), "p5": np.full((48, 48), 130, np.uint8)}
    arguments = given_set(tmp_path, flat)
    assert suspicions(prepare(out=tmp_path / "d", **arguments)) == []
