"""Generate StyleGAN2 images from z_seeds, psi and label.

An image depends only on the network, psi, its z_seed and the noise mode, never on other images of
its batch.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgaug.core.devices import usable_device
from fgaug.core.pixels import ImageArray
from fgaug.errors import UserError
from gan_worker.files.snapshot import Snapshot, read_snapshot
from gan_worker.generators.devices import OnItsWay, exact_float32
from gan_worker.generators.latents import (
    NOISE_MODES,
    check_label,
    checked_psi,
    checked_seeds,
    draw,
)
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.synthesis import Noise

__all__ = [
    "PRECISIONS",
    "Generator",
    "StyleGan2Generator",
    "check_label",
    "checked_psi",
    "checked_seeds",
    "load_generator",
]
# float32 [N, C, H, W]
Planes: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[np.float32]]
PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_MAX_BATCH_CPU, _MAX_BATCH_GPU = 32, 128
_DRAWN_AHEAD = 4  # batches drawn in threads while a GPU computes


class Generator(Protocol):
    """The interface of generators: StyleGAN2, the stub, the phantom and external programs."""

    size: int  # side in px
    channels: int
    labels: int  # number of classes of a conditional network, else 0

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> ImageArray:
        """Return one image per z_seed, in the given order, uint8 [N, H, W, C]."""
        ...


def load_generator(
    path: Path | str,
    noise_mode: str = "const",
    device: str = "cpu",
    precision: str = "float32",
    compiled: bool = False,
    cutoff: int | None = None,
) -> StyleGan2Generator:
    """Load the generator in a network file.

    Args:
        path: a StyleGAN2 network file of any official program, or a converted `.safetensors`.
        noise_mode: `const` uses the noise stored in the file, `none` adds none, `seeded` draws
            each image's noise from its z_seed, as in the TensorFlow program.
        device: torch device, such as `cpu` or `cuda`.
        precision: of the convolutions: `float32` reproduces the official program's images,
            `bfloat16` and `float16` are faster on a GPU, `bfloat16` also on a CPU with a unit
            for it, and differ by a few levels.
        compiled: compile the network with torch at its first use, which takes a minute or more.
        cutoff: number of w vectors that psi truncates, coarse ones first; None means all.
    """
    return StyleGan2Generator(
        read_snapshot(path),
        noise_mode=noise_mode,
        device=device,
        precision=precision,
        compiled=compiled,
        cutoff=cutoff,
    )


class StyleGan2Generator:
    """A StyleGAN2 generator; in float32 its images equal those of the official program."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        noise_mode: str = "const",
        device: str = "cpu",
        precision: str = "float32",
        compiled: bool = False,
        cutoff: int | None = None,
    ) -> None:
        if noise_mode not in NOISE_MODES:
            raise UserError(f"noise_mode must be one of {NOISE_MODES}, got {noise_mode!r}.")
        if precision not in PRECISIONS:
            raise UserError(f"precision must be one of {tuple(PRECISIONS)}, got {precision!r}.")
        self.size, self.channels = snapshot.resolution, snapshot.channels
        self.labels = snapshot.labels
        self.sha256 = snapshot.sha256
        self.noise_mode, self.precision = noise_mode, precision
        self.config = snapshot.config
        self.cutoff = _checked_cutoff(cutoff, snapshot.config.num_ws)
        self.device = usable_device(device)
        network = GeneratorNetwork.from_tensors(snapshot.config, snapshot.tensors)
        # on a CPU, channels-last convolutions took 0.8 of the time, transposed ones 0.6
        self.network = network.to(memory_format=torch.channels_last).to(self.device)
        self.network.synthesis.prepare(PRECISIONS[precision])
        self._synthesis: Callable[[Tensor, Noise], Tensor] = self.network.synthesis
        if compiled:
            self._synthesis = torch.compile(self.network.synthesis)
        self.batch = _batch_size(snapshot.config, self.device)

    def synthesize(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> Planes:
        """Return float32 [N, C, H, W], roughly in [-1, 1] and not clipped."""
        shape = (len(z_seeds), self.channels, self.size, self.size)
        images = np.empty(shape, dtype=np.float32)
        for start, batch in self._batches(z_seeds, psi, label, lambda pixels: pixels):
            images[start : start + len(batch)] = batch
        return images

    def generate(self, z_seeds: Sequence[int], psi: float, label: int | None = None) -> ImageArray:
        """Return uint8 [N, H, W, C], truncated instead of rounded, as in the official program."""
        images = np.empty((len(z_seeds), self.size, self.size, self.channels), dtype=np.uint8)
        for start, batch in self._batches(z_seeds, psi, label, _levels):
            images[start : start + len(batch)] = batch
        return images

    def _batches(
        self,
        z_seeds: Sequence[int],
        psi: float,
        label: int | None,
        finish: Callable[[Tensor], Tensor],
    ) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """Yield (offset, images) of each batch; a GPU already computes the next one."""
        seeds = checked_seeds(z_seeds)
        psi = checked_psi(psi)
        check_label(label, self.labels)
        made: deque[tuple[int, OnItsWay]] = deque()
        for start, (z, noise) in self._drawn(seeds):
            with torch.no_grad(), exact_float32(self.device):
                images = self._images(z, noise, psi, label)
                made.append((start, OnItsWay.send(images, finish)))
            if len(made) > 1 or self.device.type != "cuda":
                yield made[0][0], made.popleft()[1].arrived(psi, self.precision)
        while made:
            yield made[0][0], made.popleft()[1].arrived(psi, self.precision)

    def _drawn(self, seeds: list[int]) -> Iterator[tuple[int, tuple[Tensor, Noise]]]:
        """Yield (offset, draws) of each batch, prefetched for a GPU."""
        starts = range(0, len(seeds), self.batch)
        if self.device.type != "cuda":
            for start in starts:
                yield start, self._draws(seeds[start : start + self.batch])
            return
        with ThreadPoolExecutor(_DRAWN_AHEAD) as pool:
            ahead: deque[tuple[int, Future[tuple[Tensor, Noise]]]] = deque()
            for start in starts:
                part = seeds[start : start + self.batch]
                ahead.append((start, pool.submit(self._draws, part)))
                if len(ahead) > _DRAWN_AHEAD:
                    yield ahead[0][0], ahead.popleft()[1].result()
            while ahead:
                yield ahead[0][0], ahead.popleft()[1].result()

    def _draws(self, seeds: list[int]) -> tuple[Tensor, Noise]:
        return draw(self.config, self.noise_mode, seeds, pinned=self.device.type == "cuda")

    def _images(self, z: Tensor, noise: Noise, psi: float, label: int | None) -> Tensor:
        one_hot = None
        if label is not None:
            one_hot = torch.zeros(len(z), self.labels, device=self.device)
            one_hot[:, label] = 1
        if not isinstance(noise, str):
            noise = [own.to(self.device, non_blocking=True) for own in noise]
        z = z.to(self.device, non_blocking=True)
        ws = self.network.mapping(z, one_hot, psi=psi, cutoff=self.cutoff)
        return self._synthesis(ws, noise)


def _levels(pixels: Tensor) -> Tensor:
    levels = pixels.mul_(127.5).add_(128).clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()


def _checked_cutoff(cutoff: int | None, num_ws: int) -> int | None:
    if cutoff is None:
        return None
    try:
        value = operator.index(cutoff)
    except TypeError:
        value = -1
    if not 0 <= value <= num_ws:
        raise UserError(
            f"cutoff must be a whole number from 0 to {num_ws}, the number of w vectors of this "
            f"network, got {cutoff!r}. Give None to truncate all."
        )
    return value


def _batch_size(config: GeneratorConfig, device: torch.device) -> int:
    """Return the batch size.

    On a CPU the network splits a batch by itself when its maps grow large. On a GPU the largest
    array is limited to 512 MB, of which a few exist at a time.
    """
    if device.type == "cpu":
        return _MAX_BATCH_CPU
    sizes = zip(config.widths, config.resolutions, strict=True)
    largest = max(4 * width * (side + 1) ** 2 for width, side in sizes)
    return max(1, min(_MAX_BATCH_GPU, 2**29 // largest))
