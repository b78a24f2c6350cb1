"""Chapters of the report on the quality of the fakes."""
