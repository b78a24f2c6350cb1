"""Data: real images with labels and patients, prepared and split; simulated ones for the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgaug.data.dataset import Dataset, DatasetSpec, open_dataset
    from fgaug.data.phantom import draw_image, make_phantom
else:  # hidden from type checkers, to which a module's `__getattr__` would make any name valid
    from fgaug.core.lazy import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Dataset": "fgaug.data.dataset",
            "DatasetSpec": "fgaug.data.dataset",
            "draw_image": "fgaug.data.phantom",
            "make_phantom": "fgaug.data.phantom",
            "open_dataset": "fgaug.data.dataset",
        },
    )
    del lazy_names

__all__ = ["Dataset", "DatasetSpec", "draw_image", "make_phantom", "open_dataset"]
