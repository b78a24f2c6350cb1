"""Duplicate and near-duplicate images: how to find, show and resolve them."""
