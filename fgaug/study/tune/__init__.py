"""Tune: trains cells as Ray Tune trials, each on a fraction of a machine."""
