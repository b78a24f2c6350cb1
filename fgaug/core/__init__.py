"""Core: files, paths, pixels, YAML, random streams, cluster, devices and progress."""
