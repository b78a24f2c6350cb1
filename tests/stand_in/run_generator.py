"""A stand-in for run_generator.py of the TensorFlow programs: a folder a run, with a log in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from patterns import write_images

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["generate-images"])
parser.add_argument("--network", required=True)
parser.add_argument("--seeds", required=True)
parser.add_argument("--result-dir", required=True)
parser.add_argument("--truncation-psi", type=float, default=0.5)
given = parser.parse_args()
out = Path(given.result_dir) / "00000-generate-images"
out.mkdir(parents=True)
(out / "log.txt").write_text("as the submit tool of that program writes it")
write_images(given.network, given.seeds, given.truncation_psi, -1, f"{out}/")
