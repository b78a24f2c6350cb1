"""`precision: auto` of a training: bfloat16 where this machine trains its networks faster so.

Chosen once, before the first iteration, and recorded with the options, which a resumed training
keeps.
"""

from __future__ import annotations

import dataclasses
import functools
import time

import torch

from fgaug.core import files
from fgaug.core.precision import PRECISIONS, Precision, bfloat16_unit, faster
from fgaug.errors import SnapshotError
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.networks.discriminator import DiscriminatorConfig, DiscriminatorNetwork
from gan_worker.training.folder import TrainingFolder
from gan_worker.training.losses import generator_loss
from gan_worker.training.options import TrainingOptions

ROUNDS = 2  # of the measurement, after one that warms up


def settled(options: TrainingOptions, folder: TrainingFolder, device: str) -> TrainingOptions:
    """Return the options with `auto` replaced by what it stands for in this training."""
    if options.precision != "auto":
        return options
    return dataclasses.replace(
        options, precision=_recorded(folder) or _faster(options, device.partition(":")[0])
    )


def compute_in(
    generator: GeneratorNetwork, discriminator: DiscriminatorNetwork, dtype: torch.dtype | None
) -> None:
    """Compute the convolutions of both networks in `dtype`, and everything else in float32.

    None: these too.
    """
    generator.synthesis.compute_in(dtype)
    discriminator.compute_in(dtype)


def _recorded(folder: TrainingFolder) -> str | None:
    if not folder.options.is_file():
        return None
    kept = files.read_json(folder.options, SnapshotError)
    return str(kept["options"]["precision"])


def _faster(options: TrainingOptions, kind: str) -> Precision:
    if bfloat16_unit(kind) is None:
        return "float32"
    count = min(options.group_size, options.batch)
    times = speed(options.generator(), options.discriminator(), count, kind)
    return faster(times)


@functools.cache  # labels and values of a sweep often share their networks
def speed(
    generator: GeneratorConfig, discriminator: DiscriminatorConfig, images: int, kind: str
) -> float:
    """Return how many times as fast a generator's main step is in bfloat16, on `kind` of device.

    Args:
        generator: of the training.
        discriminator: of the training.
        images: of a step.
        kind: cpu or cuda.
    """
    device = torch.device(kind)
    with torch.random.fork_rng(devices=[]):
        g, d = GeneratorNetwork(generator), DiscriminatorNetwork(discriminator)
    g, d = g.to(device), d.to(device)
    g, d = g.to(memory_format=torch.channels_last), d.to(memory_format=torch.channels_last)
    best = dict.fromkeys(PRECISIONS, float("inf"))
    for number in range(ROUNDS + 1):
        for precision in PRECISIONS:  # in turn: another process may slow a while
            took = _step_s(g, d, images, precision)
            if number:
                best[precision] = min(best[precision], took)
    return best["float32"] / best["bfloat16"]


def _step_s(
    g: GeneratorNetwork, d: DiscriminatorNetwork, images: int, precision: Precision
) -> float:
    """Return the seconds that a generator's main step takes, without optimiser and draws."""
    device = next(g.parameters()).device
    in_bfloat16 = precision == "bfloat16"
    on_gpu = device.type == "cuda"
    compute_in(g, d, torch.bfloat16 if in_bfloat16 and not on_gpu else None)
    z = torch.zeros(images, g.config.z_dim, device=device)
    one_hot = None
    if g.config.labels:
        one_hot = torch.zeros(images, g.config.labels, device=device)
    # processor time: other processes must not decide
    clock = time.perf_counter if on_gpu else time.process_time
    began = clock()
    ws = g.mapping.untruncated(z, one_hot)[:, None, :].repeat(1, g.config.num_ws, 1)
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16 and on_gpu):
        logits = d(g.synthesis(ws, "const"), one_hot)
    generator_loss(logits.float()).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    if on_gpu:
        torch.cuda.synchronize(device)
    return clock() - began
