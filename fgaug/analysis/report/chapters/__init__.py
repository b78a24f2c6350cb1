"""Chapters of the report: each module turns the material of a run into page parts."""
