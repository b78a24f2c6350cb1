"""The recipe against fastai on BUS-BRA: mean accuracy and AUC over seeds, side by side.

    python benchmarks/fastai_baseline.py BUS-BRA-FOLDER busbra_lite0.csv [--out DIR]

Prepares `crops_128` at 128 px and trains the baseline arm through `fgaug search` (lite0 with
packaged ImageNet weights, batch 64, one frozen and up to 8 unfrozen epochs, patience 5), once for
each seed of the table's `crops_128` rows. Fails if a mean is further from the table's than .02
(AUC) or .03 (accuracy).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import fgaug
from fgaug.data.prepare import prepare
from fgaug.grid.load import parse_space

LIMITS = {"valid_auc": 0.02, "valid_acc": 0.03}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bus_bra", type=Path)
    parser.add_argument("table", type=Path, help="fastai's results, a row a seed")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    peer = pd.read_csv(arguments.table).query("images == 'crops_128'")
    out = arguments.out or Path(tempfile.mkdtemp(prefix="fgaug-baseline-"))
    prepare(out=out / "dataset", size=128, preset="bus-bra", source=arguments.bus_bra)
    grid = {
        "name": "fastai-baseline",
        "dataset": str(out / "dataset"),
        "axes": {"mode": ["baseline"], "seed": [int(seed) for seed in peer["seed"]]},
        "recipe": {"model": "tf_efficientnet_lite0", "batch_size": 64},
        "budget": {"unit": "epochs", "max": 8, "patience": 5},
    }
    started = time.perf_counter()
    fgaug.search(parse_space(grid), out / "run", dashboard=False)
    ours = fgaug.load_results(out / "run")
    columns = ["seed", "valid_acc", "valid_auc", "valid_f1_macro", "valid_loss", "best_epoch"]
    print(ours[[*columns, "wall_s"]].round(4).to_string(index=False))
    missed = 0
    for name in ("valid_acc", "valid_auc", "valid_f1_macro", "valid_loss"):
        difference = ours[name].mean() - peer[name].mean()
        miss = abs(difference) > LIMITS.get(name, float("inf"))
        missed += miss
        print(
            f"{name:15} fgaug {ours[name].mean():.4f} (sd {ours[name].std(ddof=0):.4f})  "
            f"fastai {peer[name].mean():.4f} (sd {peer[name].std(ddof=0):.4f})  "
            f"difference {difference:+.4f}{'  MISS' if miss else ''}"
        )
    print(f"{len(ours)} seeds each, {time.perf_counter() - started:.0f} s wall")
    return 1 if missed or len(ours) != len(peer) else 0


if __name__ == "__main__":
    sys.exit(main())
