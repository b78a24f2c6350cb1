"""fgaug: do GAN-generated images help my classifier?

Light public names; torch, TensorFlow and Ray are loaded only when they are used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from fgaug.errors import FgaugError, UserError
from fgaug.version import __version__

_LAZY = {
    "load_space": "fgaug.grid_load",
    "Space": "fgaug.space",
    "load_results": "fgaug.results",
    "load_curves": "fgaug.results",
    "load_predictions": "fgaug.results",
    "open_bank": "fgaug.bank",
    "predict": "fgaug.study",
    "replay": "fgaug.study",
    "open_dataset": "fgaug.data",
}

__all__ = ["FgaugError", "UserError", "__version__", "search", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in ("stats", "quality"):
        return importlib.import_module(f"fgaug.{name}")
    raise AttributeError(f"module 'fgaug' has no attribute {name!r}")


class _Package(types.ModuleType):
    """This package, whose `search` stays the function where the folder of that name is loaded."""

    @property
    def search(self) -> Any:
        return importlib.import_module("fgaug.study").search

    @search.setter
    def search(self, module: types.ModuleType) -> None:
        """Leave the name alone: the import system would bind the folder to it."""


sys.modules[__name__].__class__ = _Package
