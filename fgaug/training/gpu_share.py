"""A trial's share of a GPU's memory: the cap that PyTorch keeps, and the error at the cap.

TensorFlow's limit is set in `fgaug.training.keras.devices`, in its own process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.errors import TrialError

if TYPE_CHECKING:
    import torch

CUDA_BYTES = 1 << 30  # upper bound of the memory that CUDA itself takes in a process


def cap_memory(share: float, device: torch.device) -> None:
    """Let this process allocate at most a share of the memory of a CUDA device.

    Call it before the first allocation of every trial, because processes run several. A share of 1
    or more is the whole memory, so it lifts the cap of an earlier trial. On a CPU it does nothing.

    The cap covers the tensors and the cache of PyTorch, not the memory of CUDA itself (up to
    `CUDA_BYTES` in each process). An allocation beyond it raises `torch.OutOfMemoryError`, as on a
    full GPU.

    Args:
        share: of the GPU that the trial holds, above 0.
        device: of the trial.
    """
    if device.type != "cuda":
        return
    import torch

    # by index: torch refuses a device without one here, and takes None as the current device
    torch.cuda.set_per_process_memory_fraction(min(1.0, float(share)), device.index)


def out_of_memory(share: float, images: int | None = None) -> TrialError:
    """Return the error of a trial that cannot train within its share of a GPU.

    Args:
        share: of the GPU that the trial holds.
        images: how many images it processed at once; None outside the training step.
    """
    what, smaller = "Out of memory", "smaller images or a smaller model"
    if images is None:
        smaller = f"a smaller `recipe.batch_size`, {smaller}"
    else:
        what += f" with {images} images at a time"
    if share >= 1:
        return TrialError(f"{what} on a whole GPU. Use {smaller}, or a GPU with more memory.")
    return TrialError(
        f"{what}. The trial may use {share:g} of the GPU's memory: its share of the GPU "
        "(`resources.gpu`) is also its cap. Raise `resources.gpu`, so that fewer trials share a "
        f"GPU, or use {smaller}."
    )
