"""The version of this package, as rows and environment files record it."""

from __future__ import annotations

__version__ = "0.1.0"
