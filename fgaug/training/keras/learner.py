"""The Keras side of the border: a classifier in another process, and what is asked of it.

backend -> [learner] -> process, training
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fgaug.recipe import Budget, KerasRecipe, Recipe
from fgaug.training import memory
from fgaug.training.backend import Peaks, derived
from fgaug.training.images import Images
from fgaug.training.keras import known
from fgaug.training.keras.process import Process, Settings, process_for
from fgaug.training.keras.shared import rows_of
from fgaug.training.keras.training import KerasTraining


class KerasLearner:
    """A Keras classifier; see `backend.Learner`.

    The network is built when the first images say how large they are.
    """

    def __init__(
        self,
        recipe: Recipe,
        labels: tuple[str, ...],
        seed: int,
        device: str,
        gpu_share: float = 1.0,
    ) -> None:
        assert recipe.keras is not None
        self.recipe, self.labels, self.seed = recipe, labels, seed
        self.settings: KerasRecipe = recipe.keras
        self._weights = known.find(recipe)
        self.identity = self._weights.identity
        memory.reset_peak_rss()
        # this process's own threads are as many as the trial has cores
        threads = torch.get_num_threads()
        how = Settings(device=device.partition(":")[0], gpu_share=gpu_share, threads=threads)
        self._process: Process = process_for(how)
        self._network: int | None = None

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the answer of the network's process; see `Process.ask`."""
        return self._process.ask(command, network=self._network, **arguments)

    @property
    def device_name(self) -> str:
        return str(self._process.ask("device_name"))

    def open_for(self, size: int, channels: int) -> None:
        """Build the network for images of a size, once."""
        if self._network is not None:
            return
        path = self._weights.path
        self._network = self._process.ask(
            "open",
            recipe=self.recipe.model_dump(),
            weights=None if path is None else str(path.resolve()),
            labels=len(self.labels),
            size=size,
            channels=channels,
            seed=derived(self.seed, "weights"),
        )
        weakref.finalize(self, self._process.forget, self._network).atexit = False

    def sizes(self) -> dict[str, int]:
        """Return how many layers and parameters the network has, and how many of them learn."""
        return dict(self.ask("sizes"))

    def train(self, train: Images, valid: Images, budget: Budget, seed: int) -> KerasTraining:
        self.open_for(*train.sources[0].shape[2:])
        return KerasTraining(self, train, valid, budget, seed)

    def predict(self, images: Images) -> np.ndarray:
        rows = rows_of(images, np.arange(len(images)))
        found: np.ndarray = self.ask("predict", rows=rows, batch=2 * self.recipe.batch_size)
        return found

    def tensors(self) -> dict[str, np.ndarray]:
        return dict(self.ask("tensors"))

    def take(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Give the network weights that `tensors` returned; UserError where they do not fit."""
        self.ask("take", tensors=dict(tensors))

    def peaks(self) -> Peaks:
        there, gpu = self._process.ask("peaks")
        return Peaks(memory_bytes=memory.peak_rss() + there, gpu_bytes=gpu)

    def state(self) -> dict[str, Any]:
        return {}  # every draw is named by a seed and a step

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: there is no place in a stream."""

    def close(self) -> None:
        if self._network is not None:
            self._process.forget(self._network)
            self._network = None
