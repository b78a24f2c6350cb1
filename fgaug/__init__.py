"""fgaug: do GAN-generated images help my classifier?

Light public names; torch, TensorFlow and Ray are loaded only when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

from fgaug.errors import FgaugError, UserError

__version__ = "0.1.0"

_LAZY = {
    "search": "fgaug.study",
    "load_space": "fgaug.space",
    "Space": "fgaug.space",
    "load_results": "fgaug.results",
    "load_curves": "fgaug.results",
    "load_predictions": "fgaug.results",
    "open_bank": "fgaug.bank",
    "open_dataset": "fgaug.data",
}

__all__ = ["FgaugError", "UserError", "__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fgaug' has no attribute {name!r}")
