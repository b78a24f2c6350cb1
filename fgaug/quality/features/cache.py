"""Features of an image set, computed once per machine.

Cached beside the decoded pixels (`fgaug.core.pixels`) under a key of everything that determines
them: the images' content, the network's weights and its preprocessing. The device is not part of
the key: the last digits differ on a GPU, but no measure depends on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgaug.core import cluster, devices, pixels
from fgaug.data import Dataset, open_dataset

if TYPE_CHECKING:
    from fgaug.quality.features.networks import FeatureNetwork

VERSION = 1  # raised when the same images, weights and label give other features
_BLOCK = 1024  # images read at a time, and per task of a device
Done = Callable[[int], None]  # takes the number of images that have their features


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """N images, identified by their content."""

    digest: str  # of the pixels, in order
    count: int
    part: Callable[[int, int], np.ndarray]  # images of a range
    anywhere: bool = True  # whether other processes can read them by a pickled `part`


def features_of(
    images: ImageSet, network: FeatureNetwork, done: Done = lambda count: None
) -> NDArray[np.float32]:
    """Return the features of a set, float32 [N, D], memory-mapped and read-only.

    Args:
        images: identified by their content, wherever they are read from.
        network: see `load_network` in `fgaug.quality.features.networks`. With device `cuda`, all
            GPUs of the machine share the work; `cuda:1` or `cpu` is one device.
        done: called with the number of images that have features; once if they are cached.
    """

    def compute() -> NDArray[np.float32]:
        whole_machine = network.device.type == "cuda" and network.device.index is None
        asked = network.asked if whole_machine and images.anywhere else None
        if asked and devices.visible_gpus() > 1:
            return _shared(images, asked, "cuda", done)
        return _here(images, network, done)

    told = f"{VERSION} {images.digest} {network.sha256} {network.label}"
    key = f"features-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
    found = pixels.cached_memmap(key, images.count, (), compute, np.float32)
    done(images.count)
    return found


def of_dataset(dataset: Dataset, rows: np.ndarray) -> ImageSet:
    """Return images of a dataset by their rows in its manifest."""
    listed = "\n".join(dataset.manifest["sha256"].iloc[rows])
    told = hashlib.sha256(f"{dataset.spec.digest}\n{listed}".encode())
    rows = np.asarray(rows, np.int64)
    part = _Rows(dataset.uri, dataset.spec.digest, rows)
    return ImageSet(digest=told.hexdigest(), count=len(rows), part=part)


def of_array(images: np.ndarray) -> ImageSet:
    """Return images in memory, uint8 [N, H, W, C]."""
    told = hashlib.sha256(f"{images.shape}\n".encode())
    told.update(np.ascontiguousarray(images).data)
    return ImageSet(
        digest=told.hexdigest(),
        count=len(images),
        part=lambda start, stop: images[start:stop],
        anywhere=False,
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Reads rows of a dataset, in this process or another."""

    uri: str
    digest: str
    rows: np.ndarray

    def __call__(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(_pixels(self.uri, self.digest)[self.rows[start:stop]])


@lru_cache(maxsize=4)
def _pixels(uri: str, digest: str) -> np.ndarray:
    """Return a dataset's memory-mapped pixels; a re-prepared folder is opened again."""
    dataset = open_dataset(uri)
    assert dataset.spec.digest == digest, "the dataset was replaced meanwhile"
    return dataset.pixels()


def _here(images: ImageSet, network: FeatureNetwork, done: Done) -> NDArray[np.float32]:
    found = []
    for start in range(0, images.count, _BLOCK):
        part = images.part(start, min(start + _BLOCK, images.count))
        found.append(network.features(part))
        done(start + len(part))
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class _Task:
    """A block of a set for one device, which reads the pixels itself."""

    images: ImageSet
    start: int
    stop: int
    asked: str
    device: str

    def compute(self) -> NDArray[np.float32]:
        part = self.images.part(self.start, self.stop)
        return _network(self.asked, self.device).features(part)


@lru_cache(maxsize=1)
def _network(asked: str, device: str) -> FeatureNetwork:
    """Return a network, loaded once per process."""
    from fgaug.quality.features.networks import load_network

    return load_network(asked, device)


def _shared(images: ImageSet, asked: str, device: str, done: Done) -> NDArray[np.float32]:
    """Return features computed by all devices of the cluster, one block per task."""
    tasks = [
        _Task(images, start, min(start + _BLOCK, images.count), asked, device)
        for start in range(0, images.count, _BLOCK)
    ]
    with cluster.started(dashboard=False):
        found = cluster.map_tasks(_Task.compute, tasks, gpus=1 if device == "cuda" else 0)
    done(images.count)
    return np.concatenate(found)
