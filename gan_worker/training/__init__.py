"""Training of StyleGAN2-ADA networks: images to snapshots, with a record of what they saw."""
