"""How busy the GPUs of this machine are, for the live table.  NVML -> [gpus] -> progress"""

from __future__ import annotations


def gpu_use() -> str:
    """Return the use of the GPUs that this process sees, as `GPU 63% 4.1/80 GB`.

    The mean share of time that they were busy, and their memory in all (GB of 10^9 bytes),
    whatever programs use it. Nothing where there is no GPU, or no NVML to ask.
    """
    try:
        return _asked()
    except Exception:  # torch and NVML have errors of their own; none of them may end a search
        return ""


def _asked() -> str:
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ""
    import pynvml

    # torch's own way to NVML, which heeds CUDA_VISIBLE_DEVICES; its `mem_get_info` would take
    # hundreds of megabytes of each GPU for a context of this process, which trains nothing
    handles = [torch.cuda._get_pynvml_handler(device) for device in range(count)]
    memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    busy = sum(torch.cuda.utilization(device) for device in range(count)) / count
    used, total = (sum(getattr(each, name) for each in memory) / 1e9 for name in ("used", "total"))
    many = f"{count} GPUs" if count > 1 else "GPU"
    return f"{many} {busy:.0f}% {used:.1f}/{total:.0f} GB"
