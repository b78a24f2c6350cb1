"""The images of the comparison with fastai: who trains, who chooses, who judges.

BUS-BRA folder -> [fastai_peer_sets] -> fastai_peer.  One fixed draw by patient, the same for the
whole images and the lesion crops, for both programs and for every seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SETS = ("images_128", "crops_128")
LABELS = ("benign", "malignant")
SOURCE_PX = 128
DRAW_SEED = 19
PARTS = ("train", "valid", "rest")


def draw_by_patient(patient: np.ndarray, counts: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the part of each image, int [N]: 0, 1, ... as drawn, `len(counts)` for the rest.

    Patients come in a seeded random order and fill the parts one after the other; a patient with
    more images than are still wanted waits for a later part, so that each count is met exactly.

    Args:
        patient: the patient of each image [N].
        counts: images of each part.

    Raises:
        ValueError: the patients cannot make up a count.
    """
    names, index = np.unique(patient, return_inverse=True)
    images = np.bincount(index)
    waiting = list(np.random.RandomState(seed).permutation(len(names)))
    part_of = np.full(len(names), len(counts))
    for part, count in enumerate(counts):
        left, later = count, []
        for name in waiting:
            if images[name] <= left:
                part_of[name] = part
                left -= images[name]
            else:
                later.append(name)
        if left:
            raise ValueError(f"{count} images cannot be drawn by patient: {left} are missing")
        waiting = later
    return part_of[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSet:
    """One set of images at one size, with the part of each image."""

    folder: Path  # holds the PNGs that both programs read
    table: pd.DataFrame  # columns file, label (0 or 1), part (train, valid, rest)

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of one part, int64 [n]."""
        return np.flatnonzero(self.table["part"] == part)

    def pixels(self) -> np.ndarray:
        """Return all images, uint8 [N, size, size, 1]."""
        files = [self.folder / name for name in self.table["file"]]
        return np.stack([np.asarray(Image.open(file))[..., None] for file in files])


def peer_set(bus_bra: Path, name: str, size: int, train: int, valid: int, cache: Path) -> PeerSet:
    """Return one of `SETS` at `size` pixels; smaller copies are written below `cache` once."""
    source = pd.read_csv(bus_bra / "bus_data.csv")
    part = draw_by_patient(source["Case"].to_numpy(), (train, valid), DRAW_SEED)
    table = pd.DataFrame(
        {
            "file": source["ID"] + ".png",
            "label": (source["Pathology"] == LABELS[1]).astype("int64"),
            "part": np.array(PARTS)[part],
        }
    )
    folder = bus_bra / name
    if size != SOURCE_PX:
        folder = cache / f"{name}_at_{size}"
        folder.mkdir(parents=True, exist_ok=True)
        for file in table["file"]:
            if not (folder / file).exists():
                image = Image.open(bus_bra / name / file).convert("L")
                image.resize((size, size), Image.Resampling.LANCZOS).save(folder / file)
    return PeerSet(folder=folder, table=table)
