"""What the public functions give for the inputs of a stored case.  inputs -> [families] -> numbers

One function a family: the inputs of `golden_stats.py`'s files -> numbers under the files' names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgaug import stats

Found = dict[str, Any]  # our numbers under the names of the files


def vector(value: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(value, dtype=np.float64))


def matrix(value: Any) -> np.ndarray:
    """Return a matrix, also where its only column was written as a plain list."""
    array = vector(value)
    return array if array.ndim == 2 else array[:, None]


def of_test(test: stats.TTest, ci: str = "ci95") -> Found:
    return {
        "diff": test.difference,
        "se": test.se,
        "t": test.statistic,
        "df": test.df,
        "p": test.p_value,
        ci: (test.ci_low, test.ci_high),
    }


def delong(i: Found) -> Found:
    r = stats.delong(i["y"], i["score_a"], i["score_b"], group=i.get("patient"))
    return {
        "auc_a": r.auc_a,
        "auc_b": r.auc_b,
        "diff": r.difference,
        "var_a": r.var_a,
        "var_b": r.var_b,
        "cov_ab": r.cov_ab,
        "se_diff": r.se,
        "z": r.z,
        "p_two_sided": r.p_value,
        "diff_ci95": (r.ci_low, r.ci_high),
        "ci_auc_a": r.ci_auc_a,
        "ci_auc_b": r.ci_auc_b,
        "n_patients": r.n_patients,
        "n_patients_with_pos": r.n_patients_with_pos,
        "n_patients_with_neg": r.n_patients_with_neg,
    }


def mcnemar(i: Found) -> Found:
    if "y" in i:
        right = [
            stats.called_right(vector(i["y"]), vector(i[f"prob_{side}"]), i.get("threshold", 0.5))
            for side in "ab"
        ]
        table = stats.agreement(*right)
    else:
        table = np.array(
            [[i["both_correct"], i["only_a_correct"]], [i["only_b_correct"], i["both_wrong"]]]
        )
    r = stats.mcnemar(table)
    return {
        "both_correct": table[0][0],
        "only_a_correct": table[0][1],
        "only_b_correct": table[1][0],
        "both_wrong": table[1][1],
        "n": r.n,
        "discordant": r.discordant,
        "acc_a": r.accuracy_a,
        "acc_b": r.accuracy_b,
        "diff": r.difference,
        "p_exact": r.p_exact,
        "p_mid": r.p_mid,
        "chi2_uncorrected": r.chi2_uncorrected,
        "p_uncorrected": r.p_uncorrected,
        "chi2_yates": r.chi2_yates,
        "p_yates": r.p_yates,
        "wald_ci95": r.wald,
        "bonett_price_ci95": r.bonett_price,
        "exact_melded_ci95": r.fay_lumbard,
    }


def clustered_mean_diff(i: Found) -> Found:
    y, group = vector(i["y"]), i.get("patient")
    p = {side: vector(i[f"prob_{side}"]) for side in "ab"}
    right = {side: stats.called_right(y, p[side], i.get("threshold", 0.5)) for side in "ab"}
    found: Found = {}
    for name, values in (
        ("accuracy", right),
        ("brier", {side: (p[side] - y) ** 2 for side in "ab"}),
    ):
        r = stats.mean_difference(values["a"], values["b"], group)
        found[name] = {
            "diff": r.test.difference,
            "se_cluster": r.test.se,
            "se_naive": r.se_naive,
            "z": r.test.statistic,
            "p_t": r.test.p_value,
            "ci95_t": (r.test.ci_low, r.test.ci_high),
            "patients": r.n_patients,
        }
    score = stats.clustered_mcnemar(stats.net_right(right["a"], right["b"], group))
    return {**found, "score_z": score.z, "score_p": score.p_value}


def patient_signflip(i: Found) -> Found:
    return {"p_exact": stats.sign_flip(vector(i["net"]))}


def seeds_two_sample(i: Found) -> Found:
    a, b = vector(i["a"]), vector(i["b"])
    welch, spreads = stats.welch(a, b), [stats.spread(a), stats.spread(b)]
    tost = stats.equivalence(welch, i.get("margin", 0.0))
    return {
        "diff": welch.difference,
        "welch": of_test(welch),
        "student": of_test(stats.student(a, b)),
        "tost_welch": {
            "margin": tost.margin,
            "p_lower": tost.p_lower,
            "p_upper": tost.p_upper,
            "p_tost": tost.p_value,
            "p_noninferior": tost.p_noninferior,
            "ci90": (tost.ci_low, tost.ci_high),
        },
        "ranksum_exact_p": stats.rank_sum(a, b),
        "prob_a_gt_b": stats.prob_greater(a, b),
        "sd_population": [s.sd_population for s in spreads],
        "sd_sample": [s.sd_sample for s in spreads],
    }


def seeds_paired(i: Found) -> Found:
    a, b = vector(i["a"]), vector(i["b"])
    test = stats.paired_t(a, b)
    tost = stats.equivalence(test, i.get("margin", 0.0))
    return {
        **of_test(test),
        "p_lower": tost.p_lower,
        "p_upper": tost.p_upper,
        "p_tost": tost.p_value,
        "p_noninferior": tost.p_noninferior,
        "ci90": (tost.ci_low, tost.ci_high),
        "signflip_exact_p": stats.paired_sign_flip(a, b),
        "wilcoxon_signed_exact_p": stats.signed_rank(a, b),
    }


def nadeau_bengio(i: Found) -> Found:
    r = stats.nadeau_bengio(
        vector(i["diff"]), n_train=i["n_train"], n_test=i["n_test"], rope=i.get("rope", 0.0)
    )
    return {
        **of_test(r.test),
        "se_corrected": r.test.se,
        "t_uncorrected": r.uncorrected.statistic,
        "p_uncorrected": r.uncorrected.p_value,
        "bayes_p_left": r.bayes_left,
        "bayes_p_rope": r.bayes_rope,
        "bayes_p_right": r.bayes_right,
    }


def dunnett(i: Found) -> Found:
    names = list(i["cell"])
    baseline = i.get("baseline", "baseline" if "baseline" in names else names[0])
    values = vector(i["value"])
    groups = {name: values[[n == name for n in names]] for name in dict.fromkeys(names)}
    arms = {name: group for name, group in groups.items() if name != baseline}
    r = stats.dunnett(groups[baseline], list(arms.values()))
    p_welch = np.array([stats.welch(arm, groups[baseline]).p_value for arm in arms.values()])
    return {
        "cells": list(arms),
        "diff": r.difference,
        "se": r.se,
        "t": r.statistic,
        "df": r.df,
        "pooled_sd": r.pooled_sd,
        "p_raw_pooled": r.p_raw,
        "p_dunnett_two_sided": r.p_value,
        "p_dunnett_greater": r.p_greater,
        "crit95_two_sided": r.critical,
        "ci95_simultaneous": np.stack([r.ci_low, r.ci_high], axis=1),
        "p_dunnett_multcomp_qmc": r.p_value,
        "p_welch": p_welch,
        "p_welch_holm": stats.adjust(p_welch, "holm"),
        "p_welch_bh": stats.adjust(p_welch, "bh"),
    }


def p_adjust(i: Found) -> Found:
    p = vector(i["p"])
    return {method: stats.adjust(p, method) for method in ("holm", "bh", "hochberg", "bonferroni")}


def maxt_signflip(i: Found) -> Found:
    r = stats.sign_flip_max_t(matrix(i["diff_seed_by_cell"]))
    return {
        "t": r.statistic,
        "p_raw": r.p_raw,
        "p_maxt_single_step": r.p_single_step,
        "p_maxt_step_down": r.p_step_down,
        "n_flips": r.n_flips,
    }


def or_seeds_by_cases(i: Found) -> Found:
    y, group = vector(i["y"]), i.get("patient")
    a, b = (matrix(i[f"scores_{side}"]).T for side in "ab")
    runs_a, runs_b = (stats.influence_of("auc", y, runs, group=group) for runs in (a, b))
    blocks = stats.error_blocks(runs_a, runs_b)
    nested, factorial = stats.nested(runs_a, runs_b), stats.factorial(runs_a, runs_b)
    ensemble = stats.delong(y, a.mean(axis=0), b.mean(axis=0), group=group)
    hillis = of_test(factorial.test)
    return {
        "auc_a": runs_a.estimate,
        "auc_b": runs_b.estimate,
        "mean_auc_a": runs_a.estimate.mean(),
        "mean_auc_b": runs_b.estimate.mean(),
        "diff": nested.test.difference,
        "error_var": blocks.error_variance,
        "cov1": blocks.cov1,
        "cov2": blocks.cov2,
        "cov2_a": blocks.cov2_a,
        "cov2_b": blocks.cov2_b,
        "cov3": blocks.cov3,
        "cov3_all_pairs": blocks.cov3_all_pairs,
        "nested": {
            **of_test(nested.test),
            "seed_part": nested.seed_part,
            "case_part": nested.case_part,
        },
        "factorial": {
            **hillis,
            "ms_t": factorial.ms_arm,
            "ms_tr": factorial.ms_arm_seed,
            "F": factorial.f,
            "ddf": factorial.test.df,
        },
        "mrmcaov": hillis,
        "seeds_only_welch_p": stats.welch(runs_a.estimate, runs_b.estimate).p_value,
        "ensemble_delong_p": ensemble.p_value,
        "n_patients": runs_a.n_patients,
    }


def or_maxt(i: Found) -> Found:
    y, names = vector(i["y"]), list(i["scores"])
    baseline = names.index("baseline") if "baseline" in names else 0
    runs = [matrix(i["scores"][name]).T for name in names]
    arm = np.repeat(np.arange(len(runs)), [len(part) for part in runs])
    influence = stats.influence_of("auc", y, np.concatenate(runs), group=i.get("patient"))
    arms = stats.arms_of(influence, arm)
    r = stats.or_max_t(arms, baseline, pool=i.get("pool", True))
    return {
        "auc_by_run": {str(k): influence.estimate[arm == k] for k in range(len(runs))},
        "mean_auc": arms.mean,
        "diff": r.difference,
        "seed_var_pooled": r.seed_variance,
        "seed_df": r.seed_df,
        "seed_part": r.seed_part,
        "case_part": r.case_part,
        "se": r.se,
        "t": r.statistic,
        "df": r.df,
        "corr": r.correlation,
        "p_raw": r.p_raw,
        "p_maxt": r.p_value,
        "p_holm": stats.adjust(r.p_raw, "holm"),
        "crit95": r.critical,
        "ci95_simultaneous": np.stack([r.ci_low, r.ci_high], axis=1),
        "n_patients": arms.n_patients,
    }


def calibration(i: Found) -> Found:
    r = stats.calibration_of(vector(i["y"]), vector(i["p"]), bins=i.get("bins", 15))
    return {
        "brier": r.brier,
        "log_loss": r.log_loss,
        "ece_equal_width": r.ece_equal_width,
        "ece_equal_mass": r.ece_equal_mass,
        "calibration_slope": r.slope,
        "calibration_intercept_large": r.intercept_in_the_large,
        "brier_skill": r.brier_skill,
    }


def bbc(i: Found) -> Found:
    correct = matrix(i["correct"])
    n, configs = correct.shape
    index = np.asarray(i["boot_index"], dtype=int).reshape(-1, n)
    rows, runs = stats.patient_rows(None, n), np.arange(configs)
    draws = [stats.draw_of(rows, drawn, runs, configs) for drawn in index]
    r = stats.selected_gain(lambda rows: correct[rows].mean(axis=0), runs, draws, images=n)
    return {
        "naive_best": r.naive,
        "best_config": r.best,
        "bbc_estimate": r.corrected,
        "naive_gain": r.naive_gain,
        "bbc_gain": r.corrected_gain,
    }


def crossed_bootstrap(i: Found) -> Found:
    y = vector(i["y"])
    a, b = (matrix(i[f"scores_{side}"]).T for side in "ab")
    right = stats.called_right(y, np.concatenate([a, b]), i.get("threshold", 0.5))
    rows = stats.patient_rows(i.get("patient"), y.size)
    seeds = np.asarray(i["seed_index"], dtype=int).reshape(-1, len(a))
    patients = np.asarray(i["patient_index"], dtype=int).reshape(-1, len(rows))
    draws = [
        stats.draw_of(rows, drawn, np.concatenate([seed, seed + len(a)]), len(right))
        for seed, drawn in zip(seeds, patients, strict=True)
    ]
    arm = np.repeat([0, 1], [len(a), len(b)])
    r = stats.crossed_bootstrap(
        lambda rows: right[:, rows].mean(axis=1), arm, draws, images=y.size
    )
    return {"point": r.difference, "boot_values": r.values, "boot_se": r.se}


def summary_stats(i: Found) -> Found:
    a, b = (
        stats.summary(
            i[f"mean_{side}"], i[f"std_{side}"], i.get(f"n_{side}", i.get("n")), ddof=i["ddof"]
        )
        for side in "ab"
    )
    r = stats.compare_summaries(a, b, margin=i.get("margin", math.nan))
    return {
        **of_test(r.test),
        "p_noninferior": r.p_noninferior,
        "p_gt_normal": r.p_greater,
    }


FAMILIES: dict[str, Callable[[Found], Found]] = {
    "delong": delong,
    "clustered_auc": delong,
    "mcnemar": mcnemar,
    "clustered_mean_diff": clustered_mean_diff,
    "patient_signflip": patient_signflip,
    "seeds_two_sample": seeds_two_sample,
    "seeds_paired": seeds_paired,
    "nadeau_bengio": nadeau_bengio,
    "dunnett": dunnett,
    "p_adjust": p_adjust,
    "maxt_signflip": maxt_signflip,
    "or_seeds_by_cases": or_seeds_by_cases,
    "or_maxt": or_maxt,
    "calibration": calibration,
    "bbc": bbc,
    "crossed_bootstrap": crossed_bootstrap,
    "summary_stats": summary_stats,
}
