"""Generators: make images with StyleGAN2, the phantom or the user's program."""
