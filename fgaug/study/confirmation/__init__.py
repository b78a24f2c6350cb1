"""Confirmation: the second stage, the best arms again with fresh seeds."""
