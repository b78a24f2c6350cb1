"""A stand-in for generate.py of the official programs, `--prefix` of a study's fork included."""

from __future__ import annotations

import argparse

from patterns import write_images

parser = argparse.ArgumentParser()
parser.add_argument("--network", required=True)
parser.add_argument("--seeds", required=True)
parser.add_argument("--outdir", required=True)
parser.add_argument("--trunc", type=float, default=1)
parser.add_argument("--class", type=int, default=-1, dest="of_class")
parser.add_argument("--prefix", default="")
given = parser.parse_args()
start = f"{given.outdir}/{given.prefix}"
write_images(given.network, given.seeds, given.trunc, given.of_class, start)
