"""Generation speed: images/s of the thesis network against a plain program and the CPU's peak.

The network has its full size (128 px, 512 wide, gray) and random weights. The plain program is
written from the papers' own formula, as published ones are: the weights of every layer modulated
for each image, a grouped convolution, one image at a time. All take turns in one process, since a
busy machine changes its pace by the minute; processor time counts all threads, also while they
wait actively.

    OMP_WAIT_POLICY=passive python benchmarks/generate.py --rounds 5
    python benchmarks/generate.py --quick
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fgaug.bank import BankSpec, Demand
from gan_worker.files.snapshot import Snapshot, write_safetensors
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe
from gan_worker.generators.stylegan2 import StyleGan2Generator
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.synthesis import SynthesisLayer, ToRgb

PSI, SIDE = 0.7, 2048  # of the square matrices
BATCHES = (1, 8, 32)


@dataclass(slots=True)
class Loop:
    """What takes turns with the others."""

    name: str
    step: Callable[[], object]
    images: int  # a step
    gflop: float  # an image
    cpu_s: list[float] = field(default_factory=list)  # an image, of each turn
    wall_s: list[float] = field(default_factory=list)

    def turn(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self.step()
        self.cpu_s.append((time.process_time() - cpu) / self.images)
        self.wall_s.append((time.perf_counter() - wall) / self.images)

    @property
    def pace(self) -> float:
        """GFLOP a second of processor time, at its best."""
        return self.gflop / min(self.cpu_s)


def thesis_config(quick: bool) -> GeneratorConfig:
    """Return channel base 16384, at most 512 channels; a small network for a smoke test."""
    size, most = (32, 32) if quick else (128, 512)
    sides = [2**power for power in range(2, size.bit_length())]
    return GeneratorConfig(
        resolution=size,
        img_channels=1,
        labels=0,
        z_dim=most,
        w_dim=most,
        mapping_width=most,
        widths=tuple(min(16384 // side, most) for side in sides),
    )


def random_snapshot(config: GeneratorConfig) -> Snapshot:
    torch.manual_seed(0)
    network = GeneratorNetwork(config)
    for name, tensor in network.named_parameters():
        if name.endswith("noise_strength"):
            tensor.data.fill_(0.1)
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    sha256 = hashlib.sha256(repr(config).encode()).hexdigest()
    return Snapshot(sha256=sha256, kind="stylegan2-ada-pytorch", config=config, tensors=tensors)


# ---- peers


def plain_image(network: GeneratorNetwork, z: Tensor) -> Tensor:
    """Return one image by the papers' formula, the weights of every layer modulated for it."""
    ws = network.mapping(z, psi=PSI)
    x = network.synthesis.b4.const[None]
    image, at = None, 0
    for block in network.synthesis.blocks():
        if not block.first:
            x = plain_layer(block.conv0, x, ws[:, at])
            at += 1
        x = plain_layer(block.conv1, x, ws[:, at])
        at += 1
        rgb = plain_rgb(block.torgb, x, ws[:, at])
        image = rgb if image is None else plain_filter(image, pad=(2, 1), spread=True) + rgb
    assert image is not None
    return image


def plain_layer(layer: SynthesisLayer, x: Tensor, w: Tensor) -> Tensor:
    weight = layer.weight[None] * layer.affine(w)[:, None, :, None, None]
    weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    images, outputs, inputs = weight.shape[:3]
    x = x.reshape(1, images * inputs, *x.shape[2:])
    if layer.up:
        own = weight.transpose(1, 2).reshape(images * inputs, outputs, 3, 3)
        x = F.conv_transpose2d(x, own, stride=2, groups=images)
    else:
        x = F.conv2d(x, weight.reshape(images * outputs, inputs, 3, 3), padding=1, groups=images)
    x = x.reshape(images, outputs, *x.shape[2:])
    if layer.up:
        x = plain_filter(x, pad=(1, 1), spread=False)
    x = x + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
    return F.leaky_relu(x, 0.2) * 2**0.5


def plain_rgb(layer: ToRgb, x: Tensor, w: Tensor) -> Tensor:
    weight = layer.weight * (layer.affine(w) * layer.style_gain)[0, :, None, None]
    return F.conv2d(x, weight) + layer.bias[:, None, None]


def plain_filter(x: Tensor, pad: tuple[int, int], *, spread: bool) -> Tensor:
    """Return `x` through [1, 3, 3, 1] both ways with gain 4, zeros put between pixels before."""
    images, channels, height, width = x.shape
    if spread:
        wide = x.new_zeros(images, channels, height * 2, width * 2)
        wide[:, :, ::2, ::2] = x
        x = wide
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(x, pad * 2), kernel, groups=channels)


def bare_convolutions(config: GeneratorConfig, images: int) -> Callable[[], object]:
    """Return the network's 3x3 convolutions alone, in channels-last order, on made-up maps."""
    calls: list[Callable[[], Tensor]] = []
    before = config.widths[0]
    for side, width in zip(config.resolutions, config.widths, strict=True):
        if side > 4:
            x, weight = _last(images, before, side // 2, side // 2), _last(before, width, 3, 3)
            calls.append(partial(F.conv_transpose2d, x, weight, stride=2))
        x, weight = _last(images, width, side, side), _last(width, width, 3, 3)
        calls.append(partial(F.conv2d, x, weight, padding=1))
        before = width

    def step() -> None:
        for call in calls:
            call()

    return step


def _last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


# ---- the comparison on a CPU


def gflop_of(network: GeneratorNetwork) -> float:
    """Return how many floating-point operations an image takes, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter:
        plain_image(network, torch.zeros(1, network.config.z_dim))
    return counter.get_total_flops() / 1e9


def loops_of(config: GeneratorConfig, batches: tuple[int, ...]) -> dict[str, Loop]:
    """Return ours at each batch, and its peers; raises where ours and the plain image differ."""
    snapshot = random_snapshot(config)
    ours = StyleGan2Generator(snapshot)
    plain = GeneratorNetwork.from_tensors(config, snapshot.tensors)
    z, _ = ours._draws([0])
    torch.testing.assert_close(
        plain_image(plain, z), torch.from_numpy(ours.synthesize([0], PSI)), rtol=0, atol=2e-5
    )
    gflop = gflop_of(plain)
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    product = 2 * SIDE**3 / 1e9
    loops = [
        Loop("SGEMM", partial(torch.mm, left, right), 1, product),
        Loop("oneDNN product", partial(_onednn_product, left, right), 1, product),
        Loop("plain program", partial(plain_image, plain, z), 1, gflop),
    ]
    for images in batches:
        loops.append(Loop(f"ours, {images}", partial(_made, ours, images), images, gflop))
        step = bare_convolutions(config, images)
        loops.append(Loop(f"bare convolutions, {images}", step, images, gflop))
    return {loop.name: loop for loop in loops}


def _onednn_product(left: Tensor, right: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")


def _made(generator: StyleGan2Generator, images: int) -> np.ndarray:
    generator.batch = images
    return generator.generate(range(images), PSI)


def compare(loops: dict[str, Loop], rounds: int) -> None:
    for loop in loops.values():
        loop.step()
        loop.cpu_s.clear()
        loop.wall_s.clear()
    for number in range(rounds):
        for loop in list(loops.values())[:: 1 if number % 2 else -1]:
            loop.turn()


def table(loops: dict[str, Loop], threads: int) -> None:
    gemm = loops["SGEMM"].pace
    peak = max(gemm, loops["oneDNN product"].pace)
    plain = loops["plain program"]
    print(
        f"\n{threads} thread(s): SGEMM {gemm:.0f} GFLOP/s of processor time, oneDNN {peak:.0f}\n"
    )
    print("| loop, batch | images/s | CPU s/image: best | median | of SGEMM | of oneDNN | plain |")
    print("|---|---|---|---|---|---|---|")
    for name, loop in loops.items():
        if name in ("SGEMM", "oneDNN product"):
            continue
        pairs = zip(plain.cpu_s, loop.cpu_s, strict=True)
        faster = statistics.median(theirs / own for theirs, own in pairs)
        print(
            f"| {name} | {1 / statistics.median(loop.wall_s):.1f} | {min(loop.cpu_s):.3f} "
            f"| {statistics.median(loop.cpu_s):.3f} | {loop.pace / gemm:.2f} "
            f"| {loop.pace / peak:.2f} | {faster:.2f} x |"
        )


def fill_speed(config: GeneratorConfig, images: int) -> None:
    """Print the pace of filling a bank, files written and the network kept beside them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        write_safetensors(random_snapshot(config), file)
        source = LabelSource(kind="stylegan2", file=str(file))
        spec = BankSpec(
            size=config.resolution,
            channels=config.img_channels,
            noise="const",
            sources={"random": describe("random", source)},
        )
        demand = Demand.of([("random", PSI, np.arange(1, images + 1))])
        cpu, wall = time.process_time(), time.perf_counter()
        fill(Path(folder) / "bank", spec, {"random": source}, demand)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"\nBank of {images} images, network read and kept, shards written: "
        f"{images / wall:.1f} images/s, {cpu / images:.3f} CPU s/image"
    )


# ---- a GPU


def gpu_table(config: GeneratorConfig, rounds: int) -> None:
    """Print images/s by precision and batch against float32 images made one at a time."""
    snapshot = random_snapshot(config)
    kinds = {
        "float32": {},
        "float16": {"precision": "float16"},
        "bfloat16": {"precision": "bfloat16"},
        "float32, compiled": {"compiled": True},
        "float16, compiled": {"precision": "float16", "compiled": True},
    }
    loops = []
    for name, options in kinds.items():
        generator = StyleGan2Generator(snapshot, device="cuda", **options)
        for batch in (1, 32, 128) if name == "float32" else (32, 128):
            count = 32 if batch == 1 else 512
            step = partial(_in_batches, generator, batch, count)
            loops.append(Loop(f"{name}, {batch}", step, count, 0))
    compare({loop.name: loop for loop in loops}, rounds)
    print(f"\n{torch.cuda.get_device_name()}\n")
    print("| loop, batch | images/s | float32, 1 |\n|---|---|---|")
    one = statistics.median(loops[0].wall_s)
    for loop in loops:
        wall = statistics.median(loop.wall_s)
        print(f"| {loop.name} | {1 / wall:.0f} | {one / wall:.1f} x |")


def _in_batches(generator: StyleGan2Generator, batch: int, count: int) -> np.ndarray:
    generator.batch = batch
    return generator.generate(range(count), PSI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop")
    parser.add_argument("--quick", action="store_true", help="a small network, one turn")
    options = parser.parse_args()
    config = thesis_config(options.quick)
    rounds = 1 if options.quick else options.rounds
    batches = BATCHES[:2] if options.quick else BATCHES
    with torch.no_grad():
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            torch.set_num_threads(threads)
            loops = loops_of(config, batches)
            if threads == 1:
                print(f"torch {torch.__version__}, {config.resolution} px, widths {config.widths}")
                print(f"{loops['plain program'].gflop:.2f} GFLOP an image")
            compare(loops, rounds)
            table(loops, threads)
        fill_speed(config, 8 if options.quick else 64)
        if torch.cuda.is_available():
            gpu_table(config, rounds)


if __name__ == "__main__":
    main()
