"""The cores and GPUs that a search may use, and whether trials fit there."""

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
    """What there is for trials; of another cluster it is known once that is joined."""

    cpus: int
    gpus: int
    address: str | None = None  # of another cluster

    def misfits(self, resources: Resources | str) -> list[str]:
        """Return what trials ask for beyond what there is, as far as that is known now."""
        if self.address is not None or isinstance(resources, str):
            return []
        return misfits(resources, self.cpus, self.gpus, held=(cores(), visible_gpus()))


def room_of(cpus: int | None, gpus: int | None, address: str | None) -> Room | None:
    """Return the room that `search --cpus --gpus --address` names.

    None where this process is connected to a cluster already: that one counts.

    Raises:
        UserError: more than this process may use, or both a number and another cluster.
    """
    if address is not None and (cpus is not None or gpus is not None):
        raise UserError(
            "--cpus and --gpus are of this machine, and --address joins a cluster that has its "
            "own. Give one or the other."
        )
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return None
    held, seen = cores(), visible_gpus()
    problems = []
    if cpus is not None and not 1 <= cpus <= held:
        problems.append(
            f"--cpus must lie from 1 to {held}, the cores that the affinity mask and the control "
            f"group leave to this process, got {cpus}"
        )
    if gpus is not None and not 0 <= gpus <= seen:
        problems.append(_beyond(gpus, seen))
    if problems:
        raise UserError(f"{'. '.join(problems)}.")
    return Room(
        cpus=held if cpus is None else cpus, gpus=seen if gpus is None else gpus, address=address
    )


def _beyond(gpus: int, seen: int) -> str:
    """Return what is wrong with a number of GPUs, where this process sees `seen`."""
    if seen or gpus < 0:
        return f"--gpus must lie from 0 to {seen}, the GPUs that this process sees, got {gpus}"
    return (
        f"--gpus {gpus}: this process sees no GPU. Leave --gpus out to train on CPUs. If the "
        "machine has one, see whether `nvidia-smi` lists it, whether CUDA_VISIBLE_DEVICES hides "
        "it, and whether the installed PyTorch is built for CUDA"
    )


def misfits(
    resources: Resources, cpus: float, gpus: float, *, held: tuple[int, int] | None = None
) -> list[str]:
    """Return what trials ask for beyond what there is; they would wait for ever.

    Args:
        resources: of one trial.
        cpus: cores to be used.
        gpus: GPUs to be used.
        held: cores and GPUs that this process may use; None on another cluster.
    """
    found = []
    cores_here, gpus_here = (cpus, gpus) if held is None else held
    if resources.cpu > cpus:
        cure = f"Set it to {cpus:g} or less"
        if resources.cpu <= cores_here:
            cure += f", or give --cpus {math.ceil(resources.cpu)}"
        else:
            cure += ", or run where a process may use more cores (in a batch job, request them)"
        found.append(f"`resources.cpu` asks for {_of(resources.cpu, 'core', cpus)}. {cure}")
    if resources.gpu > gpus:
        cure = f"Set it to {gpus:g} or less"
        if resources.gpu <= gpus_here:
            cure += f", or give --gpus {math.ceil(resources.gpu)}"
        elif not gpus:
            cure = (
                "Set it to 0 to train on CPUs, give `resources: auto`, run on a machine with a "
                "GPU, or join a cluster that has some by --address"
            )
        found.append(f"`resources.gpu` asks for {_of(resources.gpu, 'GPU', gpus)}. {cure}")
    return found


def _of(asked: float, noun: str, there: float) -> str:
    """Return `2 cores, there is 1`."""
    plural = "" if asked == 1 else "s"
    return f"{asked:g} {noun}{plural}, there {'is' if there == 1 else 'are'} {there:g}"
