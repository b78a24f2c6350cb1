"""The PyTorch learner: a classifier, its augmentation and its random streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fgaug.core.seeding import Stream, stream_seed
from fgaug.grid.recipe import Budget, Recipe
from fgaug.training import memory
from fgaug.training.gpu_share import cap_memory
from fgaug.training.images import Images
from fgaug.training.learner import PeakMemory
from fgaug.training.pytorch import augmentation, models
from fgaug.training.pytorch.fine_tuning import FineTuning, predict
from fgaug.training.weights import find


class TorchLearner:
    """A PyTorch classifier; see `learner.Learner`.

    Initial weights and dropout use torch's global generator, which the learner seeds.
    """

    def __init__(
        self,
        recipe: Recipe,
        labels: tuple[str, ...],
        seed: int,
        device: str,
        gpu_share: float = 1.0,
    ) -> None:
        self.recipe, self.labels, self.device = recipe, labels, torch.device(device)
        self.gpu_share = gpu_share
        cap_memory(gpu_share, self.device)  # before anything is allocated on the device
        memory.reset_peaks(device)
        torch.manual_seed(stream_seed(seed, Stream.WEIGHTS))
        weights = find(recipe)
        self.identity = weights.identity
        self.model = models.build(recipe, weights, len(labels)).to(self.device)
        self.augment = augmentation.build(
            recipe, stream_seed(seed, Stream.AUGMENTATION), self.device
        )

    @property
    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu x{torch.get_num_threads()}"

    def train(self, train: Images, valid: Images, budget: Budget, seed: int) -> FineTuning:
        return FineTuning(
            self.model,
            train,
            valid,
            self.labels,
            recipe=self.recipe,
            budget=budget,
            augment=self.augment,
            seed=seed,
            device=self.device,
            gpu_share=self.gpu_share,
        )

    def predict(self, images: Images) -> np.ndarray:
        return predict(self.model, images, 2 * self.recipe.batch_size, self.device)

    def weights(self) -> dict[str, np.ndarray]:
        return {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict({n: torch.from_numpy(v) for n, v in weights.items()})

    def peaks(self) -> PeakMemory:
        return memory.peaks(self.device)

    def state(self) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "augmentation": self.augment.state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if on_gpu else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.augment.restore(state["augmentation"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"].cpu())

    def close(self) -> None:
        """Do nothing: tensors are freed with their last reference."""
