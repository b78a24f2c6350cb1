"""The CPU cores and GPUs that a search may use, and whether trials fit."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from fgaug.core.devices import visible_gpus
from fgaug.core.machine import cores
from fgaug.errors import UserError
from fgaug.grid.space import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Cores and GPUs for trials; those of another cluster are known only after joining it."""

    cpus: int
    gpus: int
    address: str | None = None  # of another cluster

    def misfits(self, resources: Resources | str) -> list[str]:
        """Return the problems of trials that need more than there is, as far as known now."""
        if self.address is not None or isinstance(resources, str):
            return []
        return misfits(resources, self.cpus, self.gpus, held=(cores(), visible_gpus()))


def room_of(cpus: int | None, gpus: int | None, address: str | None) -> Room | None:
    """Return the resources given by `search --cpus --gpus --address`.

    Returns None if this process is already connected to a cluster, which then sets the resources.

    Raises:
        UserError: more than this process may use, or both a number and another cluster.
    """
    if address is not None and (cpus is not None or gpus is not None):
        raise UserError(
            "--cpus and --gpus limit this machine, but --address joins a cluster with its own "
            "resources. Give one or the other."
        )
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return None
    held, seen = cores(), visible_gpus()
    problems = []
    if cpus is not None and not 1 <= cpus <= held:
        problems.append(
            f"--cpus must be from 1 to {held}, the cores that the affinity mask and the cgroup "
            f"allow this process, got {cpus}"
        )
    if gpus is not None and not 0 <= gpus <= seen:
        problems.append(_beyond(gpus, seen))
    if problems:
        raise UserError(f"{'. '.join(problems)}.")
    return Room(
        cpus=held if cpus is None else cpus, gpus=seen if gpus is None else gpus, address=address
    )


def _beyond(gpus: int, seen: int) -> str:
    """Return the problem of a number of GPUs if this process sees `seen`."""
    if seen or gpus < 0:
        return f"--gpus must be from 0 to {seen}, the GPUs that this process sees, got {gpus}"
    return (
        f"--gpus must be 0, because this process sees no GPU, got {gpus}. Omit --gpus to train on "
        "CPUs. If the machine has a GPU, check that `nvidia-smi` lists it, that "
        "CUDA_VISIBLE_DEVICES does not hide it, and that PyTorch is built for CUDA"
    )


def misfits(
    resources: Resources, cpus: float, gpus: float, *, held: tuple[int, int] | None = None
) -> list[str]:
    """Return the problems of trials that need more than there is and so would wait forever.

    Args:
        resources: per trial.
        cpus: CPU cores of the search.
        gpus: GPUs of the search.
        held: cores and GPUs that this process may use; None on another cluster.
    """
    found = []
    cores_here, gpus_here = (cpus, gpus) if held is None else held
    if resources.cpu > cpus:
        cure = f"Set it to {cpus:g} or less"
        if resources.cpu <= cores_here:
            cure += f", or raise --cpus to {math.ceil(resources.cpu)}"
        else:
            cure += ", or run with more cores (in a batch job, request them)"
        found.append(f"`resources.cpu` needs {_of(resources.cpu, 'core', cpus)}. {cure}")
    if resources.gpu > gpus:
        cure = f"Set it to {gpus:g} or less"
        if resources.gpu <= gpus_here:
            cure += f", or raise --gpus to {math.ceil(resources.gpu)}"
        elif not gpus:
            cure = (
                "Set it to 0 to train on CPUs, use `resources: auto`, run on a machine with a "
                "GPU, or join a cluster with GPUs by --address"
            )
        found.append(f"`resources.gpu` needs {_of(resources.gpu, 'GPU', gpus)}. {cure}")
    return found


def _of(needed: float, noun: str, there: float) -> str:
    """Return text such as `2 cores, but there is 1`."""
    plural = "" if needed == 1 else "s"
    return f"{needed:g} {noun}{plural}, but there {'is' if there == 1 else 'are'} {there:g}"
