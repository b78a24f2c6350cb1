"""Measure the peak memory of a process, on the machine and on a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fgaug.training.learner import PeakMemory

if TYPE_CHECKING:
    import torch


def reset_peaks(device: str) -> None:
    """Reset the peaks, as a reused process has run other trials before."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    reset_peak_rss()


def reset_peak_rss() -> None:
    """Reset the peak of the resident set size, if the system supports it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not permitted: the peak covers the whole process lifetime


def peaks(device: torch.device) -> PeakMemory:
    """Return the peaks of this process and of PyTorch's tensors since the last reset."""
    import torch

    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return PeakMemory(memory_bytes=peak_rss(), gpu_bytes=gpu)


def peak_rss() -> int:
    """Return the peak resident set size of this process in bytes since the last reset."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(os.getpid()).memory_info().rss)
