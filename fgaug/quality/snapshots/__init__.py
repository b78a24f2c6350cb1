"""Snapshots: measures of the networks of one training, and the choice among them."""
