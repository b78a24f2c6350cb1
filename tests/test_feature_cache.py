"""Features are computed once for a content and a network, and are those of the network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_grid import phantom_dataset

from fgaug.core import cache as node
from fgaug.core import cluster
from fgaug.data import Dataset, open_dataset
from fgaug.quality.features import cache
from fgaug.quality.features.cache import features_of, of_array, of_dataset
from fgaug.quality.features.networks import FeatureNetwork


class Counting(torch.nn.Module):
    """Means of 8 x 8 px, times a factor; counts the images it is asked about."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor, self.asked = factor, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        means = torch.nn.functional.avg_pool2d(images.float(), 8)[:, 0].flatten(1)
        return means * self.factor


def network(module: Counting, name: str, side: int = 8) -> FeatureNetwork:
    sha256 = f"{module.factor:064.0f}"
    return FeatureNetwork(module, name=name, sha256=sha256, side=side, words="means", device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(phantom_dataset(tmp_path_factory.mktemp("features"), images=40))


def noise(count: int, rng: int = 0) -> np.ndarray:
    return np.random.default_rng(rng).integers(0, 256, (count, 16, 16, 1), np.uint8)


class TestOnce:
    def test_those_of_the_network_read_only(self, data: Dataset) -> None:
        module, rows = Counting(), np.array([5, 3, 11])
        told: list[int] = []
        found = features_of(of_dataset(data, rows), network(module, "once"), told.append)
        expected = network(Counting(), "once").features(np.asarray(data.pixels()[rows]))
        np.testing.assert_array_equal(found, expected)
        assert (found.dtype, found.shape, told[-1]) == (np.float32, (3, 16), 3)
        assert isinstance(found, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1

    def test_not_computed_again(self, data: Dataset, tmp_path: Path) -> None:
        module, rows = Counting(), np.arange(20)
        first = features_of(of_dataset(data, rows), network(module, "again"))
        told: list[int] = []
        again = features_of(of_dataset(data, rows), network(module, "again"), told.append)
        shutil.copytree(data.root, tmp_path / "elsewhere")
        moved = open_dataset(tmp_path / "elsewhere")
        features_of(of_dataset(moved, rows), network(module, "again"))
        features_of(of_dataset(data.with_split(7), rows), network(module, "again"))
        assert module.asked == 20
        assert told == [20]
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize(
        "change",
        [
            lambda rows, name, module: (rows[::-1], name, module),
            lambda rows, name, module: (rows[:-1], name, module),
            lambda rows, name, module: (rows, f"{name}!", module),
            lambda rows, name, module: (rows, name, Counting(2)),
        ],
    )
    def test_computed_for_what_differs(
        self,
        data: Dataset,
        change: Callable[..., tuple[np.ndarray, str, Counting]],
        request: pytest.FixtureRequest,
    ) -> None:
        rows, name, module = np.arange(7), request.node.name, Counting()
        features_of(of_dataset(data, rows), network(module, name))
        rows, name, other = change(rows, name, Counting())
        found = features_of(of_dataset(data, rows), network(other, name))
        assert (module.asked, other.asked) == (7, len(rows))
        expected = network(other, name).features(np.asarray(data.pixels()[rows]))
        np.testing.assert_array_equal(found, expected)

    def test_the_side_that_images_are_resized_to_counts(self) -> None:
        images, module = of_array(noise(3)), Counting()
        for side in (8, 16, 8):
            features_of(images, network(module, "side", side))
        assert module.asked == 6

    def test_arrays_by_their_pixels(self) -> None:
        module = Counting()
        for rng in (1, 2, 1):
            features_of(of_array(noise(4, rng)), network(module, "array"))
        assert module.asked == 8

    def test_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache, "_BLOCK", 4)
        images, told = noise(10, rng=3), list[int]()
        found = features_of(of_array(images), network(Counting(), "blocks"), told.append)
        np.testing.assert_array_equal(found, network(Counting(), "blocks").features(images))
        assert told == [4, 8, 10, 10]

    def test_evicted_with_the_pixels(self) -> None:
        module = Counting()
        features_of(of_array(noise(2, rng=4)), network(module, "evicted"))
        node.evict(days=-1)
        features_of(of_array(noise(2, rng=4)), network(module, "evicted"))
        assert module.asked == 4


@pytest.mark.slow
@pytest.mark.ray
def test_devices_share_the_work(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of a cluster read the pixels themselves, and give what one process gives."""
    from fgaug.quality.features.networks import load_network

    monkeypatch.setattr(cache, "_BLOCK", 5)
    images = of_dataset(data, np.arange(8))
    with cluster.started(cpus=1, gpus=0, dashboard=False):
        found = cache._shared(images, "lite0", "cpu", lambda count: None)
    expected = load_network("lite0").features(data.pixels()[:8])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
