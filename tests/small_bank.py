"""A bank made in a second of stub images, told apart by z_seed and psi; commands over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgaug.bank import Bank, BankSpec, Demand
from fgaug.cli import bank
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe

STUBS = {label: LabelSource(kind="stub") for label in ("dbp", "trv")}


def spec_of(
    sources: dict[str, LabelSource], size: int = 8, channels: int = 1, noise: str = "none"
) -> BankSpec:
    """Return the spec of a bank of these sources."""
    described = {label: describe(label, source) for label, source in sources.items()}
    return BankSpec(size=size, channels=channels, noise=noise, sources=described)


STUB_SPEC = spec_of(STUBS)


def small_bank(
    root: Path,
    labels: Sequence[str] = ("dbp", "trv"),
    psis: Sequence[float] = (0.5, 1.0),
    z_seeds: Sequence[int] = range(1, 21),
    size: int = 16,
    channels: int = 1,
) -> Bank:
    """Return a bank below `root` that holds every z_seed of every label at every psi."""
    wanted = [(label, psi, np.array(z_seeds)) for label in labels for psi in psis]
    return fill_stub(root, wanted, size, channels)


def fill_stub(
    root: Path, wanted: Sequence[tuple[str, float, np.ndarray]], size: int = 16, channels: int = 1
) -> Bank:
    """Return a bank below `root` that holds (label, psi, z_seeds) parts."""
    demand = Demand.of(wanted)
    sources = {label: LabelSource(kind="stub") for label, _ in demand.wanted}
    return fill(root, spec_of(sources, size, channels), sources, demand)


def bank_command(*arguments: object) -> None:
    """Run `sheet` or `export` of `fgaug bank` in this process; its errors come through."""
    bank.app([str(argument) for argument in arguments], standalone_mode=False)
