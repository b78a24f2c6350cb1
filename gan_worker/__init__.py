"""Read, run and train StyleGAN2 networks, and fill banks with generated images.

Importing this package does not import torch; the names below do so on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_worker.generators.stub import StubGenerator
    from gan_worker.generators.stylegan2 import load_generator
else:  # hidden from type checkers, to which a module's `__getattr__` would make any name valid
    from fgaug.core.lazy import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "StubGenerator": "gan_worker.generators.stub",
            "load_generator": "gan_worker.generators.stylegan2",
        },
    )
    del lazy_names

__all__ = ["StubGenerator", "load_generator"]
