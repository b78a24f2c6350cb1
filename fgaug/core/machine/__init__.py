"""The cores, memory and folders that this process may use on its machine."""

from fgaug.core.machine.folders import ray_folder, ray_token, settle
from fgaug.core.machine.limits import cores, memory_bytes, narrow_threads

__all__ = ["cores", "memory_bytes", "narrow_threads", "ray_folder", "ray_token", "settle"]
