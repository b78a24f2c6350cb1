#!/usr/bin/env bash
# Pillow 13.0.0 scrambles an uncompressed TIFF with orientation 5 to 8 if it is opened by name.
#
# Pillow maps an uncompressed file into memory if it is given its name. Where the orientation tag asks
# for a quarter turn, the map is laid over the pixels with height and width exchanged: rows of 10 are
# read as rows of 6. The size, the range and the histogram are right or plausible, every row is not.
# From a file object the same bytes are decoded, and the image is right. Orientations 1 to 4 and
# compressed files come out the same by both ways.
#
# Who is hit: whoever trains on TIFFs of scanners and cameras by Image.open(path): such images become
# stripes, and nothing is raised. (Loaders that open the file themselves first are right.)
# fgaug opens files as objects:
# tests/test_reader.py::TestOrientation::test_tiff_is_as_png
#
# Seen on 2026-11-30:
#   Pillow 13.0.0, a grey TIFF of 10 x 6 pixels
#   expected: right by both ways, for every orientation
#   uncompressed, right by name:   [1, 2, 3, 4]
#   uncompressed, right by object: [1, 2, 3, 4, 5, 6, 7, 8]
#   LZW, right by name:   [1, 2, 3, 4, 5, 6, 7, 8]
#   LZW, right by object: [1, 2, 3, 4, 5, 6, 7, 8]
#   seen: quarter turns are scrambled by name
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 numpy==2.4.6 2> "$place/pip.log" || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" - "$place/turned.tif" <<'PYTHON'
import io
import sys

import numpy as np
import PIL
from PIL import Image, TiffImagePlugin

path = sys.argv[1]
ORIENTATION = 274
image = np.arange(60, dtype=np.uint8).reshape(6, 10)
upright = {  # how a viewer shows the stored image, by orientation
    1: image,
    2: image[:, ::-1],
    3: image[::-1, ::-1],
    4: image[::-1],
    5: image.T,
    6: np.rot90(image, -1),
    7: np.rot90(image, 2).T,
    8: np.rot90(image),
}


def right(opened, orientation):
    return np.array_equal(np.asarray(opened), upright[orientation])


def by_both(orientation, **options):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION] = orientation
    Image.fromarray(image).save(path, tiffinfo=tags, **options)
    with open(path, "rb") as file:
        by_object = right(Image.open(io.BytesIO(file.read())), orientation)
    return right(Image.open(path), orientation), by_object


print(f"Pillow {PIL.__version__}, a grey TIFF of 10 x 6 pixels")
print("expected: right by both ways, for every orientation")
plain = {orientation: by_both(orientation) for orientation in upright}
packed = {orientation: by_both(orientation, compression="tiff_lzw") for orientation in upright}
for name, found in (("uncompressed", plain), ("LZW", packed)):
    print(f"{name}, right by name:   {[one for one, (named, _) in found.items() if named]}")
    print(f"{name}, right by object: {[one for one, (_, by_object) in found.items() if by_object]}")
wanted = {one: (one < 5, True) for one in upright}
as_described = plain == wanted and all(map(all, packed.values()))
print("seen: quarter turns are scrambled by name" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
