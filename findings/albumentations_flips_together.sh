#!/usr/bin/env bash
# albumentations 2.0.8: with a seed, two flips are drawn together or not at all.
#
# Compose(..., seed=N) gives every transform generators of its own, all of them seeded by the same N.
# Transforms that draw equally often therefore draw the same numbers, image after image.
# HorizontalFlip(p=0.5) and VerticalFlip(p=0.5) should give four outcomes, a quarter each. Seeded,
# they give two: the image as it is, and the image turned by 180 degrees. Neither mirror image is
# ever seen, in one pipeline over many images and over many seeds alike. Without a seed all is well.
#
# Who is hit: whoever seeds a pipeline to make trainings repeatable. Flips are the usual augmentation
# of ultrasound and fundus images, and an augmented baseline sees half the variants it is credited with.
# fgaug seeds each step, nested ones too, by a stream of its own:
# tests/test_pipeline_check.py::TestStreams::test_two_steps_of_one_half_give_four_outcomes
#
# Seen on 2026-11-30:
#   albumentations 2.0.8, HorizontalFlip(p=0.5) and VerticalFlip(p=0.5)
#   expected: each of four outcomes about 250 times of 1000
#   one pipeline, seed 0:      {'as it is': 492, 'left-right': 0, 'up-down': 0, 'both': 508}
#   pipelines of 1000 seeds:   {'as it is': 485, 'left-right': 0, 'up-down': 0, 'both': 515}
#   without a seed, all four at about a quarter: True
#   seen: seeded flips come together
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
from collections import Counter

import albumentations as A
import numpy as np

DRAWS = 1000
image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
names = {
    image.tobytes(): "as it is",
    image[:, ::-1].tobytes(): "left-right",
    image[::-1].tobytes(): "up-down",
    image[::-1, ::-1].tobytes(): "both",
}


def flips(seed):
    return A.Compose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], seed=seed)


def counts(pipelines):
    drawn = Counter(names[whole(image=image)["image"].tobytes()] for whole in pipelines)
    return {name: drawn[name] for name in names.values()}


seeded, unseeded = flips(0), flips(None)
one = counts(seeded for _ in range(DRAWS))
many = counts(flips(seed) for seed in range(DRAWS))
free = counts(unseeded for _ in range(DRAWS))
print(f"albumentations {A.__version__}, HorizontalFlip(p=0.5) and VerticalFlip(p=0.5)")
print(f"expected: each of four outcomes about {DRAWS // 4} times of {DRAWS}")
print(f"one pipeline, seed 0:      {one}")
print(f"pipelines of {DRAWS} seeds:   {many}")
tied = all(found["left-right"] == found["up-down"] == 0 for found in (one, many))
both_seen = all(min(found["as it is"], found["both"]) > DRAWS // 3 for found in (one, many))
apart = min(free.values()) > DRAWS // 6
print(f"without a seed, all four at about a quarter: {apart}")
as_described = tied and both_seen and apart
print("seen: seeded flips come together" if as_described else "seen: something else")
sys.exit(0 if as_described else 1)
PYTHON
