"""Find the cores and memory that a batch system or container grants this process.

A job on a machine with 64 cores may have only four, by an affinity mask (`taskset`, SLURM's
cpusets) or by a control-group quota (Docker, Kubernetes, systemd). Counting the machine's cores
would start 64 trials that share four.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60  # bytes; cgroup version 1 writes a huge number for no limit


def cores() -> int:
    """Return the number of cores that this process may use (affinity mask and quota)."""
    allowed, quota = _by_mask(), cpu_quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def narrow_threads() -> None:
    """Limit the threads of libraries that are not loaded yet to the available cores.

    They respect the affinity mask themselves, but not the quota.
    """
    if cores() < _by_mask():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def memory_bytes() -> int:
    """Return the memory in bytes that this process may use, within its control group."""
    import psutil  # late: every command needs the cores, few the memory

    total = int(psutil.virtual_memory().total)
    limit = memory_limit()
    return total if limit is None else min(total, limit)


def _by_mask() -> int:
    if hasattr(os, "sched_getaffinity"):  # only Linux has masks
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """Return the CPU quota of the control groups in cores; None without a quota.

    Args:
        root: mount point of the control groups.
        own: file that lists this process's groups.
    """
    found = [quota for folder in _groups(root, own, "cpu") for quota in _quotas(folder)]
    return min(found, default=None)


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """Return the memory limit of the control groups in bytes, or None; see `cpu_quota`."""
    names = ("memory.max", "memory.limit_in_bytes")
    found = [
        int(text)
        for folder in _groups(root, own, "memory")
        for name in names
        if (text := _text(folder / name)).isdecimal()
    ]
    return min((limit for limit in found if limit < _NO_LIMIT), default=None)


def _groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups, from its own up to the root.

    Each level limits everything below it. In a container the path may be outside the mount; then
    only existing levels are read.
    """
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        named, _, path = rest.partition(":")
        if not named:  # version 2 has one tree
            top = root if (root / "cgroup.controllers").exists() else root / "unified"
        elif controller in named.split(","):
            top = root / named if (root / named).is_dir() else root / controller
        else:
            continue
        group = top / path.lstrip("/")
        yield from (level for level in (group, *group.parents) if level.is_relative_to(top))


def _quotas(folder: Path) -> Iterator[float]:
    """Yield the quota of one level in cores, for both cgroup versions."""
    pairs = (
        _text(folder / "cpu.max").split(),  # version 2: "max 100000" or "150000 100000"
        [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")],
    )
    for pair in pairs:
        if len(pair) == 2 and pair[0].isdecimal() and pair[1].isdecimal() and int(pair[1]):
            yield int(pair[0]) / int(pair[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
