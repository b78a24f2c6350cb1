"""Page on the breast study: what single runs can show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fgaug.analysis.format import p_value, signed
from fgaug.analysis.published import folder
from fgaug.analysis.published.breast import LEVEL, bounds, independent, runs, trend
from fgaug.analysis.published.figures import cascade_figure
from fgaug.analysis.published.source import read_breast
from fgaug.analysis.report.parts import Section, Table, Text
from fgaug.stats.inference import TTest

FILES = ("breast_results.csv",)
CLAIM = "two single runs, which say nothing about the recipe"
KIND = (
    "fgaug report of published tables: training on synthetic breast-ultrasound images only. "
    "Level E0 (these trained networks, on new patients), from published counts"
)
_SCORES = ("accuracy", "sensitivity", "specificity", "auc")


def breast_sections(table: pd.DataFrame) -> tuple[Section, ...]:
    """Return every section of the page.

    Args:
        table: of `read_breast`.
    """
    return (
        _verdict(table),
        _runs(table),
        _pairs(table),
        _cascade(table),
        folder.origin("breast", FILES),
    )


def write_breast(out: Path) -> Path:
    """Write the re-analysis of the breast study below `out` and return the page's path."""
    name = "Synthetic breast-ultrasound images: a re-analysis of the published results"
    return folder.write(out, name, KIND, breast_sections(read_breast()))


def exact(p: float) -> str:
    """Return a p value with four decimals, or two significant digits below 0.001."""
    return f"{p:.4f}" if p >= 0.001 else f"{p:.1e}".replace("e-0", "e-")


def _verdict(table: pd.DataFrame) -> Section:
    first, slope = bounds(table).iloc[0], trend(table).images
    lead = (
        f"The network trained on {first['b']} only is worse than the one trained on reals: "
        f"{signed(-100 * first['difference'], 1)} points of accuracy. Whatever the paired "
        f"answers were, McNemar's exact p lies between {exact(first['p_exact_low'])} and "
        f"{exact(first['p_exact_high'])} (E0: these two networks, on new patients). But these "
        f"are {CLAIM}: both need repeating with several seeds."
    )
    parts = (
        Text(text=lead, kind="lead"),
        Text(
            text="It is not shown that more rounds of fakes help: accuracy changes by "
            f"{_slope(slope)} per round (E0)."
        ),
        Text(
            text="Whether images share patients was not published; if they do, every p value is "
            "too small and every confidence interval too narrow.",
            kind="warning",
        ),
        Text(
            text="One run per arm. Nothing was seeded, and the images used for early stopping "
            "were also used for training; the test images were separate.",
            kind="warning",
        ),
    )
    return Section(key="verdict", title="Verdict", parts=parts)


def _runs(table: pd.DataFrame) -> Section:
    frame = runs(table)
    text = pd.DataFrame({"trained on": _names(frame)})
    text["right"] = [f"{a} of {b}" for a, b in zip(frame["right"], frame["n_test"], strict=True)]
    for name in _SCORES:
        columns = (frame[column] for column in (name, f"{name}_low", f"{name}_high"))
        text["AUC" if name == "auc" else name] = [
            f"{value:.3f} ({low:.3f} to {high:.3f})"
            for value, low, high in zip(*columns, strict=True)
        ]
    part = Table(
        name="runs",
        title="Each network on its own",
        frame=frame,
        text=text,
        words=("trained on",),
        kinds=tuple(frame["training_set"]),
        note="95% confidence intervals in brackets: Wilson for shares; for AUC on the logit "
        "with the approximate standard error of Hanley and McNeil. Malignant is the "
        f"positive class. Level {LEVEL}, treating each image as its own patient.",
    )
    return Section(key="runs", title="Single runs", parts=(part,))


def _pairs(table: pd.DataFrame) -> Section:
    frame, guess = bounds(table), independent(table)
    text = pd.DataFrame(
        {
            "A": frame["a"],
            "B": frame["b"],
            "A - B, points": [signed(100 * value, 1) for value in frame["difference"]],
            "exact p (E0) at least": frame["p_exact_low"].map(exact),
            "exact p (E0) at most": frame["p_exact_high"].map(exact),
            "tables with p up to 0.05": [
                f"{some} of {whole}"
                for some, whole in zip(frame["significant"], frame["tables"], strict=True)
            ],
        }
    )
    about = (
        "Two accuracies on the same images determine how many more images one network has "
        "right, but not on how many the two disagree, so McNemar's p is known only within "
        "bounds. If the networks trained on reals and on 28,000 fakes erred independently "
        f"within each label, only the former would be right on {guess.only_a} images and only "
        f"the latter on {guess.only_b}: exact p = {exact(guess.p_exact)}, mid-p = "
        f"{exact(guess.p_mid)} (E0). Networks err on the same hard images, so the true p is "
        "likely smaller."
    )
    part = Table(
        name="bounds",
        title="Bounds of McNemar's exact p from the printed accuracies",
        frame=frame,
        text=text,
        words=("A", "B"),
        note=f"Level {LEVEL}. Each row compares {CLAIM}. Not adjusted for the number of rows.",
    )
    return Section(key="pairs", title="Two networks", parts=(Text(text=about), part))


def _cascade(table: pd.DataFrame) -> Section:
    found = trend(table)
    rows = {"images (z)": (found.images, "E0"), "rounds (t)": (found.rounds, "these five rounds")}
    frame = pd.DataFrame(
        {
            "error_from": list(rows),
            "slope": [test.difference for test, _ in rows.values()],
            "se": [test.se for test, _ in rows.values()],
            "df": [test.df for test, _ in rows.values()],
            "ci_low": [test.ci_low for test, _ in rows.values()],
            "ci_high": [test.ci_high for test, _ in rows.values()],
            "p_value": [test.p_value for test, _ in rows.values()],
            "level": [level for _, level in rows.values()],
        }
    )
    text = pd.DataFrame(
        {
            "error from": frame["error_from"],
            "slope per round, points": [signed(100 * value, 2) for value in frame["slope"]],
            "95% interval": [
                f"{signed(100 * low, 2)} to {signed(100 * high, 2)}"
                for low, high in zip(frame["ci_low"], frame["ci_high"], strict=True)
            ],
            "p": frame["p_value"].map(p_value),
            "level": frame["level"],
        }
    )
    part = Table(
        name="trend",
        title="Slope of accuracy over the rounds of the cascade",
        frame=frame,
        text=text,
        words=("error from", "level"),
        note="By images: binomial, as if every round had its own images; the rounds share "
        "theirs, so the test is conservative if their answers are correlated. By rounds: "
        "scatter of the five rounds about the line.",
    )
    parts = (cascade_figure(runs(table)), part)
    return Section(key="cascade", title="The cascade", parts=parts)


def _slope(test: TTest) -> str:
    return (
        f"{signed(100 * test.difference, 1)} points (95% interval {signed(100 * test.ci_low, 1)} "
        f"to {signed(100 * test.ci_high, 1)}, p = {p_value(test.p_value)})"
    )


def _names(frame: pd.DataFrame) -> list[str]:
    return [
        "reals" if kind == "reals" else f"{int(n):,} fakes"
        for kind, n in zip(frame["training_set"], frame["n_train"], strict=True)
    ]
