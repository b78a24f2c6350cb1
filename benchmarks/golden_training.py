"""Compare what trains a network with stored numbers of the official program.

FOLDER/*.npz and the network files beside them -> one row a key, exit 1 on any miss. Logits of the
discriminator within 1e-4, R1 penalties and path lengths within 1e-3 relative, augmented images
within 1e-3. Where networks have classes, the images are those of class 0, shown with labels 0, 1,
0, 1, ...; path lengths are of the classes 0, 1, 0, 1 too: those of class 0 alone do not fit.

    python benchmarks/golden_training.py FOLDER/pt
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from golden_stylegan2 import found, unpacked
from torch import Tensor

from fgaug.errors import UserError
from gan_worker.files.discriminators import StoredDiscriminator, read_discriminator
from gan_worker.files.snapshot import read_snapshot
from gan_worker.generators.stylegan2 import StyleGan2Generator
from gan_worker.training.augment import AugmentPipe
from gan_worker.training.losses import path_lengths, r1_penalty

KEYS = re.compile(r"(d_logits)_(batch\d+|single)|(r1_penalty|pl_lengths)_batch(\d+)|aug_pct(.+)")
TOLERANCE = {"d_logits": 1e-4, "r1_penalty": 1e-3, "pl_lengths": 1e-3, "aug": 1e-3}
RELATIVE = ("r1_penalty", "pl_lengths")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was compared for one key."""

    name: str
    key: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Return whether the key agrees; a NaN does not."""
        return self.difference <= self.tolerance


class Case:
    """A network file, and what its golden file says of the training of its networks."""

    def __init__(self, name: str, source: Path, golden: Path) -> None:
        self.name, self.golden = name, golden
        with np.load(golden) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files if KEYS.fullmatch(key)}
            self.seeds = arrays["d_image_seeds"].tolist()
        self.images, self.source = StyleGan2Generator(read_snapshot(source)), source

    def rows(self) -> Iterator[Row]:
        """Yield the comparison of every key."""
        stored = read_discriminator(self.source) if self.arrays else None
        for key, theirs in self.arrays.items():
            matched = KEYS.fullmatch(key)
            assert matched
            kind = matched[1] or matched[3] or "aug"
            if kind == "d_logits":
                ours = self._logits(stored, matched[2], len(theirs))
            elif kind == "r1_penalty":
                ours = self._penalties(stored, int(matched[4]))
            elif kind == "pl_lengths":
                ours = self._lengths(int(matched[4]))
            else:
                ours = self._augmented(matched[5])
            difference = np.abs(ours.detach().numpy().reshape(theirs.shape) - theirs)
            if kind in RELATIVE:
                difference = difference / np.abs(theirs)
            worst = float(difference.max())  # NaN where any is
            yield Row(name=self.name, key=key, difference=worst, tolerance=TOLERANCE[kind])

    def _images(self, count: int) -> Tensor:
        label = 0 if self.images.labels else None
        return torch.from_numpy(self.images.synthesize(self.seeds[:count], 1.0, label))

    def _one_hot(self, count: int) -> Tensor | None:
        labels = self.images.labels
        return torch.eye(labels)[torch.arange(count) % 2] if labels else None

    def _logits(self, stored: StoredDiscriminator, batch: str, count: int) -> Tensor:
        size = 1 if batch == "single" else int(batch.removeprefix("batch"))
        images, one_hot = self._images(count), self._one_hot(count)
        network = stored.network()
        return torch.cat(
            [
                network(images[i : i + size], None if one_hot is None else one_hot[i : i + size])
                for i in range(0, count, size)
            ]
        )

    def _penalties(self, stored: StoredDiscriminator, count: int) -> Tensor:
        network, one_hot = stored.network(), self._one_hot(count)
        return r1_penalty(lambda images: network(images, one_hot), self._images(count), 2.0)

    def _lengths(self, count: int) -> Tensor:
        network = self.images.network
        z = np.stack([np.random.RandomState(s).randn(network.config.z_dim) for s in range(count)])
        one_hot = self._one_hot(count)
        for layer in network.synthesis.modules():
            if hasattr(layer, "prepared"):
                layer.prepared = None  # as in training
        ws = network.mapping(torch.from_numpy(z).float(), one_hot).requires_grad_(True)
        images = network.synthesis(ws, "const")
        noise = np.random.RandomState(99).randn(*images.shape)
        return path_lengths(images, ws, torch.from_numpy(noise).float())

    def _augmented(self, percent: str) -> Tensor:
        images = self._images(2)
        groups = "bgc" if images.shape[1] == 3 else "bg"
        pipe = AugmentPipe(groups, resolution=images.shape[2], img_channels=images.shape[1])
        return pipe.transformed(images, pipe.quantile(2, float(percent)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds *.npz and the network files")
    folder = parser.parse_args().folder
    missed = compared = 0
    for name, source, golden in found(folder):
        if source.suffix == ".json":  # weights of a generator alone
            continue
        try:
            with unpacked(source) as plain:
                rows = list(Case(name, plain, golden).rows())
        except UserError as error:
            print(f"{name:<16}MISS {error}")
            missed += 1
            continue
        for row in rows:
            compared += 1
            missed += not row.ok
            print(
                f"{row.name:<16}{row.key:<24}{row.difference:>10.2g} of {row.tolerance:g}"
                f"  {'ok' if row.ok else 'MISS'}"
            )
    print(f"{compared} keys compared, {missed} missed")
    return 0 if compared and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
