"""Sections on the verdict and the best cell's gain."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import pandas as pd

from fgaug.analysis.format import number, p_value, signed
from fgaug.analysis.published.best_cell import BestCell, Gain
from fgaug.analysis.published.comparisons import LEVEL, false_claim
from fgaug.analysis.published.figures import gains_figure
from fgaug.analysis.published.source import METRICS, WORDS, Thesis
from fgaug.analysis.published.two_way import two_way
from fgaug.analysis.report.parts import Section, Table, Text

IMAGE_ERRORS = (0.0, 0.002, 0.003, 0.004, 0.005)  # plausible standard errors over images
BOTH_RIGHT = (0.70, 0.72, 0.74, 0.76, 0.78)
DESIGNS = {1.0: "images independent", 1.5: "design effect 1.5"}
OPEN_QUESTIONS = (
    "Patients: the tables have no predictions per image, so nothing here applies to new "
    "patients (level E2). Image sampling would widen every confidence interval.",
    (
        "The same validation set was used to stop the training, select the cell and report "
        "the results."
    ),
    "No control had the same number of training steps: at ratio 8 an epoch has nine times the "
    "batches of the baseline, and the gain follows the ratio, not psi. Fakes and longer "
    "training cannot be distinguished.",
    "One split and one pair of GANs.",
    "The loss was printed without a standard deviation: its differences cannot be tested.",
)


def verdict_section(thesis: Thesis, best: Mapping[str, BestCell]) -> Section:
    """Return what the published tables support, in a few sentences."""
    acc = best["acc"]
    told = [
        f"{signed(100 * median(values), 1)} points of {WORDS[m]} (methods from "
        f"{signed(100 * min(values), 1)} to {signed(100 * max(values), 1)})"
        for m in METRICS
        for values in [[gain.value for gain in best[m].gains if gain.corrected]]
    ]
    intervals = [
        f"{signed(100 * one.low, 1)} to {signed(100 * one.high, 1)}"
        for one in (best[m].gain("dunnett") for m in METRICS)
    ]
    psi = two_way(thesis, "acc").set_index("term")["p_value"]
    lead = (
        f"Published: accuracy {acc.baseline:.3f} to "
        f"{acc.baseline + acc.gain('naive').value:.3f}, "
        f"{signed(100 * acc.gain('naive').value / acc.baseline, 1)}%, the best of "
        f"{len(thesis.cells)} cells. Corrected for selection, the gain is about {told[0]} and "
        f"{told[1]}, allowing for seed noise only. Simultaneous 95% confidence intervals over "
        f"all cells: {intervals[0]} and {intervals[1]} points. Verdict for the best cell: better "
        "on these patients only (E1, from published summaries)."
    )
    parts = [
        Text(text=lead, kind="lead"),
        Text(
            text="It is not shown that psi 1 and ratio 6 are special: the interaction of psi "
            f"and ratio has p = {p_value(psi['psi x ratio'])} for accuracy (E1). Nor is it "
            "shown that fakes can replace real images: see Replacement."
        ),
        Text(text="What the published tables cannot show", kind="heading"),
        *(Text(text=question, kind="warning") for question in OPEN_QUESTIONS),
    ]
    return Section(key="verdict", title="Verdict", parts=tuple(parts))


def gain_section(thesis: Thesis, best: Mapping[str, BestCell]) -> Section:
    """Return the best cell's gain after every correction, and what all of them leave out."""
    acc = best["acc"]
    after = acc.best_after
    return Section(
        key="gain",
        title="The best cell's gain",
        parts=(
            Text(
                text=f"Both metrics are best at psi {acc.psi:g}, ratio {acc.ratio:g}. The mean "
                "of the selected cell is optimistic, because favourable noise made its "
                "selection more likely. Shrunk to psi + ratio, the best cell for accuracy "
                f"would be psi {after[0]:g}, ratio {after[1]:g}, at {signed(after[2], 4)}."
            ),
            gains_figure(best),
            claim_table(best),
            _others(best),
            _with_images(acc),
            _false_claims(thesis),
        ),
    )


def claim_table(best: Mapping[str, BestCell]) -> Table:
    """Return the claim and its corrections: key, quantity, then value, low and high by metric."""
    rows = [_claim(best, *line) for line in _LINES]
    frame = pd.DataFrame([row for row, _ in rows])
    text = pd.DataFrame([{"quantity": row["quantity"], **told} for row, told in rows])
    return Table(
        name="claim",
        title="The gain: as published, expected by chance, and corrected",
        frame=frame,
        text=text,
        words=("quantity",),
        note=f"Level {LEVEL}; 95% intervals in brackets. The optimism of the bootstraps and the "
        "best of cells without effect are computed by integration, not by draws. *: given "
        "that the cell beat the runner-up, with the baseline treated as exact.",
    )


_LINES: tuple[tuple[str, str, int], ...] = (
    ("naive_gain", "gain of the best cell as published", 3),
    ("naive_gain_relative_pct", "the same, relative, per cent", 1),
    ("pooled_sample_sd", "seed sd (sample, n\N{MINUS SIGN}1), pooled over 37 groups", 5),
    ("null_best_of_36_gain_mean", "gain of the best of 36 if no cell helps: mean", 5),
    ("null_best_of_36_gain_p95", "gain of the best of 36 if no cell helps: 95th percentile", 5),
    ("dunnett_ci95_best", "simultaneous interval (Dunnett)", 4),
    ("dunnett_one_sided_lower_best", "one-sided 95% lower bound (Dunnett)", 4),
    ("bootstrap_bias_grand", "optimism, truths shrunk to the grand mean", 4),
    ("bootstrap_bias_additive", "optimism, truths shrunk to psi + ratio", 4),
    ("bootstrap_bias_rawmeans", "optimism, the means taken as truths", 4),
    ("bootstrap_corrected_gain_grand", "corrected: bootstrap, shrunk to the grand mean", 4),
    ("bootstrap_corrected_gain_additive", "corrected: bootstrap, shrunk to psi + ratio", 4),
    ("eb_grand_gain", "corrected: empirical Bayes, to the grand mean", 4),
    ("eb_additive_gain", "corrected: empirical Bayes, to psi + ratio", 4),
    ("leave_one_psi_out_gain", "corrected: ratio chosen on the other three psis", 4),
    ("conditional_median_unbiased_gain", "corrected: conditional, median-unbiased*", 4),
)


def _claim(
    best: Mapping[str, BestCell], key: str, quantity: str, digits: int
) -> tuple[dict[str, object], dict[str, str]]:
    """Return a row of the claim as numbers and as text."""
    row: dict[str, object] = {"key": key, "quantity": quantity}
    told = {}
    for metric in METRICS:
        found, name = _value(best[metric], key), WORDS[metric]
        short = name.lower()
        row |= {short: found.value, f"{short}_low": found.low, f"{short}_high": found.high}
        bracket = f"{number(found.low, digits)} to {number(found.high, digits)}"
        value = number(found.value, digits)
        told[name] = value if found.low != found.low else f"{value} ({bracket})"
    row["level"] = LEVEL
    return row, told


def _value(best: BestCell, key: str) -> Gain:
    gains = {
        "naive_gain": "naive",
        "dunnett_ci95_best": "dunnett",
        "bootstrap_corrected_gain_grand": "bootstrap_grand",
        "bootstrap_corrected_gain_additive": "bootstrap_additive",
        "eb_grand_gain": "eb_grand",
        "eb_additive_gain": "eb_additive",
        "leave_one_psi_out_gain": "leave_one_psi_out",
        "conditional_median_unbiased_gain": "conditional",
    }
    if key in gains:
        return best.gain(gains[key])
    plain = {
        "naive_gain_relative_pct": 100 * best.gain("naive").value / best.baseline,
        "pooled_sample_sd": best.pooled_sd,
        "null_best_of_36_gain_mean": best.null_mean,
        "null_best_of_36_gain_p95": best.null_p95,
        "dunnett_one_sided_lower_best": best.one_sided_low,
        **{f"bootstrap_bias_{name}": value for name, value in best.optimism.items()},
    }
    return Gain(key=key, words="", value=plain[key])


def _others(best: Mapping[str, BestCell]) -> Table:
    frame = pd.concat([best[m].others.assign(metric=WORDS[m]) for m in METRICS])
    frame = frame[["metric", "psi", "ratio", "gain"]].assign(level=LEVEL).reset_index(drop=True)
    text = pd.DataFrame(
        {
            "metric": frame["metric"],
            "psi left out": [f"{psi:g}" for psi in frame["psi"]],
            "ratio chosen": [f"{ratio:g}" for ratio in frame["ratio"]],
            "gain there": [signed(gain, 3) for gain in frame["gain"]],
        }
    )
    return Table(
        name="leave_one_psi_out",
        title="Ratio chosen on three psis, scored on the fourth",
        frame=frame,
        text=text,
        words=("metric",),
        note="Free of selection bias in the ratio, and averaged over psi.",
        folded=True,
    )


def _with_images(acc: BestCell) -> Table:
    rows = [(error, *acc.with_images(error)) for error in IMAGE_ERRORS]
    frame = pd.DataFrame(rows, columns=["image_error", "ci_low", "ci_high"])
    assumed = "E2 by an assumed error over images"
    frame["level"] = [assumed if error else LEVEL for error in IMAGE_ERRORS]
    text = pd.DataFrame(
        {
            "assumed error over images": [number(error) for error, _, _ in rows],
            "95% interval of the gain": [
                f"{signed(low, 4)} to {signed(high, 4)}" for _, low, high in rows
            ],
        }
    )
    return Table(
        name="with_images",
        title="Accuracy: the effect of image sampling",
        frame=frame,
        text=text,
        note="Intervals of the gain shrunk to psi + ratio. The standard error over images was "
        "not published: these are plausible values. From 0.003 on, the gain is no longer "
        "clearly above 0.",
    )


def _false_claims(thesis: Thesis) -> Table:
    rows = [
        (both, words, *false_claim(thesis, both, design=design))
        for both in BOTH_RIGHT
        for design, words in DESIGNS.items()
    ]
    names = ["both_right", "assumption", "p_false_claim", "se_image_sampling"]
    frame = pd.DataFrame(rows, columns=names)
    text = pd.DataFrame(
        {
            "both right": [f"{both:.2f}" for both, *_ in rows],
            "assumption": frame["assumption"],
            "chance of a false claim": frame["p_false_claim"].map(lambda p: f"{p:.4f}"),
            "error over images": frame["se_image_sampling"].map(lambda error: f"{error:.4f}"),
        }
    )
    return Table(
        name="false_claim",
        title="Best cell and baseline, one run each: probability of a false claim about accuracy",
        frame=frame,
        text=text,
        words=("assumption",),
        note="Flat prior on the paired answers of one run each (level E0), for several values "
        "of the share of images that both have right, which was not published. Ignores the "
        "selection of the cell.",
        folded=True,
    )
