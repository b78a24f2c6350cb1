"""What both stand-ins draw: a small pattern of its seed, psi and class, and mistakes on demand.

The network file says what it makes, as JSON: `size`, `channels`, and the mistakes to make.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from PIL import Image


def write_images(network: str, seeds: str, psi: float, of_class: int, start: str) -> None:
    """Write one PNG a seed, named as `start` begins; obey the mistakes that the network names."""
    asked = json.loads(Path(network).read_text())
    print(f"Loading networks from {network}...", flush=True)
    for line in range(asked.get("log", 0)):
        print(f"line {line}", file=sys.stderr)
    if "fail" in asked:
        print("\x1b[31mRuntimeError\x1b[0m: no kernel image", flush=True)
        sys.exit(asked["fail"])
    count_start(asked)
    size, channels = asked.get("size", 8), asked.get("channels", 1)
    for seed in map(int, seeds.split(",")):
        if seed in asked.get("leave_out", ()):
            continue
        side = asked.get("sizes", {}).get(str(seed), size)
        data = drawn(f"{seed}-{psi}-{of_class}", side * side * channels)
        stem = "" if asked.get("bare") else "seed"  # some forks put the number alone
        path = Path(f"{start}{stem}{seed:04d}.png")
        Image.frombytes("RGB" if channels == 3 else "L", (side, side), data).save(path)
        if seed in asked.get("broken", ()):
            path.write_bytes(path.read_bytes()[:40])
    for name in asked.get("extra", ()):
        Path(f"{start}{name}").write_bytes(b"")


def drawn(key: str, count: int) -> bytes:
    """Return `count` bytes that follow from `key` alone."""
    return hashlib.shake_128(key.encode()).digest(count)


def count_start(asked: dict[str, str]) -> None:
    """Note the folder of this run in the file that `starts` names: one line a process."""
    if "starts" in asked:
        with Path(asked["starts"]).open("a") as file:
            file.write(json.dumps(sys.argv[1:]) + "\n")
