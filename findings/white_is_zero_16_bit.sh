#!/usr/bin/env bash
# Pillow 13.0.0 and OpenCV 5.0.0.93: the polarity of a 16-bit "white is zero" TIFF depends on the reader.
#
# A grey TIFF whose PhotometricInterpretation is 0 stores white as 0, as digitised films and exports
# of DICOM's MONOCHROME1 do. Both libraries turn 8 bits over, so that black comes back as 0. Of 16 bits
# Pillow returns the numbers as stored: a negative. OpenCV returns the negative with IMREAD_UNCHANGED,
# and the positive of the same file with IMREAD_GRAYSCALE.
#
# Who is hit: whoever mixes 8- and 16-bit exports of one device. Some images train as negatives,
# nothing is raised, and a classifier may learn the bit depth of a centre instead of the disease.
# fgaug turns both over:
# tests/test_reader.py::TestDepth::test_black_and_white_of_tiff
#
# Seen on 2026-11-30:
#   Pillow 13.0.0, OpenCV 5.0.0; the left half is white (stored as 0)
#   expected: 1 (white) by every reader at both depths
#    8 bits, Pillow: 1
#    8 bits, IMREAD_UNCHANGED: 1
#    8 bits, IMREAD_GRAYSCALE: 1
#   16 bits, Pillow: 0
#   16 bits, IMREAD_UNCHANGED: 0
#   16 bits, IMREAD_GRAYSCALE: 1
#   seen: 16 bits turn with the reader
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6 2> "$place/pip.log" \
  || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" - "$place/film.tif" <<'PYTHON'
import struct
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

path = sys.argv[1]
SHORT, LONG = 3, 4


def write_white_is_zero(pixels):
    """Write an uncompressed little-endian TIFF of one strip whose zeros are white."""
    height, width = pixels.shape
    bits = pixels.dtype.itemsize * 8
    tags = [(256, SHORT, width), (257, SHORT, height), (258, SHORT, bits), (259, SHORT, 1)]
    tags += [(262, SHORT, 0), (273, LONG, 8 + 2 + 9 * 12 + 4), (277, SHORT, 1)]
    tags += [(278, SHORT, height), (279, LONG, pixels.nbytes)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with open(path, "wb") as file:
        file.write(head + pixels.tobytes())


def corner(pixels):
    """Return the corner that is white by the file, as a share of full range."""
    return float(pixels[0, 0]) / np.iinfo(pixels.dtype).max


found = {}
for bits, dtype in ((8, "<u1"), (16, "<u2")):
    top = 2**bits - 1
    write_white_is_zero(np.array([[0, 0, top, top]] * 4, dtype))  # left half white, right half black
    found[bits, "Pillow"] = corner(np.asarray(Image.open(path)))
    found[bits, "IMREAD_UNCHANGED"] = corner(cv2.imread(path, cv2.IMREAD_UNCHANGED))
    found[bits, "IMREAD_GRAYSCALE"] = corner(cv2.imread(path, cv2.IMREAD_GRAYSCALE))
print(f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}; the left half is white (stored as 0)")
print("expected: 1 (white) by every reader at both depths")
for (bits, reader), value in found.items():
    print(f"{bits:2d} bits, {reader}: {value:g}")
as_described = list(found.values()) == [1, 1, 1, 0, 0, 1]
print("seen: 16 bits turn with the reader" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
