"""Snapshots: measures of the networks of one training run, and selection among them."""
