"""Start a training from a network: copy matching tensors and report the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fgaug.errors import SnapshotError
from gan_worker.files.discriminators import read_discriminator
from gan_worker.files.snapshot import read_snapshot
from gan_worker.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The result of copying tensors to a network, by tensor name."""

    taken: tuple[str, ...]
    greyed: tuple[str, ...]  # copied, from three colours to one or from one to three
    fresh: tuple[str, ...]  # missing in the file, or of another shape
    unused: tuple[str, ...]  # only in the file

    def told(self, network: str) -> str:
        """Describe the result."""
        words = f"{network}: {len(self.taken)} tensors copied"
        if self.greyed:
            words += f", {len(self.greyed)} of them to another number of channels"
        if self.fresh:
            words += f"; {len(self.fresh)} newly initialised ({', '.join(_layers(self.fresh))})"
        if self.unused:
            layers = ", ".join(_layers(self.unused))
            words += f"; {len(self.unused)} of the file not used ({layers})"
        return words


def start_from(trainer: Trainer, file: Path | str) -> tuple[str, ...]:
    """Copy a file's generator and, if it has one, its discriminator; return a description.

    Raises:
        SnapshotError: the file is refused, or no tensor fits.
    """
    snapshot = read_snapshot(file)
    generator = copy_what_fits(snapshot.tensors, trainer.generator)
    if not generator.taken:
        raise SnapshotError(
            f"No tensor of {file} fits the network to be trained. Give another file."
        )
    trainer.average.load_state_dict(trainer.generator.state_dict())
    facts = [generator.told("generator")]
    try:
        tensors = read_discriminator(file).tensors
    except SnapshotError as error:
        return (*facts, f"discriminator: newly initialised ({str(error).rstrip('.')})")
    return (*facts, copy_what_fits(tensors, trainer.discriminator).told("discriminator"))


@torch.no_grad()
def copy_what_fits(tensors: Mapping[str, Tensor], network: nn.Module) -> Copied:
    """Copy tensors of equal name and shape into a network.

    Between different numbers of channels: from colour to grey, toRGB weights are averaged and
    fromRGB weights summed, so that the network generates and accepts the grey version of its
    images; from grey to colour, the weights are repeated.
    """
    taken, greyed, fresh = [], [], []
    own = network.state_dict()
    for name, tensor in own.items():
        given = tensors.get(name)
        if given is not None and given.shape != tensor.shape:
            given = _other_colours(name, given, tensor)
            greyed += [name] if given is not None else []
        if given is None:
            fresh.append(name)
        else:
            tensor.copy_(given)
            taken.append(name)
    unused = tuple(sorted(tensors.keys() - set(taken)))
    return Copied(taken=tuple(taken), greyed=tuple(greyed), fresh=tuple(fresh), unused=unused)


def _other_colours(name: str, given: Tensor, own: Tensor) -> Tensor | None:
    """Convert toRGB or fromRGB weights to another number of channels; None for other tensors."""
    if ".torgb." in name and ".affine." not in name and given.shape[1:] == own.shape[1:]:
        return given.mean(dim=0, keepdim=True).expand_as(own)
    if name.endswith("fromrgb.weight") and len(given) == len(own):
        # weights are stored without the factor 1 / sqrt(channels), hence the roots
        scale = (own.shape[1] / given.shape[1]) ** 0.5
        each: Tensor = given.sum(dim=1, keepdim=True) * scale / own.shape[1]
        return each.expand_as(own)
    return None


def _layers(names: tuple[str, ...]) -> list[str]:
    """Return the distinct layers of tensors."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
