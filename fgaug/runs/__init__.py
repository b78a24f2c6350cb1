"""Runs: single trials, and the folder of a run with its results, looks and status."""
