"""The losses of both networks, and their two regularisers.

Non-saturating loss (Goodfellow et al. 2014, section 3), R1 (Mescheder et al. 2018,
arXiv:1801.04406, equation 9) and path lengths (Karras et al. 2020, arXiv:1912.04958, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor], Tensor]  # images [N, C, r, r] -> logits [N, 1]


def generator_loss(logits: Tensor) -> Tensor:
    """Return the mean of softplus(-D(G(z))) from logits [N, 1]."""
    return F.softplus(-logits).mean()


def discriminator_losses(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of softplus(D(G(z))) and softplus(-D(x)) from logits [N, 1]."""
    return F.softplus(fake).mean(), F.softplus(-real).mean()


def r1_penalty(critic: Critic, images: Tensor, gamma: float) -> Tensor:
    """Return gamma / 2 times the squared gradient norm of the critic at each real image, [N].

    Differentiable in the critic's weights.

    Args:
        critic: the discriminator, including augmentation.
        images: [N, C, r, r], detached.
        gamma: weight.
    """
    images = images.detach().requires_grad_(True)
    logits = critic(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)) * (gamma / 2)


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Return the path length |J^T y| of each image, [N]: its change per step in w.

    Uses the root mean square over the layers' vectors. Differentiable in the weights.

    Args:
        images: [N, C, r, r], computed from `ws`.
        ws: [N, num_ws, w_dim], with a gradient.
        noise: standard normal numbers in the shape of `images`.
    """
    scaled = noise / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * scaled).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
