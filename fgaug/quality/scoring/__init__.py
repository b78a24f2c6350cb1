"""Scoring: scores of the individual fakes in a bank."""
