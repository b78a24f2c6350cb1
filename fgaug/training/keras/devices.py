"""Restrict TensorFlow to a trial's threads and share of a GPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from fgaug.training.gpu_share import CUDA_BYTES

if TYPE_CHECKING:
    from fgaug.training.keras.process import Settings

_GPU = "GPU:0"


def configure(settings: Settings) -> None:
    """Set threads and memory limits; call this before any other use of TensorFlow.

    On a CPU, sums are computed in a fixed order, so that a cell gives the same numbers every time.
    """
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    gpus = tf.config.list_physical_devices("GPU") if settings.device != "cpu" else []
    tf.config.set_visible_devices(gpus[:1], "GPU")
    if not gpus:
        tf.config.experimental.enable_op_determinism()
    elif settings.gpu_share >= 1:
        tf.config.experimental.set_memory_growth(gpus[0], True)
    else:
        limit = int(_gpu_bytes() * settings.gpu_share - CUDA_BYTES) >> 20
        part = tf.config.LogicalDeviceConfiguration(memory_limit=max(1, limit))
        tf.config.set_logical_device_configuration(gpus[0], [part])


def gpu_peak() -> int | None:
    """Return TensorFlow's peak GPU memory in bytes; None without a GPU."""
    if not tf.config.get_visible_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info(_GPU)["peak"])


def reset_gpu_peak() -> None:
    """Reset the peak."""
    if tf.config.get_visible_devices("GPU"):
        tf.config.experimental.reset_memory_stats(_GPU)


def name() -> str:
    """Return the name of TensorFlow's device for the result rows."""
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0])["device_name"])
    return f"cpu x{tf.config.threading.get_intra_op_parallelism_threads()}"


def _gpu_bytes() -> int:
    """Return the memory in bytes of the first GPU visible to this process."""
    import pynvml

    pynvml.nvmlInit()
    try:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        handle: Any
        if first.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(first))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(first)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    finally:
        pynvml.nvmlShutdown()
