"""Tune: the Ray Tune executor, cells as trials on fractions of a machine."""
