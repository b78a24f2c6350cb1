"""StyleGAN2 building blocks: against images of the official program and against plain formulas."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gan_worker.files.snapshot import read_snapshot
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.filtering import blur_kernel, filtered
from gan_worker.networks.layers import activate, upsampled
from gan_worker.networks.synthesis import SynthesisBlock, SynthesisLayer, ToRgb
from gan_worker.networks.winograd import Winograd, pays

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
TOLERANCE = 2e-5  # the correct form is within 1e-5, every known mistake beyond 2e-3

TINY = GeneratorConfig(
    resolution=16,
    img_channels=3,
    labels=0,
    z_dim=6,
    w_dim=8,
    widths=(6, 5, 4),
    mapping_layers=2,
    mapping_width=7,
)


def network_of(name: str) -> GeneratorNetwork:
    snapshot = read_snapshot(GOLDENS / f"{name}.pkl")
    return GeneratorNetwork.from_tensors(snapshot.config, snapshot.tensors)


def z_of(network: GeneratorNetwork, *seeds: int) -> torch.Tensor:
    draws = [np.random.RandomState(seed).randn(network.config.z_dim) for seed in seeds]
    return torch.from_numpy(np.stack(draws)).float()


@pytest.mark.parametrize("name", ["tiny", "a", "c", "e_resnet"])
def test_w_vectors_mixes_and_blocks_match_the_official_program(name: str) -> None:
    network = network_of(name)
    labels = network.config.labels
    one_hot = torch.eye(labels)[:1] if labels else None
    outputs = {}
    for block in network.synthesis.blocks():
        block.register_forward_hook(
            lambda module, _, result: outputs.__setitem__(
                module.conv1.resolution,
                [None if part is None else part.clone() for part in result],
            )
        )
    compared = set()
    with np.load(GOLDENS / f"{name}.npz") as goldens, torch.no_grad():

        def ws(seed: int, psi: float, cutoff: int | None = None) -> torch.Tensor:
            return network.mapping(z_of(network, seed), one_hot, psi=psi, cutoff=cutoff)

        for key in goldens.files:
            if key == "w_psi1_class0":
                ours = torch.cat([ws(int(seed), 1)[:, 0] for seed in goldens["seeds"]])
            elif key.startswith("ws_seed1_psi0.5_cutoff3"):
                ours = ws(1, 0.5, 3)[0]
            elif matched := re.fullmatch(r"mix_0_1_from(\d+)", key):
                start = int(matched[1])
                mixed = torch.cat([ws(0, 0.7)[:, :start], ws(1, 0.7)[:, start:]], dim=1)
                ours = network.synthesis(mixed, "const")[0]
            elif matched := re.fullmatch(r"inter_(x|img)_b(\d+)", key):
                network.synthesis(ws(0, 0.7), "const")
                ours = outputs[int(matched[2])][matched[1] == "img"][0]
            else:
                continue
            np.testing.assert_allclose(ours.numpy(), goldens[key], rtol=0, atol=TOLERANCE)
            compared.add(key.split("_")[0])
    assert compared >= {"w", "ws", "mix"}


@pytest.mark.parametrize(("clamp", "gain"), [(None, 1.0), (0.5, 1.0), (0.5, 0.5**0.5)])
@pytest.mark.parametrize("up", [False, True])
def test_a_layer_equals_modulating_the_weights_of_each_image(
    up: bool, clamp: float | None, gain: float
) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, conv_clamp=clamp)
    layer = SynthesisLayer(6, 5, 8, up=up, config=config)
    with torch.no_grad():
        layer.noise_strength.fill_(0.3)
        layer.bias.normal_()
    x, w = torch.randn(3, 6, 4 if up else 8, 4 if up else 8), torch.randn(3, 8)
    noise = torch.randn(3, 1, 8, 8)
    expected = []
    for image, style, own_noise in zip(x, layer.affine(w), noise, strict=True):
        weight = layer.weight * style[None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            spread = torch.zeros(1, 6, 8, 8)
            spread[:, :, ::2, ::2] = image
            taps = torch.outer(*[torch.tensor([1.0, 3, 3, 1])] * 2) / 16
            smooth = F.conv2d(F.pad(spread, (3, 2, 3, 2)), taps.expand(6, 1, 4, 4), groups=6)
            y = F.conv2d(smooth, weight.flip((2, 3)))
        else:
            y = F.conv2d(image[None], weight, padding=1)
        y = y + own_noise * 0.3 + layer.bias[:, None, None]
        y = F.leaky_relu(y, 0.2) * 2**0.5 * gain
        expected.append(y if clamp is None else y.clamp(-clamp * gain, clamp * gain))
    with torch.no_grad():
        ours = layer(x, w, noise, gain)
    torch.testing.assert_close(ours, torch.cat(expected), rtol=0, atol=2e-5)
    torch.testing.assert_close(layer(x, w, noise, gain), ours, rtol=0, atol=1e-5)
    layer.prepare(torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, w, noise, gain), ours, rtol=0, atol=1e-5)


@pytest.mark.skipif(not pays(torch.empty(128, 128, 3, 3)), reason="torch without oneDNN")
@pytest.mark.parametrize(
    ("images", "inputs", "outputs", "side", "tiles_bytes"),
    [(1, 3, 5, 4, 2**23), (3, 128, 160, 8, 2**23), (2, 4, 6, 16, 3 * 64 * 2 * 8 * 4)],
)
def test_winograds_form_is_the_convolution(
    images: int,
    inputs: int,
    outputs: int,
    side: int,
    tiles_bytes: int,  # the last case takes 3, 3 and 2 of its 8 rows of tiles
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gan_worker.networks.winograd._TILES_BYTES", tiles_bytes)
    torch.manual_seed(0)
    x, style = torch.randn(images, inputs, side, side), torch.randn(images, inputs)
    weight = torch.randn(outputs, inputs, 3, 3)
    exact = F.conv2d((x * style[:, :, None, None]).double(), weight.double(), padding=1)
    for order in (torch.contiguous_format, torch.channels_last):
        ours = Winograd(weight)(x.contiguous(memory_format=order), style)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        off = (ours - exact).square().mean().sqrt() / exact.std()
        assert off < 1e-6  # a direct sum's is about as much


def test_wide_layers_alone_take_winograds_form() -> None:
    wide = SynthesisLayer(128, 128, 8, up=False, config=TINY)
    narrow = SynthesisLayer(64, 128, 8, up=False, config=TINY)
    up = SynthesisLayer(128, 128, 8, up=True, config=TINY)
    for layer in (wide, narrow, up):
        layer.prepare(torch.float32)
    assert (wide.prepared.winograd is not None) == pays(wide.weight)
    assert narrow.prepared.winograd is None
    assert up.prepared.winograd is None
    wide.prepare(torch.bfloat16)
    assert wide.prepared.winograd is None


@pytest.mark.parametrize("up", [False, True])
def test_bfloat16_rounds_nothing_but_convolutions(up: bool) -> None:
    """Noise, bias and activation of a layer stay in float32, as their sums would be rounded."""
    torch.manual_seed(0)
    layer = SynthesisLayer(16, 24, 8, up=up, config=TINY)
    layer.noise_strength.data.fill_(1.0)
    layer.bias.data.fill_(100.0)
    x, w = torch.randn(2, 16, 4 if up else 8, 4 if up else 8), torch.randn(2, 8)
    with torch.no_grad():
        exact = layer(x, w, layer.noise_const)
        layer.prepare(torch.bfloat16)
        rough = layer(x, w, layer.noise_const)
    assert rough.dtype == torch.float32
    off = (rough - exact).abs().max()
    assert 0 < off < 0.05  # bfloat16 near 100 has steps of 0.5


def test_a_batch_in_parts_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = GeneratorNetwork(TINY)
    sizes: list[tuple[int, int]] = []
    forward = SynthesisBlock.forward

    def counting(block: SynthesisBlock, x: object, image: object, ws: torch.Tensor, noise: list):
        sizes.append((block.conv1.resolution, len(ws)))
        return forward(block, x, image, ws, noise)

    monkeypatch.setattr(SynthesisBlock, "forward", counting)
    maps = [torch.randn(5, 1, size, size) for size in TINY.noise_sizes]
    for layer in network.modules():
        if isinstance(layer, SynthesisLayer):
            layer.noise_strength.data.fill_(0.2)
    with torch.no_grad():
        ws = network.mapping(torch.randn(5, 6))
        for noise in ("const", "none", maps):
            whole = network.synthesis(ws, noise)
            network.synthesis.b8.rows, network.synthesis.b16.rows = 3, 2
            sizes.clear()
            torch.testing.assert_close(network.synthesis(ws, noise), whole, rtol=0, atol=1e-5)
            assert sizes == [(4, 5), (8, 3), (16, 2), (16, 1), (8, 2), (16, 2)]
            network.synthesis.b8.rows = network.synthesis.b16.rows = 100


def test_rgb_is_clamped_too() -> None:
    torch.manual_seed(0)
    to_rgb = ToRgb(6, dataclasses.replace(TINY, conv_clamp=0.25))
    assert to_rgb(100 * torch.randn(2, 6, 4, 4), torch.randn(2, 8)).abs().max() == 0.25


def test_filters_equal_inserting_zeros_and_convolving() -> None:
    x = torch.randn(2, 3, 5, 5)
    taps = (torch.outer(*[torch.tensor([1.0, 3, 3, 1])] * 2) / 16).expand(3, 1, 4, 4)
    spread = torch.zeros(2, 3, 10, 10)
    spread[:, :, ::2, ::2] = x
    doubled = F.conv2d(F.pad(spread, (2, 1, 2, 1)), taps, groups=3)
    torch.testing.assert_close(upsampled(x), doubled)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1)), taps, groups=3)
    torch.testing.assert_close(filtered(x, blur_kernel(x[0]), padding=1), blurred)


@pytest.mark.parametrize("stride", [1, 2])
def test_filter_has_the_derivatives_of_a_convolution(stride: int) -> None:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    kernel = blur_kernel(x[0]).detach()

    def ours(x: torch.Tensor) -> torch.Tensor:
        return filtered(x, kernel, padding=2, stride=stride)

    plain = F.conv2d(x, kernel, padding=2, stride=stride, groups=3)
    torch.testing.assert_close(ours(x), plain)
    assert torch.autograd.gradcheck(ours, (x,))
    assert torch.autograd.gradgradcheck(lambda x: ours(x).square(), (x,))


@pytest.mark.parametrize(("padding", "stride"), [(2, 1), (1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_filter_has_its_derivatives_in_bfloat16_too(
    padding: int, stride: int, size: tuple[int, int]
) -> None:
    x = torch.randint(-4, 5, (2, 3, *size)).float()  # small whole numbers: all sums are exact
    kernel = blur_kernel(x[0]) * 16
    found = []
    for kind in (torch.float32, torch.bfloat16):
        own = x.to(kind).requires_grad_(True)
        y = filtered(own, kernel.to(kind), padding=padding, stride=stride)
        weight = torch.arange(y.numel()).reshape(y.shape).remainder(3).to(kind)
        (slope,) = torch.autograd.grad((y * weight).sum(), own, create_graph=True)
        assert slope.dtype == kind
        found.append(slope.detach().float())
    torch.testing.assert_close(found[1], found[0], rtol=2**-8, atol=0)


def test_filter_keeps_the_kind_of_number_under_autocast() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = filtered(x, blur_kernel(x[0]), padding=1)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    slope.sum().backward()
    assert {y.dtype, slope.dtype, x.grad.dtype if x.grad is not None else None} == {torch.float32}


def test_activations_keep_their_gain_and_spare_their_input_in_training() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0])
    assert activate(x, "linear").tolist() == [-1, 0, 2]
    torch.testing.assert_close(activate(x), torch.tensor([-0.2, 0, 2]) * 2**0.5)
    torch.testing.assert_close(activate(x, "relu"), torch.tensor([0, 0, 2]) * 2**0.5)
    assert activate(x, "linear", gain=3, clamp=1).tolist() == [-3, 0, 3]
    assert x.tolist() == [-1, 0, 2]


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_gradients_reach_every_parameter_twice(architecture: str) -> None:
    torch.manual_seed(0)
    network = GeneratorNetwork(dataclasses.replace(TINY, architecture=architecture))
    ws = network.mapping(torch.randn(2, 6))
    images = network.synthesis(ws, "random")
    assert images.shape == (2, 3, 16, 16)
    # the path length penalty differentiates a gradient
    (slopes,) = torch.autograd.grad(
        (images * torch.randn_like(images)).sum(), ws, create_graph=True
    )
    (slopes.square().sum() + images.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_training_and_sampling_give_the_same_image() -> None:
    torch.manual_seed(0)
    network = GeneratorNetwork(TINY)
    z = torch.randn(2, 6)
    trained = network(z, psi=0.7, noise="const")
    with torch.no_grad():
        torch.testing.assert_close(network(z, psi=0.7, noise="const"), trained)
        network.synthesis.prepare()
        torch.testing.assert_close(network(z, psi=0.7, noise="const"), trained)


def test_changed_weights_change_the_demodulation() -> None:
    torch.manual_seed(0)
    layer = SynthesisLayer(6, 5, 8, up=False, config=TINY)
    x, w = torch.randn(1, 6, 8, 8), torch.randn(1, 8)
    with torch.no_grad():
        before = layer(x, w, None)
        layer.weight.mul_(7)
        torch.testing.assert_close(layer(x, w, None), before)  # as demodulation undoes a scale
        layer.prepare(torch.float32)
        torch.testing.assert_close(layer(x, w, None), before)


def test_truncation_moves_towards_the_mean() -> None:
    torch.manual_seed(0)
    mapping = GeneratorNetwork(TINY).mapping
    mapping.w_avg.normal_()
    z = torch.randn(3, 6)
    full = mapping(z)
    for psi in (-0.5, 0.0, 0.3, 1.6):
        expected = mapping.w_avg + psi * (full - mapping.w_avg)
        torch.testing.assert_close(mapping(z, psi=psi), expected)
        cut = mapping(z, psi=psi, cutoff=2)
        torch.testing.assert_close(cut[:, :2], expected[:, :2])
        assert torch.equal(cut[:, 2:], full[:, 2:])


def test_the_thesis_network_has_as_many_parameters_as_published() -> None:
    config = GeneratorConfig(
        resolution=128,
        img_channels=3,
        labels=0,
        z_dim=512,
        w_dim=512,
        widths=(512, 512, 512, 512, 256, 128),
    )
    network = GeneratorNetwork.skeleton(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == 24_525_213
    assert config.num_ws == 12
    assert sum(size**2 for size in config.noise_sizes) == 43_664


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 24},
        {"resolution": 2**20},
        {"widths": (6, 5)},
        {"widths": (6, 5, 0)},
        {"labels": 2},
        {"architecture": "pyramid"},
        {"activation": "lrelu2"},
        {"conv_clamp": 0.0},
        {"mapping_layers": 0},
        {"z_dim": 0},
    ],
)
def test_a_config_that_cannot_be_built_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"must|needs|embeds"):
        dataclasses.replace(TINY, **wrong)
