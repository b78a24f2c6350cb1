"""Generators: z_seeds, psi, label -> images.  snapshot -> generator -> fill

An image is addressed by content: it depends on the network, psi, its z_seed and the noise mode,
never on the images made beside it.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgaug.errors import UserError
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.synthesis import Noise
from gan_worker.snapshot import Snapshot, read_snapshot

Images = NDArray[np.uint8]
Pixels = NDArray[np.float32]

NOISE_MODES = ("const", "none", "seeded")
MAX_Z_SEED = 2**32 - 1  # what numpy's RandomState takes
_MAX_BATCH = 32


class Generator(Protocol):
    """What makes images: StyleGAN2, the stub, the phantom, an external program."""

    size: int  # side in px
    channels: int
    labels: int  # number of classes of a conditional network, else 0

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> Images:
        """Return uint8 [N, H, W, C], one image a z_seed, in the order asked."""
        ...


def load_generator(
    path: Path | str, noise_mode: str = "const", device: str = "cpu"
) -> StyleGan2Generator:
    """Return the generator in a network file.

    Args:
        path: a StyleGAN2 network file of any official program, or our `.safetensors`.
        noise_mode: `const` takes the noise stored in the file, `none` adds none, `seeded` draws
            each image's noise from its z_seed as the TensorFlow program does.
        device: where torch computes, such as `cpu` or `cuda`.
    """
    return StyleGan2Generator(read_snapshot(path), noise_mode=noise_mode, device=device)


class StyleGan2Generator:
    """A StyleGAN2 network that makes images in float32."""

    def __init__(
        self, snapshot: Snapshot, *, noise_mode: str = "const", device: str = "cpu"
    ) -> None:
        if noise_mode not in NOISE_MODES:
            raise UserError(f"noise_mode must be one of {NOISE_MODES}, got {noise_mode!r}.")
        self.size, self.channels = snapshot.resolution, snapshot.channels
        self.labels = snapshot.labels
        self.sha256 = snapshot.sha256
        self.noise_mode = noise_mode
        self.config = snapshot.config
        self.device = _device(device)
        network = GeneratorNetwork.from_tensors(snapshot.config, snapshot.tensors)
        # channels-last convolutions took 0.8 of the time on a CPU, the transposed ones 0.6
        self.network = network.to(memory_format=torch.channels_last).to(self.device)
        self.batch = _batch_size(snapshot.config, self.device)

    def synthesize(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> Pixels:
        """Return float32 [N, C, H, W], about [-1, 1] and not clipped."""
        shape = (len(z_seeds), self.channels, self.size, self.size)
        images = np.empty(shape, dtype=np.float32)
        for start, batch in self._batches(z_seeds, psi, label):
            images[start : start + len(batch)] = batch.cpu().numpy()
        return images

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> Images:
        """Return uint8 [N, H, W, C]; levels are cut, not rounded, as the official program does."""
        images = np.empty((len(z_seeds), self.size, self.size, self.channels), dtype=np.uint8)
        for start, batch in self._batches(z_seeds, psi, label):
            levels = batch.mul_(127.5).add_(128).clamp_(0, 255).to(torch.uint8)
            images[start : start + len(batch)] = levels.permute(0, 2, 3, 1).cpu().numpy()
        return images

    def _batches(
        self, z_seeds: Sequence[int], psi: float, label: int | None
    ) -> Iterator[tuple[int, Tensor]]:
        seeds = checked_seeds(z_seeds)
        psi = checked_psi(psi)
        check_label(label, self.labels)
        for start in range(0, len(seeds), self.batch):
            with torch.no_grad(), _exact_float32(self.device):
                images = self._images(seeds[start : start + self.batch], psi, label)
            if not torch.isfinite(images).all():
                raise UserError(
                    f"The network gives pixels that are not finite at psi {psi}. "
                    "Use a psi nearer to 1, or another snapshot."
                )
            yield start, images

    def _images(self, seeds: list[int], psi: float, label: int | None) -> Tensor:
        z, noise = self._draws(seeds)
        one_hot = None
        if label is not None:
            one_hot = torch.zeros(len(seeds), self.labels, device=self.device)
            one_hot[:, label] = 1
        images: Tensor = self.network(z.to(self.device), one_hot, psi=psi, noise=noise)
        return images

    def _draws(self, seeds: list[int]) -> tuple[Tensor, Noise]:
        """Return z and the noise of each seed: z first, then the maps from 4 px up."""
        config = self.config
        z = np.empty((len(seeds), config.z_dim), dtype=np.float32)
        sizes = config.noise_sizes if self.noise_mode == "seeded" else ()
        maps = [np.empty((len(seeds), 1, size, size), dtype=np.float32) for size in sizes]
        for row, seed in enumerate(seeds):
            random = np.random.RandomState(seed)
            z[row] = random.randn(config.z_dim)
            for noise in maps:
                noise[row] = random.randn(*noise.shape[1:])
        if self.noise_mode != "seeded":
            return torch.from_numpy(z), self.noise_mode
        return torch.from_numpy(z), [torch.from_numpy(noise).to(self.device) for noise in maps]


class StubGenerator:
    """Smooth patterns in place of a network: instant, and as true to its arguments as one.

    A pattern is two waves and a grain drawn from z_seed, scaled by psi about gray, so that psi 0
    gives one image for every seed as in a real network.
    """

    def __init__(self, size: int, channels: int, labels: int = 0) -> None:
        if size < 1 or channels < 1 or labels < 0:
            raise UserError(
                "A stub needs a size and channels of at least 1 and labels of at least 0, "
                f"got {size}, {channels}, {labels}."
            )
        self.size, self.channels, self.labels = size, channels, labels

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> Images:
        """Return uint8 [N, H, W, C], each image a function of its z_seed, psi and label alone."""
        psi = checked_psi(psi)
        check_label(label, self.labels)
        seeds = np.array(checked_seeds(z_seeds), dtype=np.uint64)
        images = np.empty((len(seeds), self.size, self.size, self.channels), dtype=np.uint8)
        rows = max(1, 2**20 // (self.size**2 * self.channels))  # 8 MB an array
        for start in range(0, len(seeds), rows):
            images[start : start + rows] = self._patterns(seeds[start : start + rows], psi, label)
        return images

    def _patterns(self, z_seeds: NDArray[np.uint64], psi: float, label: int | None) -> Images:
        seeds = z_seeds[:, None]
        draws = _hashed(seeds * np.uint64(8) + np.arange(8, dtype=np.uint64))  # [N, 8] in [0, 1)
        turn = 2 * math.pi * draws[:, :, None]
        at = np.linspace(0, 2 * math.pi, self.size, endpoint=False)
        down = np.sin((1 + (label or 0)) * at + turn[:, 0]) * draws[:, 1, None]
        right = np.sin(2 * at + turn[:, 2]) * draws[:, 3, None]
        planes = np.arange(self.channels)
        tint = 0.5 * np.sin(turn[:, 4] + planes)
        cells = np.arange(self.size * self.size, dtype=np.uint64).reshape(self.size, self.size)
        grain = _hashed(seeds[:, :, None] * np.uint64(2**20) + cells) - 0.5
        gray = down[:, :, None] + right[:, None, :] + 0.5 * grain
        levels = 128 + 40 * psi * (gray[..., None] + tint[:, None, None, :])
        images: Images = np.clip(levels, 0, 255).astype(np.uint8)
        return images


def checked_seeds(z_seeds: Sequence[int]) -> list[int]:
    """Return z_seeds as Python integers; refuse what cannot seed a random generator."""
    seeds = []
    for z_seed in z_seeds:
        try:
            seed = operator.index(z_seed)
        except TypeError:
            seed = -1
        if not 0 <= seed <= MAX_Z_SEED:
            raise UserError(f"z_seeds are whole numbers from 0 to {MAX_Z_SEED}, got {z_seed!r}.")
        seeds.append(seed)
    return seeds


def checked_psi(psi: float) -> float:
    """Return psi as a float; refuse what is not a finite number."""
    value = float(psi)
    if not math.isfinite(value):
        raise UserError(f"psi must be a finite number, got {psi}. Give for example 0.7.")
    return value


def check_label(label: int | None, labels: int) -> None:
    """Refuse a label that the network does not have, or its lack where the network needs one."""
    if labels == 0 and label is not None:
        raise UserError(f"label must be None for a network without classes, got {label}.")
    if labels and label is None:
        raise UserError(f"label must name a class of this network: 0 to {labels - 1}, got None.")
    if label is not None and not 0 <= label < labels:
        raise UserError(f"label must be a class of this network, 0 to {labels - 1}, got {label}.")


def _batch_size(config: GeneratorConfig, device: torch.device) -> int:
    """Return how many images to make at a time.

    On a CPU the largest activation is held to 32 MB: at 128 px and full width 4 images at a time
    took 0.134 s each, 32 took 0.15-0.22 s, as larger arrays are handed back to the system.
    """
    if device.type != "cpu":
        return _MAX_BATCH
    sizes = zip(config.widths, config.resolutions, strict=True)
    largest = max(4 * width * side**2 for width, side in sizes)
    return max(1, min(_MAX_BATCH, 2**25 // largest))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device must be one that torch can use here, got {name!r} ({reason}). "
            "Give cpu, or cuda on a machine with a GPU."
        ) from None
    return device


@contextlib.contextmanager
def _exact_float32(device: torch.device) -> Iterator[None]:
    """Keep a GPU from rounding convolutions to TF32, which alters every other uint8 level."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _hashed(keys: NDArray[Any]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key, by the splitmix64 mix."""
    mixed = keys * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return numbers
