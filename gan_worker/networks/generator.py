"""The complete generator: mapping and synthesis networks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.mapping import MappingNetwork
from gan_worker.networks.synthesis import Noise, SynthesisNetwork


class GeneratorNetwork(nn.Module):
    """A StyleGAN2 generator with the tensor names of the official PyTorch files."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config)
        self.mapping = MappingNetwork(config)

    @classmethod
    def skeleton(cls, config: GeneratorConfig) -> GeneratorNetwork:
        """Return the network with names and shapes on the meta device."""
        with torch.device("meta"):
            return cls(config)

    @classmethod
    def from_tensors(cls, config: GeneratorConfig, tensors: dict[str, Tensor]) -> GeneratorNetwork:
        """Return a network for sampling that uses `tensors` without copying, in eval mode."""
        network = cls.skeleton(config)
        network.load_state_dict(tensors, assign=True)
        return network.eval().requires_grad_(False)

    def forward(
        self,
        z: Tensor,
        one_hot: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: Noise = "random",
    ) -> Tensor:
        """Return images [N, channels, r, r], roughly in [-1, 1] and not clipped."""
        ws = self.mapping(z, one_hot, psi=psi, cutoff=cutoff)
        return cast(Tensor, self.synthesis(ws, noise))
