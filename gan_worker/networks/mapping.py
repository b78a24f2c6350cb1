"""The mapping network from z and class to w, and truncation."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from gan_worker.networks.config import GeneratorConfig
from gan_worker.networks.layers import FullyConnected, second_moment_normalised


class MappingNetwork(nn.Module):
    """Maps z and a one-hot class to the w vectors of all layers."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        if config.labels:
            self.embed = FullyConnected(config.labels, config.embed_width)
        for index, (inputs, outputs) in enumerate(config.mapping_sizes):
            layer = FullyConnected(
                inputs,
                outputs,
                activation=config.mapping_activation,
                lr_multiplier=config.mapping_lr_multiplier,
            )
            self.add_module(f"fc{index}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(
        self,
        z: Tensor,
        one_hot: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Tensor:
        """Return w as [N, num_ws, w_dim], truncated towards its mean by `psi`.

        Args:
            z: float [N, z_dim].
            one_hot: float [N, labels]; None for a network without labels.
            psi: 1 leaves w unchanged, 0 gives its mean; any real number is valid.
            cutoff: number of leading vectors to truncate; None truncates all.
        """
        ws = self.untruncated(z, one_hot)[:, None, :].repeat(1, self.config.num_ws, 1)
        if psi == 1:
            return ws
        near = torch.lerp(self.w_avg, ws[:, :cutoff], psi)
        return near if cutoff is None else torch.cat([near, ws[:, cutoff:]], dim=1)

    def untruncated(self, z: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return one w per row of `z`; z and the embedded class are normalised separately."""
        parts = []
        if self.config.z_dim:
            parts.append(second_moment_normalised(z))
        if self.config.labels:
            parts.append(second_moment_normalised(self.embed(one_hot)))
        x = torch.cat(parts, dim=1)
        for index in range(self.config.mapping_layers):
            x = cast(Tensor, getattr(self, f"fc{index}")(x))
        return x
