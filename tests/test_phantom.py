"""Phantom: an image depends on its seed alone; labels differ; sets have patients and machines."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from fgaug.data import draw_image, make_phantom
from fgaug.data.audit import audit
from fgaug.data.phantom import DEFAULTS, PLANES, PhantomParameters
from fgaug.data.prepare import prepare
from fgaug.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def stack(label: str, seeds: range, **options: float) -> np.ndarray:
    images = [draw_image(label, seed, size=32, **options) for seed in seeds]
    return np.stack(images).astype(float)


def test_an_image_depends_on_its_seed_alone() -> None:
    first = draw_image("dbp", 5, size=32)
    np.random.seed(1)
    draw_image("trv", 6, size=64)
    assert (draw_image("dbp", 5, size=32) == first).all()
    assert not (draw_image("dbp", 6, size=32) == first).all()
    assert first.dtype == np.uint8


@pytest.mark.parametrize("size", [8, 33, 128])
def test_sizes(size: int) -> None:
    image = draw_image("trv", 2**32 - 1, size=size)
    assert image.shape == (size, size, 1)
    assert image.std() > 5


def test_labels_differ_where_the_structures_are() -> None:
    dbp, trv = stack("dbp", range(200)).mean(axis=0), stack("trv", range(200)).mean(axis=0)
    difference = np.abs(dbp - trv)[..., 0]
    assert difference[10:22, 8:24].mean() > 3 * difference[:4].mean()


def test_spread_scales_variety() -> None:
    full, half, none = (stack("dbp", range(60), spread=s).std(axis=0).mean() for s in (1, 0.5, 0))
    assert full > 1.02 * half > 1.02 * none > 0


def test_a_set_is_the_same_again() -> None:
    one, same, other = (
        make_phantom(30, 4, size=16),
        make_phantom(30, 4, size=16),
        make_phantom(30, 5),
    )
    assert (one.images == same.images).all()
    assert one.table.equals(same.table)
    assert not one.table.equals(other.table)


def test_patients_machines_and_label_noise() -> None:
    made = make_phantom(200, 0, size=8, label_noise=0.1, images_per_patient=3, machines=2)
    table = made.table
    assert made.images.shape == (200, 8, 8, 1)
    assert table["image_id"].is_unique
    assert set(table["label"]) == set(PLANES)
    assert (table["label"] != table["plane"]).sum() == 20
    assert (table.groupby("group")["machine"].nunique() == 1).all()
    assert table["machine"].nunique() == 2
    assert 2.3 < len(table) / table["group"].nunique() < 3.7


def test_images_of_a_patient_are_alike() -> None:
    made = make_phantom(300, 1, size=32, images_per_patient=6, machines=300)
    level = made.images.mean(axis=(1, 2, 3))
    within = made.table.assign(level=level).groupby("group")["level"].std().mean()
    assert within < 0.5 * level.std()


@pytest.mark.parametrize("wrong", [{"images": 0}, {"label_noise": 0.5}, {"machines": 0}])
def test_sets_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="A phantom needs"):
        make_phantom(**wrong)


def test_unknown_labels() -> None:
    with pytest.raises(DataError, match="Use one of dbp, trv"):
        draw_image("cat", 1, size=16)


def test_parameters_have_a_stable_form() -> None:
    assert list(DEFAULTS.as_dict())[:2] == ["version", "contrast_db"]
    assert DEFAULTS.as_dict() == PhantomParameters().as_dict()
    assert PhantomParameters(clutter=0).as_dict() != DEFAULTS.as_dict()
    clear = draw_image("dbp", 1, size=16, parameters=PhantomParameters(clutter=0))
    assert not (clear == draw_image("dbp", 1, size=16)).all()


def test_prepared_as_a_dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = {"images": 60, "seed": 3}
    with caplog.at_level(logging.WARNING, "fgaug"):
        dataset = prepare(out=tmp_path / "p", size=16, preset="phantom", phantom=arguments)
    assert caplog.text == ""
    assert audit(dataset) == []
    assert dataset.spec.strata == ("machine",)
    assert dataset.spec.labels == PLANES
    assert (dataset.pixels() == make_phantom(60, 3, size=16).images).all()
    assert dataset.spec.source["parameters"] == DEFAULTS.as_dict()
