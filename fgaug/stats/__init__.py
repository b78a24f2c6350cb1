"""Statistics for comparing arms: pure functions on arrays, each with its source.

Every test states the claim that it supports: E0 these two networks on new patients; E1 this recipe
on these patients; E2 (the default) this recipe on new patients; E3 also with other splits.
Undefined is NaN with a `reason`, never 0 or 1 by accident.
"""

from __future__ import annotations

from fgaug.stats.adjust import adjust
from fgaug.stats.arms import Arms, arms_of, contrast
from fgaug.stats.calibration import calibration_of
from fgaug.stats.clustered import clustered_mcnemar, mean_difference, net_right
from fgaug.stats.dunnett import dunnett
from fgaug.stats.inference import TTest
from fgaug.stats.influence import METRICS, Influence, influence_of
from fgaug.stats.max_t import MaxT, or_max_t
from fgaug.stats.non_inferiority import non_inferiority, retention
from fgaug.stats.obuchowski_rockette import error_blocks, factorial, nested
from fgaug.stats.paired import agreement, called_right, mcnemar
from fgaug.stats.power import (
    Plan,
    can_ever_be_significant,
    ceiling,
    power,
    seeds_for,
    smallest_gain,
    smallest_two_stage_gain,
    two_stage_power,
)
from fgaug.stats.ranks import prob_greater, rank_sum, signed_rank
from fgaug.stats.readers import cohen_kappa, fleiss_kappa
from fgaug.stats.resplits import nadeau_bengio
from fgaug.stats.roc import auc, auc_interval, delong
from fgaug.stats.seeds import equivalence, paired_sign_flip, paired_t, spread, student, welch
from fgaug.stats.selection import (
    crossed_bootstrap,
    crossed_draws,
    draw_of,
    patient_rows,
    selected_gain,
)
from fgaug.stats.sign_flips import sign_flip, sign_flip_max_t
from fgaug.stats.summaries import compare_summaries, compare_table, summary

__all__ = [
    "METRICS",
    "Arms",
    "Influence",
    "MaxT",
    "Plan",
    "TTest",
    "adjust",
    "agreement",
    "arms_of",
    "auc",
    "auc_interval",
    "calibration_of",
    "called_right",
    "can_ever_be_significant",
    "ceiling",
    "clustered_mcnemar",
    "cohen_kappa",
    "compare_summaries",
    "compare_table",
    "contrast",
    "crossed_bootstrap",
    "crossed_draws",
    "delong",
    "draw_of",
    "dunnett",
    "equivalence",
    "error_blocks",
    "factorial",
    "fleiss_kappa",
    "influence_of",
    "mcnemar",
    "mean_difference",
    "nadeau_bengio",
    "nested",
    "net_right",
    "non_inferiority",
    "or_max_t",
    "paired_sign_flip",
    "paired_t",
    "patient_rows",
    "power",
    "prob_greater",
    "rank_sum",
    "retention",
    "seeds_for",
    "selected_gain",
    "sign_flip",
    "sign_flip_max_t",
    "signed_rank",
    "smallest_gain",
    "smallest_two_stage_gain",
    "spread",
    "student",
    "summary",
    "two_stage_power",
    "welch",
]
