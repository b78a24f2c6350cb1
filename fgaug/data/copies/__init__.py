"""Copies: images that look alike, and what becomes of them."""
