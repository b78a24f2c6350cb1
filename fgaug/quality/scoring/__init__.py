"""Scoring: a score for each fake of a bank."""
