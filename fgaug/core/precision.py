"""The units of this machine that compute faster in bfloat16, found by asking the hardware.

They are found by instruction set and compute capability, never by the maker's name. A virtual
machine may hide a unit of its processor, so the operating system's view counts.
"""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
ENOUGH = 1.1  # times as fast as float32; less is not worth other numbers
FIRST_GPU = (8, 0)  # compute capability of the first GPUs with bfloat16 tensor cores


def bfloat16_unit(device: str) -> str | None:
    """Return the name of a device's unit for bfloat16, or None if it has none.

    Args:
        device: cpu or cuda. Of several GPUs, all must have such a unit.

    Returns:
        `AMX`, `AVX512-BF16` or, of GPUs, such as `compute capability 9.0`. Cores of other
        architectures are not asked.
    """
    return _of_gpus() if device.partition(":")[0] == "cuda" else _of_cores()


def _of_gpus() -> str | None:
    found = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    if not found or min(found) < FIRST_GPU:
        return None
    return "compute capability {}.{}".format(*min(found))


def _of_cores() -> str | None:
    # oneDNN emulates bfloat16 on other processors with AVX-512, slower than float32
    if _asked("_is_amx_tile_supported"):
        return "AMX"
    if _asked("_is_avx512_bf16_supported"):
        return "AVX512-BF16"
    return None


def _asked(name: str) -> bool:
    """Return the answer of one of torch's tests of the processor; older versions lack some."""
    test = getattr(torch.cpu, name, None)
    return bool(test is not None and test())


def faster(times: float) -> Precision:
    """Return the precision for a device that is so many times as fast in bfloat16."""
    return "bfloat16" if times >= ENOUGH else "float32"
