#!/usr/bin/env bash
# pydicom 3.0.1 converts YBR ultrasound to RGB, and the dataset goes on saying YBR.
#
# Ultrasound devices store frames as YBR_FULL_422 or YBR_FULL, although most of each frame is grey.
# `dataset.pixel_array` gives RGB since pydicom 3, whereas PhotometricInterpretation keeps its value.
# The usual line for older files, convert_color_space(pixel_array, PhotometricInterpretation, "RGB"),
# therefore converts twice without a warning: grey tissue becomes green in the dark and magenta in
# the bright parts, and its contrast changes even if the result is turned to grey afterwards.
#
# Who is hit: scripts that export ultrasound for training and were written for pydicom 2.
# fgaug reads no DICOM; it names such files and says how to export them:
# tests/test_trees.py::TestUnread
#
# Seen on 2026-11-30:
#   pydicom 3.0.1, a grey ramp written as an ultrasound frame
#   expected: PhotometricInterpretation tells what pixel_array holds
#   YBR_FULL: pixel_array is RGB: True; says YBR_FULL; grey 40 converted by it: [0, 133, 0], grey 200: [255, 124, 255]
#   YBR_FULL_422: pixel_array is RGB: True; says YBR_FULL_422; grey 40 converted by it: [0, 133, 0], grey 200: [255, 124, 255]
#   seen: RGB that is called YBR
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  pydicom==3.0.1 numpy==2.4.6 2> "$place/pip.log" || { cat "$place/pip.log"; exit 2; }

"$place/venv/bin/python" -W error - "$place/frame.dcm" <<'PYTHON'
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

path = sys.argv[1]
grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (4, 1))  # no colour at all


def write(photometric):
    """Write a frame whose chroma is neutral, 128, uncompressed."""
    neutral = np.full_like(grey, 128)
    pixels = np.stack([grey, neutral, neutral], axis=-1)
    if photometric == "YBR_FULL_422":  # two pixels: both luminances, one pair of chroma
        pairs = grey.reshape(4, -1, 2)
        pixels = np.concatenate([pairs, np.full_like(pairs, 128)], axis=-1)
    frame = Dataset()
    frame.file_meta = FileMetaDataset()
    frame.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    frame.SOPClassUID, frame.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    frame.Rows, frame.Columns = grey.shape
    frame.SamplesPerPixel, frame.PlanarConfiguration, frame.PixelRepresentation = 3, 0, 0
    frame.BitsAllocated, frame.BitsStored, frame.HighBit = 8, 8, 7
    frame.PhotometricInterpretation = photometric
    frame.PixelData = pixels.tobytes()
    frame.save_as(path, enforce_file_format=True)


print(f"pydicom {pydicom.__version__}, a grey ramp written as an ultrasound frame")
print("expected: PhotometricInterpretation tells what pixel_array holds")
as_described = True
for photometric in ("YBR_FULL", "YBR_FULL_422"):
    write(photometric)
    frame = pydicom.dcmread(path)
    pixels = frame.pixel_array
    is_rgb = bool((pixels == grey[..., None]).all())
    twice = convert_color_space(pixels, frame.PhotometricInterpretation, "RGB")
    print(f"{photometric}: pixel_array is RGB: {is_rgb}; says {frame.PhotometricInterpretation}; "
          f"grey 40 converted by it: {twice[0, 5].tolist()}, grey 200: {twice[0, 25].tolist()}")
    as_described &= is_rgb and frame.PhotometricInterpretation == photometric
    as_described &= bool(np.ptp(twice[0, 5].astype(int)) > 50)
print("seen: RGB that is called YBR" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
