"""A bank whose fakes are simulated heads with something wrong: a machine left out, copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fgaug.bank import Bank, BankSpec, BankWriter, Source
from fgaug.data import Dataset, make_phantom, open_dataset
from fgaug.data.prepare import prepare
from fgaug.quality.features.networks import FeatureNetwork

SEED, MACHINES, IMAGES = 19, 3, 900
REALS = 500  # of the first patients; the others stand for fakes


class _Pooled(torch.nn.Module):
    """Means of 4 x 4 px: features that take no time and know a copy when they see one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float() / 255, 4)[:, 0].flatten(1)


def pooled() -> FeatureNetwork:
    """Return a feature network that takes no time."""
    return FeatureNetwork(
        _Pooled(), name="pooled", sha256="0123456789" * 6, side=32, words="means", device="cpu"
    )


def phantom_of_machines(root: Path) -> Dataset:
    """Return a dataset of the first REALS images of `phantom`; 40 % of the patients validate."""
    arguments = {"images": REALS, "seed": SEED, "machines": MACHINES, "label_noise": 0}
    prepare(out=root / "dataset", size=32, preset="phantom", phantom=arguments, valid=0.4)
    return open_dataset(root / "dataset")


def bank_of_heads(
    root: Path, dataset: Dataset, *, lacking: int | None = None, copies: int = 0
) -> Bank:
    """Return a bank of new patients of the dataset's machines, at psi 0.5 and 1.

    Args:
        root: of the bank.
        dataset: of `phantom_of_machines`.
        lacking: no fake of `trv` at psi 1 is of this machine.
        copies: the first so many fakes of each label at psi 0.5 are training images.
    """
    heads = make_phantom(IMAGES, SEED, size=32, machines=MACHINES, label_noise=0)
    new = heads.table["group"].gt(heads.table["group"].iloc[REALS - 1])
    sources = {
        label: Source(kind="imported", sha256=str(number) * 64, name=f"{label} heads")
        for number, label in enumerate(dataset.spec.labels)
    }
    spec = BankSpec(size=32, channels=1, noise="none", sources=sources)
    train = dataset.manifest["split"].eq("train")
    with BankWriter.opened(root, spec) as writer:
        for label in sources:
            own = new & heads.table["label"].eq(label)
            kept = own & heads.table["machine"].ne(f"machine {lacking}")
            images = heads.images[own].copy()
            real = dataset.pixels()[np.flatnonzero(train & dataset.manifest["label"].eq(label))]
            images[:copies] = real[:copies]
            writer.write(label, 0.5, np.arange(1, len(images) + 1), images)
            images = heads.images[kept if label == "trv" else own]
            writer.write(label, 1.0, np.arange(1, len(images) + 1), images)
        return writer.commit()
