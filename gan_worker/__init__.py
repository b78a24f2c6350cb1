"""Generated images from trained networks: network file -> snapshot -> generator -> bank.

Importing this package loads no torch; the names below load it when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_worker.generator import StubGenerator, load_generator

__all__ = ["StubGenerator", "load_generator"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("gan_worker.generator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
