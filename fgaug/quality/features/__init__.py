"""Features: networks that turn images into vectors, and their cache."""
