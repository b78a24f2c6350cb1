"""Power: what a study can show, computed before it is run."""
