"""The version of this package, as rows and environment files record it."""

__version__ = "0.1.0"
