"""Generated images from trained networks: network files, generators, banks, and their training.

Importing this package loads no torch; the names below load it when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.core.lazy import lazy_names

if TYPE_CHECKING:
    from gan_worker.generators.stub import StubGenerator as StubGenerator
    from gan_worker.generators.stylegan2 import load_generator as load_generator

__all__ = ["StubGenerator", "load_generator"]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "StubGenerator": "gan_worker.generators.stub",
        "load_generator": "gan_worker.generators.stylegan2",
    },
)
