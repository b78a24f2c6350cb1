"""Runs: one trial, and the folder of a run with its rows, looks and status."""
