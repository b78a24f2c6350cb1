"""Data: real images with labels and patients, prepared and split; simulated ones for the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.core.lazy import lazy_names

if TYPE_CHECKING:
    from fgaug.data.dataset import Dataset as Dataset
    from fgaug.data.dataset import DatasetSpec as DatasetSpec
    from fgaug.data.dataset import open_dataset as open_dataset
    from fgaug.data.phantom import draw_image as draw_image
    from fgaug.data.phantom import make_phantom as make_phantom

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Dataset": "fgaug.data.dataset",
        "DatasetSpec": "fgaug.data.dataset",
        "open_dataset": "fgaug.data.dataset",
        "draw_image": "fgaug.data.phantom",
        "make_phantom": "fgaug.data.phantom",
    },
)
