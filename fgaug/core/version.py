"""The version of this package, recorded in result rows and environment files."""

from __future__ import annotations

__version__ = "0.1.0"
