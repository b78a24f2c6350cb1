"""Training of StyleGAN2-ADA networks: images -> snapshots with a record of what they saw."""
