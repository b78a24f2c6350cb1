#!/usr/bin/env bash
# Pillow 13.0.0: a grey image differs from its copy in 48-bit colour on a quarter of all levels.
#
# Pillow keeps 16-bit grey whole (mode I;16) and cuts 48-bit colour to the high byte (mode RGB). Brought
# to 8 bits by the nearest level of the full range (divided by 257), 255 of the grey file becomes 1, and
# 255 of its copy in colour becomes 0. The same holds for TIFF.
#
# Who is hit: sets that hold an image twice, as 16-bit grey and exported again as colour. Comparing or
# hashing pixels does not find such copies, and they may lie on both sides of a split.
# fgaug fetches the low bytes as well, and rounds grey and colour alike:
# tests/test_reader.py::TestDepth::test_grey_and_colour_agree
#
# Seen on 2026-11-30:
#   Pillow 13.0.0, all 65,536 levels as 16-bit grey and as 48-bit colour
#   expected: the same 8-bit levels from both
#   png: modes I;16 and RGB, 24.8% of the levels differ
#   tif: modes I;16 and RGB, 24.8% of the levels differ
#   seen: a quarter differs
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6 2> "$place/pip.log" \
  || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" - "$place" <<'PYTHON'
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import tifffile
from PIL import Image

folder = Path(sys.argv[1])
levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # each level once
colour = np.repeat(levels[..., None], 3, axis=2)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, pixels, kind):
    """Write a PNG of 16 bits; kind 0 is grey, 2 is RGB."""
    head = struct.pack(">IIBBBBB", 256, 256, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


write_png(folder / "grey.png", levels, 0)
write_png(folder / "colour.png", colour, 2)
tifffile.imwrite(folder / "grey.tif", levels, photometric="minisblack")
tifffile.imwrite(folder / "colour.tif", colour, photometric="rgb")
print(f"Pillow {PIL.__version__}, all 65,536 levels as 16-bit grey and as 48-bit colour")
print("expected: the same 8-bit levels from both")
shares = []
for kind in ("png", "tif"):
    with Image.open(folder / f"grey.{kind}") as grey, Image.open(folder / f"colour.{kind}") as rgb:
        rounded = np.rint(np.asarray(grey, dtype=np.float64) / 257)
        shares.append(float((rounded != np.asarray(rgb)[..., 0]).mean()))
        print(f"{kind}: modes {grey.mode} and {rgb.mode}, {shares[-1]:.1%} of the levels differ")
as_described = all(0.24 < share < 0.26 for share in shares)
print("seen: a quarter differs" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
