"""Faster ways to the same images: half precision, compiled, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fgaug.errors import UserError
from gan_worker.files.snapshot import Snapshot, read_snapshot
from gan_worker.generators.stylegan2 import StyleGan2Generator, load_generator
from gan_worker.networks.synthesis import SynthesisLayer

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
SEEDS = range(8)
# Levels away from float32: the largest, the mean. Halves of float16 have 11 bits, bfloat16's 8.
CLOSE = {"float16": (3, 0.15), "bfloat16": (16, 1.0)}


def levels_off(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    off = np.abs(ours.astype(int) - theirs.astype(int))
    return int(off.max()), float(off.mean())


@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("name", ["a", "c", "e_resnet"])
def test_half_precision_is_a_few_levels_away(name: str, precision: str) -> None:
    label = 1 if name == "c" else None
    file = GOLDENS / f"{name}.pkl"
    exact = load_generator(file).generate(SEEDS, 0.7, label)
    half = load_generator(file, precision=precision)
    images = half.generate(SEEDS, 0.7, label)
    worst, mean = levels_off(images, exact)
    assert 0 < worst <= CLOSE[precision][0]
    assert mean <= CLOSE[precision][1]
    assert half.synthesize([0], 0.7, label).dtype == np.float32
    alone = np.concatenate([half.generate([seed], 0.7, label) for seed in SEEDS])
    assert levels_off(images, alone)[1] <= CLOSE[precision][1]


def scaled(snapshot: Snapshot, factor: float) -> Snapshot:
    """Return a network whose demodulated weights and styles are larger: it makes the same."""
    tensors = dict(snapshot.tensors)
    for name in tensors:
        if ".conv" in name and name.endswith((".weight", ".affine.bias")):
            tensors[name] = tensors[name] * factor
    return Snapshot(
        sha256="", kind=snapshot.kind, config=snapshot.config, tensors=tensors, network="scaled"
    )


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_large_weights_and_styles_do_not_overflow_float16(factor: float) -> None:
    snapshot = scaled(read_snapshot(GOLDENS / "a.pkl"), factor)
    exact = StyleGan2Generator(snapshot).generate(SEEDS, 0.7)
    half = StyleGan2Generator(snapshot, precision="float16").generate(SEEDS, 0.7)
    worst, mean = levels_off(half, exact)
    assert worst <= 3
    assert mean <= 0.15


def test_demodulation_keeps_its_epsilon_in_half_precision() -> None:
    """A style of almost nothing is held down by the 1e-8, whatever the convolution divides by."""
    torch.manual_seed(0)
    config = read_snapshot(GOLDENS / "tiny.pkl").config
    layer = SynthesisLayer(8, 8, 8, up=False, config=config)
    x, w = torch.randn(1, 8, 8, 8), torch.zeros(1, config.w_dim)
    with torch.no_grad():
        layer.affine.bias.fill_(1e-5)  # style^2 * |W|^2 is about the epsilon
        exact = layer(x, w, None)
        layer.prepare(torch.float16)
        half = layer(x, w, None)
    # on a CPU the convolution alone is rounded, so what the layer returns is float32
    assert layer.prepared is not None
    assert layer.prepared.weight.dtype == torch.float16
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half.float(), exact, rtol=0.01, atol=2e-3)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"precision must be one of \('float32', 'bfloat16', "):
        load_generator(GOLDENS / "tiny.pkl", precision="fp8")


@pytest.mark.slow
def test_the_network_compiles_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracer alone: torch's own backends need a compiler of C or a GPU."""
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda module: compiler(module, backend="eager", fullgraph=True)
    )
    for name, mode in (("a", "seeded"), ("e_resnet", "const")):
        exact = load_generator(GOLDENS / f"{name}.pkl", mode)
        traced = load_generator(GOLDENS / f"{name}.pkl", mode, compiled=True)
        traced.batch = 3
        ours, theirs = (g.synthesize(SEEDS, 0.7) for g in (traced, exact))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("noise_mode", ["const", "seeded"])
def test_a_gpu_makes_the_same_floats(noise_mode: str) -> None:
    cpu, gpu = (load_generator(GOLDENS / "a.pkl", noise_mode, d) for d in ("cpu", "cuda"))
    gpu.batch = 5  # several on their way at once
    ours, theirs = (generator.synthesize(range(37), 0.7) for generator in (gpu, cpu))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
    assert levels_off(gpu.generate(range(37), 0.7), cpu.generate(range(37), 0.7))[0] <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", CLOSE)
def test_half_precision_on_a_gpu(precision: str) -> None:
    exact = load_generator(GOLDENS / "c.pkl").generate(SEEDS, 0.7, 1)
    half = load_generator(GOLDENS / "c.pkl", device="cuda", precision=precision)
    worst, mean = levels_off(half.generate(SEEDS, 0.7, 1), exact)
    assert worst <= CLOSE[precision][0]
    assert mean <= CLOSE[precision][1]


@pytest.mark.gpu
def test_a_compiled_network_makes_the_same_images_on_a_gpu() -> None:
    exact = load_generator(GOLDENS / "a.pkl").synthesize(SEEDS, 0.7)
    gpu = load_generator(GOLDENS / "a.pkl", device="cuda", compiled=True)
    np.testing.assert_allclose(gpu.synthesize(SEEDS, 0.7), exact, rtol=0, atol=2e-5)


@pytest.mark.gpu
def test_pixels_that_are_not_finite_are_refused_on_a_gpu() -> None:
    with pytest.raises(UserError, match="not finite"):
        load_generator(GOLDENS / "tiny.pkl", device="cuda").generate([0], 1e38)
