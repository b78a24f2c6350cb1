"""Confirmation: the second stage, which retrains the best arms on fresh seeds."""
