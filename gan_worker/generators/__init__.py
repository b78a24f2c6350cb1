"""Generators: latents to images, by StyleGAN2, the phantom, or a program of the user."""
