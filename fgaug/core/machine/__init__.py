"""What this process may use of its machine: cores, memory, folders.  [machine] -> cluster, data"""

from fgaug.core.machine.folders import ray_folder, ray_token, settle
from fgaug.core.machine.limits import cores, memory_bytes, narrow_threads

__all__ = ["cores", "memory_bytes", "narrow_threads", "ray_folder", "ray_token", "settle"]
