"""Which figures of a calibration are within their bounds, and the page.  studies -> [table]"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from calibrate_studies import ALPHA, Line

Means: TypeAlias = Mapping[str, tuple[float, float]]  # measure -> mean, Monte Carlo error


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A column: what its figures have to be."""

    head: str
    kind: Literal["at most", "at least", "within", "caught", "shown"]
    limits: tuple[float, float] = (0.0, 1.0)

    def complaint(self, mean: float, repetitions: int) -> str | None:
        """Return what is wrong with a figure, None if nothing is; NaN is a figure not asked for.

        A rate may leave its nominal value by two Monte Carlo errors, what 2,000 repetitions at
        0.05 cannot tell from it; an interval's coverage has 93 to 97% and not more. A test that is
        known to be wrong has to be caught: its rate must lie above what a right one may have.
        """
        low, high = self.limits
        if math.isnan(mean) or self.kind == "shown":
            return None
        if self.kind == "within":
            return None if low <= mean <= high else f"not within {low:g} to {high:g}"
        nominal = low if self.kind == "at least" else high
        room = 2 * math.sqrt(nominal * (1 - nominal) / repetitions)
        if self.kind == "at least":
            return None if mean >= nominal - room else f"below {nominal:g} - {room:.3f}"
        over = mean > nominal + room
        if self.kind == "caught":
            return None if over else "not caught, so this calibration could not fail"
        return f"above {nominal:g} + {room:.3f}" if over else None


NOMINAL, COVERAGE, LEVEL = (0.0, ALPHA), (0.93, 0.97), (0.03, 0.07)
ONE_SIDED = (0.0, 0.035)  # one side of an interval that covers 93%

RULES: Mapping[str, Mapping[str, Rule]] = {
    "grid": {
        "claims": Rule(head="false claims, max-T", kind="at most", limits=NOMINAL),
        "covers_none": Rule(head="95% interval, no effect", kind="within", limits=COVERAGE),
        "covers_gain": Rule(head="95% interval, true gain", kind="within", limits=COVERAGE),
        "together": Rule(head="all intervals together", kind="at least", limits=(0.95, 1.0)),
        "seeds_only": Rule(head="*seeds-only Dunnett*", kind="caught", limits=NOMINAL),
    },
    "two": {
        "nested": Rule(head="`nested`", kind="within", limits=LEVEL),
        "pooled": Rule(head="`contrast`", kind="within", limits=LEVEL),
        "welch": Rule(head="*seeds-only Welch*", kind="caught", limits=NOMINAL),
        "one_run": Rule(head="one run each, DeLong: shown", kind="shown"),
        "images": Rule(head="*images as patients*", kind="caught", limits=NOMINAL),
    },
    "twin": {
        "level": Rule(head="arm against twin, p < .05", kind="within", limits=LEVEL),
        "claims": Rule(head="any of the grid, max-T", kind="at most", limits=NOMINAL),
        "against_baseline": Rule(head="any against the baseline: shown", kind="shown"),
    },
    "replacement": {
        "assay": Rule(head="1: reals that bring nothing", kind="within", limits=ONE_SIDED),
        "kept": Rule(head="2: just half kept", kind="within", limits=ONE_SIDED),
        "retained": Rule(head="both", kind="within", limits=ONE_SIDED),
        "share": Rule(head="Fieller's 95% interval", kind="at least", limits=(0.95, 1.0)),
        "margin": Rule(head="margin just lost", kind="within", limits=(0.0, 0.07)),
        "sensitive": Rule(head="step 1 passed", kind="shown"),
        "power": Rule(head="0.9 kept: shown", kind="shown"),
    },
}

SECTIONS = {
    "grid": """## A grid against its baseline

Share of repetitions in which any of the arms, none of which is worth anything, is called better
or worse by `or_max_t` at .05; how often the unadjusted 95% interval of `contrast` holds the
truth, for an arm without effect (mean over the arms) and for one that gains 2 points AUC (of the
other metrics what such an arm gains); how often all simultaneous intervals hold their truths at
once. In italics a test that is wrong here, and has to be caught: Dunnett's over seeds, which
answers for these patients (E1), read as a claim about new ones (E2).""",
    "two": """## Two arms alone

Share of repetitions in which two equal recipes are told apart at .05, by the right tests and by
three that are not about recipes on new patients: over seeds alone, over one run of each (both
are right about other claims), and with the images of a patient taken for patients.""",
    "twin": """## Against the twin

Every arm and its twin gain 2 points AUC over the baseline, by their steps: the images are worth
nothing. Share of arms told apart from their twins, of grids with any such arm after adjustment
for all of them, and of grids that claim a gain over the baseline: true, and not the images'.""",
    "replacement": """## The steps of the test of retention

One-sided at .025, each where its claim is just not true: removed reals that bring nothing (step
1), fakes that keep just the half asked for of 4 points AUC (step 2, and both steps); Fieller's
interval of the kept share, which is unbounded, and covers more, where the 4 points are hardly
seen; non-inferiority at .05 with an arm that is worse by just the margin. A larger AUC varies less
over patients, so of an interval's misses more than half lie on the side that these claims are made
from: up to .035 and .07 are let pass. The last two columns are power: how often the 4 points are
seen, and how often fakes that keep 0.9 of them are called to keep half.""",
    "beyond": """## Beyond what is promised

The same as the first table, where it is hard. Nothing is promised here; *outside* marks what
would not have passed.""",
}


def complaints(line: Line, means: Means, repetitions: int) -> dict[str, str]:
    """Return what is wrong with a line, by measure; empty if it is within its bounds."""
    found = {
        name: rule.complaint(means[name][0], repetitions)
        for name, rule in RULES[line.study].items()
    }
    return {name: text for name, text in found.items() if text}


def section(key: str, rows: Sequence[tuple[Line, Means]], repetitions: int) -> str:
    """Return one section of the page: its words and its table."""
    if not rows:
        return ""
    rules = RULES["grid" if key == "beyond" else key]
    first = {"beyond": ("setting", *_HEADS)}.get(key, _HEADS)
    body = [
        [
            *([line.note] if key == "beyond" else []),
            *_setting(line),
            *_figures(line, means, repetitions),
        ]
        for line, means in rows
    ]
    heads = [*first, *(rule.head for rule in rules.values())]
    if "grid" in (key, rows[0][0].study):
        heads += ["sd of seeds", "of patients"]
        for row, (_, means) in zip(body, rows, strict=True):
            row += [figure(means[name][0], None, 4) for name in ("seed_sd", "case_sd")]
    return f"{SECTIONS[key]}\n\n{markdown(heads, body)}\n"


_HEADS = ("patients", "images each", "metric", "arms", "seeds")


def _setting(line: Line) -> list[str]:
    images = "1" if line.patients.images == 1 else f"1-{2 * line.patients.images - 1}"
    if line.patients.own_labels:
        images += ", any label"
    seeds = f"{line.seeds} + {line.baseline or line.seeds}"
    return [str(line.patients.count), images, line.metric, str(line.arms), seeds]


def _figures(line: Line, means: Means, repetitions: int) -> list[str]:
    wrong = complaints(line, means, repetitions)
    return [
        figure(*means[name]) + (" *outside*" if name in wrong else "")
        for name in RULES[line.study]
    ]


def figure(mean: float, error: float | None = None, digits: int = 3) -> str:
    """Return a figure without its leading 0, and its Monte Carlo error in brackets."""
    if math.isnan(mean):
        return "-"
    text = f"{mean:.{digits}f}".replace("0.", ".", 1)
    return text if error is None else f"{text} ({error:.{digits}f})".replace("(0.", "(.")


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def split(line: Line) -> str:
    """Return the section a line belongs to."""
    return "beyond" if line.note else line.study
