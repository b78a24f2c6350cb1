"""A scorer that needs no network: its scores follow from label, psi and z_seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fgaug.bank import Scorer, Store, write_scores
from fgaug.bank.score_columns import columns_of

FEATURES = Scorer("features", "f" * 64, columns_of("features"))
CLASSIFIER = Scorer("classifier", "c" * 64, columns_of("classifier"))
SCORERS = {"features": FEATURES, "classifier": CLASSIFIER}


def scores(scorer: Scorer, label: str, psi: float, z_seeds: Sequence[int]) -> pd.DataFrame:
    """Return made scores: confidence and realism are uniform on (0, 1) and (0, 2)."""
    draws = np.array([_uniform(label, psi, int(z_seed)) for z_seed in z_seeds])
    first, second = draws[:, 0], draws[:, 1]
    of = {
        "realism": 2 * second,
        "density": second,
        "nearest_distance": second,
        "nearest": np.full(len(draws), "x.png", object),
        "copy": second > 0.9,
        "confidence": first,
        "margin": 2 * first - 1,
        "agrees": first >= 0.5,
    }
    return pd.DataFrame({"z_seed": z_seeds, **{name: of[name] for name in scorer.columns}})


def score(store: Store, label: str, psi: float, z_seeds: Sequence[int], *scorers: Scorer) -> None:
    """Write made scores of z_seeds to a bank."""
    for scorer in scorers:
        write_scores(store, scorer, label, psi, scores(scorer, label, psi, z_seeds))


def _uniform(label: str, psi: float, z_seed: int) -> tuple[float, float]:
    raw = hashlib.sha256(f"{label} {psi} {z_seed}".encode()).digest()
    return tuple(int.from_bytes(raw[at : at + 8], "big") / 2**64 for at in (0, 8))  # type: ignore[return-value]  # two
