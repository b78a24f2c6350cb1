"""Core: common services: files, paths, pixels, YAML, random streams, cluster, devices,
progress."""
