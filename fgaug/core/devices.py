"""Devices: the names and the number of GPUs that a process may use."""

from __future__ import annotations

import platform

import torch

from fgaug.core.machine import cores
from fgaug.errors import UserError


def device_names() -> list[str]:
    """Return this machine's GPUs by name, then its cores as one device."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(visible_gpus())]
    return [*gpus, f"{platform.processor() or platform.machine()} x{cores()}"]


def visible_gpus() -> int:
    """Return the GPUs of this machine without starting a cluster."""
    import torch

    return torch.cuda.device_count()


def usable_device(name: str) -> torch.device:
    """Return the device of a name; refuse one that is of another kind or not in this machine."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device is cpu, cuda or cuda:1, got {name}.") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device is cpu or cuda, got {name}.")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device {name}: this machine has {count} CUDA devices. Give cpu.")
    return device
