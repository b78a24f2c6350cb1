"""The command line's parts: one module for each group of commands, and what they print."""
