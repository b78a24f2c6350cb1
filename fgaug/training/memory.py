"""The memory that a process has held at its peak, on the machine and on a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fgaug.training.learner import PeakMemory

if TYPE_CHECKING:
    import torch


def reset_peaks(device: str) -> None:
    """Start the peaks anew: a reused process has run other trials before."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    reset_peak_rss()


def reset_peak_rss() -> None:
    """Start the peak of the resident size anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not permitted: the peak is then that of the process


def peaks(device: torch.device) -> PeakMemory:
    """Return the peaks of this process and of PyTorch's tensors since the last reset."""
    import torch

    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return PeakMemory(memory_bytes=peak_rss(), gpu_bytes=gpu)


def peak_rss() -> int:
    """Return the largest resident size of this process in bytes since the last reset."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(os.getpid()).memory_info().rss)
