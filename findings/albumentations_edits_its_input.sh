#!/usr/bin/env bash
# albumentations 2.0.8: AutoContrast on a grey array [H, W] changes the caller's image.
#
# Transforms return a new image and leave the given one as it was. AutoContrast does so for [H, W, 1]
# and [H, W, 3], yet writes into a two-dimensional uint8 array.
#
# Who is hit: whoever keeps grey images in memory as [H, W] and augments them as they are drawn. After
# the first epoch the stored images are the stretched ones, whatever `p` says; validation images that
# share the array change with them.
# fgaug augments a batch that it gathered for that, as [H, W, 1], and images on disk are mapped read-only:
# tests/test_augment.py::test_images_are_left_as_they_were
#
# Seen on 2026-11-30:
#   albumentations 2.0.8, AutoContrast(p=1), pixels from 60 to 159
#   expected: the given image is afterwards what it was before
#   [H, W]: given image changed: True, now 0 to 255
#   [H, W, 1]: given image changed: False, now 60 to 159
#   [H, W, 3]: given image changed: False, now 60 to 159
#   seen: the caller's grey image is overwritten
#
# Needs python3 and a package index. Exit code: 0 the behaviour is as described, 1 it has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
  albumentations==2.0.8 opencv-python-headless==5.0.0.93 numpy==2.4.6 2> "$place/pip.log" \
  || { cat "$place/pip.log"; exit 2; }

NO_ALBUMENTATIONS_UPDATE=1 "$place/venv/bin/python" - <<'PYTHON'
import sys

import albumentations as A
import numpy as np

drawn = np.random.default_rng(0).integers(60, 160, (48, 64), dtype=np.uint8)  # low contrast
inputs = {
    "[H, W]": drawn.copy(),
    "[H, W, 1]": drawn[..., None].copy(),
    "[H, W, 3]": np.repeat(drawn[..., None], 3, axis=2),
}
print(f"albumentations {A.__version__}, AutoContrast(p=1), pixels from {drawn.min()} to {drawn.max()}")
print("expected: the given image is afterwards what it was before")
changed = {}
for name, image in inputs.items():
    before = image.copy()
    A.Compose([A.AutoContrast(p=1)])(image=image)
    changed[name] = bool((image != before).any())
    print(f"{name}: given image changed: {changed[name]}, now {image.min()} to {image.max()}")
as_described = changed == {"[H, W]": True, "[H, W, 1]": False, "[H, W, 3]": False}
print("seen: the caller's grey image is overwritten" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
