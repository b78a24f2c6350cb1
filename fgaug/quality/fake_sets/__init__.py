"""Fake sets: measures of the fakes that a bank holds."""
