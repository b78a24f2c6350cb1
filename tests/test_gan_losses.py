"""Losses and regularisers of GAN training, against finite differences in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.discriminator import DiscriminatorConfig, DiscriminatorNetwork
from gan_worker.training.augment import AugmentPipe
from gan_worker.training.losses import (
    discriminator_losses,
    generator_loss,
    path_lengths,
    r1_penalty,
)

CRITIC = DiscriminatorConfig(
    resolution=8, img_channels=1, labels=0, widths=(3, 2), group_size=2, conv_clamp=None
)
MAKER = GeneratorConfig(
    resolution=8, img_channels=1, labels=0, z_dim=3, w_dim=3, widths=(3, 2), mapping_layers=1,
    mapping_width=3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _in_float64() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def critic() -> DiscriminatorNetwork:
    torch.manual_seed(0)
    return DiscriminatorNetwork(CRITIC)


def maker() -> GeneratorNetwork:
    torch.manual_seed(1)
    network = GeneratorNetwork(MAKER)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return network


def agrees(network: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
    """Compare the gradient by every weight with differences of the loss."""
    value = loss(network)
    gradients = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
    checked = 0
    for (name, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
        flat = parameter.data.view(-1)
        for place in range(0, flat.numel(), max(1, flat.numel() // 3)):
            kept, step = float(flat[place]), 1e-6 * max(1.0, abs(float(flat[place])))
            flat[place] = kept + step
            above = float(loss(network).detach())
            flat[place] = kept - step
            below = float(loss(network).detach())
            flat[place] = kept
            expected = (above - below) / (2 * step)
            ours = 0.0 if gradient is None else float(gradient.reshape(-1)[place])
            assert ours == pytest.approx(expected, rel=2e-5, abs=1e-8), name
            checked += 1
    assert checked > 20


def test_losses_are_softplus_of_the_logits() -> None:
    logits = torch.tensor([[0.0], [2.0]])
    assert float(generator_loss(logits)) == pytest.approx(
        (math.log(2) + math.log1p(math.exp(-2))) / 2
    )
    fake, real = discriminator_losses(logits, -logits)
    assert float(fake) == pytest.approx((math.log(2) + math.log1p(math.exp(2))) / 2)
    assert float(real) == pytest.approx(float(fake))


def test_the_generator_loss_has_the_gradient_of_its_differences() -> None:
    judge, z = critic(), torch.randn(2, 3)
    noise = [torch.randn(2, 1, size, size) for size in MAKER.noise_sizes]
    agrees(maker(), lambda network: generator_loss(judge(network(z, noise=noise))))


def test_the_discriminator_loss_has_the_gradient_of_its_differences() -> None:
    fake, real = torch.randn(2, 2, 1, 8, 8)
    agrees(critic(), lambda d: sum(discriminator_losses(d(fake), d(real))))


@pytest.mark.parametrize("augmented", [False, True])
def test_r1_has_the_gradient_of_its_differences(augmented: bool) -> None:
    images = torch.randn(2, 1, 8, 8)
    pipe = AugmentPipe("bg", resolution=8, img_channels=1)
    pipe.p.fill_(1)
    drawn = pipe.draw(2, torch.Generator().manual_seed(0))

    def loss(network: nn.Module) -> Tensor:
        def seen(x: Tensor) -> Tensor:
            return network(pipe.transformed(x, drawn) if augmented else x)

        return r1_penalty(seen, images, gamma=3.0).sum()

    agrees(critic(), loss)


def test_r1_is_half_gamma_times_the_squared_gradient() -> None:
    weights = torch.randn(1, 8, 8)
    penalty = r1_penalty(lambda x: (x * weights).sum(dim=(1, 2, 3))[:, None], weights[None], 4.0)
    assert float(penalty) == pytest.approx(2 * float(weights.square().sum()))


def test_path_lengths_have_the_gradient_of_their_differences() -> None:
    z, y = torch.randn(2, 3), torch.randn(2, 1, 8, 8)
    noise = [torch.randn(2, 1, size, size) for size in MAKER.noise_sizes]

    def loss(network: nn.Module) -> Tensor:
        ws = network.mapping(z)
        return (path_lengths(network.synthesis(ws, noise), ws, y) - 0.3).square().mean()

    agrees(maker(), loss)


def test_the_path_length_of_a_linear_map_is_that_of_its_transpose() -> None:
    matrix, y = torch.randn(2 * 3, 64), torch.randn(1, 1, 8, 8)
    ws = torch.randn(1, 2, 3, requires_grad=True)
    images = (ws.flatten(1) @ matrix).view(1, 1, 8, 8)
    back = (matrix @ (y.flatten() / 8)).view(2, 3)
    expected = back.square().sum(dim=1).mean().sqrt()
    assert float(path_lengths(images, ws, y)) == pytest.approx(float(expected))
