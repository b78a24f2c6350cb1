"""Filling: actors that make the fakes a bank lacks."""
