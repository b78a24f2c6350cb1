"""Real images, and simulated ones; names are loaded when first used.

ingest -> split -> audit -> dataset -> mix, training, gan_worker
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgaug.data.dataset import Dataset as Dataset
    from fgaug.data.dataset import DatasetSpec as DatasetSpec
    from fgaug.data.dataset import open_dataset as open_dataset
    from fgaug.data.phantom import draw_image as draw_image
    from fgaug.data.phantom import make_phantom as make_phantom

# `audit` and `prepare` name modules here; their functions are imported from those.
_HOMES = {
    "Dataset": "dataset",
    "DatasetSpec": "dataset",
    "open_dataset": "dataset",
    "draw_image": "phantom",
    "make_phantom": "phantom",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
