"""List and check the devices that a process may use."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from fgaug.core.machine import cores
from fgaug.errors import UserError

if TYPE_CHECKING:
    import torch  # late: a report needs the names alone, not two seconds of imports


def device_names() -> list[str]:
    """Return the names of this machine's GPUs, then its cores as one device."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(visible_gpus())]
    return [*gpus, f"{platform.processor() or platform.machine()} x{cores()}"]


def visible_gpus() -> int:
    """Return the number of GPUs of this machine without starting a cluster."""
    import torch

    return torch.cuda.device_count()


def usable_device(name: str) -> torch.device:
    """Return the device called `name`; refuse other kinds and devices missing on this machine."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device must be cpu, cuda or cuda:1, got {name}.") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be cpu or cuda, got {name}.")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device {name}: this machine has {count} CUDA devices. Give cpu.")
    return device
