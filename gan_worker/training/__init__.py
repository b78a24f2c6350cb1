"""Train StyleGAN2-ADA networks, and record the training images beside every snapshot."""
