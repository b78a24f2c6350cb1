"""Puts the rooms together: plan, fill, search, report; what commands and notebooks call.

The only part of fgaug that imports gan_worker, and only inside functions.
"""

from fgaug.study.banks import Verdict, extend_bank, fill_from_snapshots, repair_bank, verify_bank
from fgaug.study.comparing import compare, compare_lines, describe, describe_lines
from fgaug.study.confirming import Confirmed, confirm
from fgaug.study.execute import fill_for_grid
from fgaug.study.models import LabelTable, predict, prune_models
from fgaug.study.networks import convert_network, inspect_network
from fgaug.study.piloting import Pilot, after_pilot, pilot_of
from fgaug.study.planner import plan
from fgaug.study.replays import Replay, replay
from fgaug.study.reports import demo_dataset, demo_space, published, report
from fgaug.study.searches import Run, dry_plan, search
from fgaug.study.stocking import sampled

__all__ = [
    "Confirmed",
    "LabelTable",
    "Pilot",
    "Replay",
    "Run",
    "Verdict",
    "after_pilot",
    "compare",
    "compare_lines",
    "confirm",
    "convert_network",
    "demo_dataset",
    "demo_space",
    "describe",
    "describe_lines",
    "dry_plan",
    "extend_bank",
    "fill_for_grid",
    "fill_from_snapshots",
    "inspect_network",
    "pilot_of",
    "plan",
    "predict",
    "prune_models",
    "published",
    "repair_bank",
    "replay",
    "report",
    "sampled",
    "search",
    "verify_bank",
]
