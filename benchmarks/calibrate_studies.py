"""What is measured in each repetition of a calibration.  frames -> [studies] -> table

Every study draws patients, seeds and runs anew, asks `fgaug.stats` what a user would ask, and
compares the answer with the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from calibrate_frames import (
    Drawn,
    Floats,
    Noise,
    Patients,
    draw,
    shift_apart,
    shift_for,
    truth,
)

from fgaug import stats
from fgaug.analysis.findings.contrasts import positive, together

ALPHA = 0.05  # of all tests over a grid; 95% intervals
START = 0.85  # AUC of a baseline
GAIN = 0.02  # AUC, of the arm that is truly better
FIRST = 12  # exact critical values before a window is trusted

Measures: TypeAlias = dict[str, float]  # name -> 0, 1, a share or a size; one repetition
Study: TypeAlias = Callable[["Line", np.random.Generator, dict[str, "Window"]], Measures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One setting of a study: a row of the table."""

    study: str  # a key of STUDIES
    patients: Patients
    seeds: int  # of an arm
    arms: int = 1  # beside the baseline
    baseline: int | None = None  # seeds of the baseline; None: as many as an arm
    metric: str = "auc"
    noise: Noise = field(default_factory=Noise)
    auc: float = START
    restless: tuple[float, float] = (1.0, 1.0)  # how much seeds differ: baseline, arms
    note: str = ""  # what makes the line a hard one; such lines are shown, nothing is promised

    @property
    def name(self) -> str:
        """Return words that no other line has."""
        who = f"{self.patients.count}x{self.patients.images}{'ab'[self.patients.own_labels]}"
        runs = f"{self.arms}x{self.seeds}+{self.baseline or self.seeds}"
        noise = f"{self.noise.seed_sd:g}-{self.noise.arm_patient + self.noise.arm_image:g}"
        return " ".join((self.study, self.metric, who, runs, noise, self.note)).strip()


Exact: TypeAlias = Callable[[stats.Arms, Floats], tuple[float, Floats, Floats]]


class Window:
    """Between which values the largest |t| decides without the exact critical value.

    That value takes a tenth of a second, and varies little between repetitions of one line: the
    first ones tell how little, and only where the largest |t| is near it is it computed again.
    """

    def __init__(self) -> None:
        self.seen: list[float] = []

    def undecided(self, value: float) -> bool:
        """Return whether the exact critical value has to be asked."""
        if len(self.seen) < FIRST:
            return True
        low, high = min(self.seen), max(self.seen)
        room = 0.01 * high + (high - low)
        return low - room < value < high + room

    def above(self, value: float) -> bool:
        """Return the decision of a value that is not undecided."""
        return value > max(self.seen)


def grid(line: Line, rng: np.random.Generator, windows: dict[str, Window]) -> Measures:
    """Return one grid: arms that are worth nothing, and one that is truly better."""
    first = shift_for(line.auc, line.noise, line.restless[0])
    null = shift_for(line.auc, line.noise, line.restless[1])
    sign = -1.0 if line.metric in ("brier", "log_loss") else 1.0
    size = truth(line.metric, shift_for(line.auc + GAIN, line.noise), line.noise)
    effect = sign * abs(size - truth(line.metric, shift_for(line.auc, line.noise), line.noise))
    if line.restless == (1.0, 1.0):
        better = shift_apart(line.metric, null, effect, line.noise)
    else:
        better = shift_for(line.auc + GAIN, line.noise, line.restless[1])
    shift = np.array([first, *[null] * line.arms, better])
    own = np.array([line.restless[0], *[line.restless[1]] * (line.arms + 1)])
    drawn = draw(rng, line.patients, line.noise, shift, _seeds(line, line.arms + 2), own)
    influence = _influence(line, drawn)
    nothing = _arms(influence, drawn, np.arange(line.arms + 1))
    something = _arms(influence, drawn, np.delete(np.arange(line.arms + 2), 1))
    true = np.zeros(line.arms)
    tests = _against_first(nothing)
    missed = np.array([not _covers(test, 0.0) for test in tests])
    true[-1] = effect
    last = _against_first(something)
    groups = [influence.estimate[drawn.arm == k] for k in range(line.arms + 1)]
    case, window = nothing.case, windows.setdefault("max-T", Window())
    weights = np.column_stack([-np.ones(line.arms), np.eye(line.arms)])
    return {
        "claims": _any_missed(nothing, weights, 0 * true, window, _max_t),
        "covers_none": 1 - float(missed.mean()),
        "covers_gain": float(_covers(last[-1], effect)),
        "together": 1 - _any_missed(something, weights, true, window, _max_t),
        "seeds_only": _seeds_only(groups, windows.setdefault("seeds", Window())),
        "seed_sd": math.sqrt(nothing.pooled_seed_variance),
        "case_sd": math.sqrt(max(0.0, case[0, 0] + case[1, 1] - 2 * case[0, 1])),
    }


def twin(line: Line, rng: np.random.Generator, windows: dict[str, Window]) -> Measures:
    """Return a grid whose arms gain over the baseline what their twins gain: nothing of images.

    Four arms (psi) share a twin (ratio), so a grid of 12 has 3 twins.
    """
    steps = shift_for(line.auc + GAIN, line.noise)
    twins = max(1, line.arms // 4)
    shift = np.array([shift_for(line.auc, line.noise), *[steps] * (line.arms + twins)])
    drawn = draw(rng, line.patients, line.noise, shift, _seeds(line, shift.size))
    influence = _influence(line, drawn)
    arms = stats.arms_of(influence, drawn.arm)
    places = np.arange(line.arms)
    weights = np.zeros((line.arms, shift.size))
    weights[places, 1 + places], weights[places, 1 + line.arms + places % twins] = 1, -1
    tests = [stats.contrast(arms, row) for row in weights]
    grid_of = _arms(influence, drawn, np.arange(line.arms + 1))
    first = np.column_stack([-np.ones(line.arms), np.eye(line.arms)])
    none = np.zeros(line.arms)
    return {
        "level": float(np.mean([test.p_value <= ALPHA for test in tests])),
        "claims": _any_missed(
            arms, weights, none, windows.setdefault("twins", Window()), _contrasts
        ),
        "against_baseline": _any_missed(
            grid_of, first, none, windows.setdefault("max-T", Window()), _max_t
        ),
    }


def two(line: Line, rng: np.random.Generator, _: dict[str, Window]) -> Measures:
    """Return two recipes without a grid around them, the second one of no worth, and foils."""
    shift = np.full(2, shift_for(line.auc, line.noise))
    drawn = draw(rng, line.patients, line.noise, shift, _seeds(line, 2))
    a, b = (_influence(line, _runs(drawn, drawn.arm == k)) for k in (1, 0))
    one = [drawn.score[drawn.arm == k][0] for k in (1, 0)]
    images = _influence(line, drawn, by_image=True)
    return {
        "nested": float(stats.nested(a, b).test.p_value <= ALPHA),
        "pooled": float(stats.contrast(_of_runs(line, drawn), [-1, 1]).p_value <= ALPHA),
        "welch": float(stats.welch(a.estimate, b.estimate).p_value <= ALPHA),
        "one_run": float(
            stats.delong(drawn.y, one[0], one[1], group=drawn.group).p_value <= ALPHA
        ),
        "images": float(stats.contrast(stats.arms_of(images, drawn.arm), [-1, 1]).p_value <= ALPHA)
        if line.patients.images > 1
        else math.nan,
    }


def replacement(line: Line, rng: np.random.Generator, _: dict[str, Window]) -> Measures:
    """Return the steps of the test of retention, each where its claim is just not true.

    Arms: full, removed, removed reals that bring nothing (as good as full), fakes that keep half
    of what the reals bring, fakes that keep 0.9 of it.
    """
    gain, half = 0.04, 0.5
    kept = (0.0, half, 0.9)
    low = line.auc - gain
    aucs = [line.auc, low, line.auc, *[low + share * gain for share in kept[1:]]]
    shift = np.array([shift_for(auc, line.noise) for auc in aucs])
    drawn = draw(rng, line.patients, line.noise, shift, _seeds(line, shift.size))
    arms = _of_runs(line, drawn)
    idle = stats.retention(arms, full=0, replaced=4, removed=2)
    just = stats.retention(arms, full=0, replaced=3, removed=1, fraction=half)
    good = stats.retention(arms, full=0, replaced=4, removed=1, fraction=half)
    margin = stats.non_inferiority(arms, arm=3, reference=0, margin=(1 - half) * gain)
    return {
        "assay": float(idle.sensitive),
        "kept": float(just.p_retention <= ALPHA / 2),
        "retained": float(just.retained),
        "share": float(good.share_low <= kept[2] <= good.share_high),
        "margin": float(margin.p_noninferior <= ALPHA),
        "sensitive": float(just.sensitive),
        "power": float(good.retained),
    }


STUDIES: Mapping[str, Study] = {
    "grid": grid,
    "twin": twin,
    "two": two,
    "replacement": replacement,
}


def run_part(line: Line, part: int, repetitions: int) -> dict[str, list[float]]:
    """Return each measure of so many repetitions of a line, as a list.

    The draws follow from the line's name and the part's number alone, so that a table can be made
    again, in any order and by any number of processes.
    """
    rng = np.random.default_rng([int.from_bytes(line.name.encode(), "big"), part])
    windows: dict[str, Window] = {}
    rows = [STUDIES[line.study](line, rng, windows) for _ in range(repetitions)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def means_of(parts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, float]]:
    """Return the mean of each measure over all parts and its Monte Carlo standard error."""
    found = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        found[name] = (float(values.mean()), float(values.std() / math.sqrt(values.size)))
    return found


def _seeds(line: Line, arms: int) -> np.ndarray:
    return np.array([line.baseline or line.seeds] + [line.seeds] * (arms - 1))


def _influence(line: Line, drawn: Drawn, *, by_image: bool = False) -> stats.Influence:
    score = drawn.score if line.metric == "auc" else drawn.probability
    group = None if by_image else drawn.group
    return stats.influence_of(line.metric, drawn.y, score, group=group)


def _runs(drawn: Drawn, chosen: np.ndarray) -> Drawn:
    return Drawn(y=drawn.y, group=drawn.group, score=drawn.score[chosen], arm=drawn.arm[chosen])


def _of_runs(line: Line, drawn: Drawn) -> stats.Arms:
    return stats.arms_of(_influence(line, drawn), drawn.arm)


def _arms(influence: stats.Influence, drawn: Drawn, kept: np.ndarray) -> stats.Arms:
    """Return these arms of a drawn set, in order."""
    chosen = np.isin(drawn.arm, kept)
    part = stats.Influence(
        metric=influence.metric,
        estimate=influence.estimate[chosen],
        factors=influence.factors[chosen],
        n_images=influence.n_images,
        n_patients=influence.n_patients,
        reason=influence.reason,
    )
    return stats.arms_of(part, np.searchsorted(kept, drawn.arm[chosen]))


def _against_first(arms: stats.Arms) -> list[stats.TTest]:
    """Return the unadjusted test of each arm against the first."""
    tests = []
    for k in range(1, arms.mean.size):
        weights = np.zeros(arms.mean.size)
        weights[0], weights[k] = -1, 1
        tests.append(stats.contrast(arms, weights))
    return tests


def _covers(test: stats.TTest, true: float) -> bool:
    return test.ci_low <= true <= test.ci_high


def _any_missed(
    arms: stats.Arms, weights: Floats, true: Floats, window: Window, exact: Exact
) -> float:
    """Return 1 if a simultaneous interval misses its truth, else 0.

    With truths of 0 a miss is a claim: an adjusted p below 0.05.
    """
    case = positive(weights @ arms.case @ weights.T, float(np.abs(arms.case).max()))
    seed = arms.pooled_seed_variance * (weights**2 / arms.n_seeds).sum(axis=1)
    t = float((np.abs(weights @ arms.mean - true) / np.sqrt(seed + np.diag(case))).max())
    if not window.undecided(t):
        return float(window.above(t))
    critical, low, high = exact(arms, weights)
    window.seen.append(critical)
    return float(((low > true) | (high < true)).any())


def _max_t(arms: stats.Arms, _: Floats) -> tuple[float, Floats, Floats]:
    """Return the critical value and the intervals of all arms against the first."""
    found = stats.or_max_t(arms)
    return found.critical, found.ci_low, found.ci_high


def _contrasts(arms: stats.Arms, weights: Floats) -> tuple[float, Floats, Floats]:
    """Return the critical value and the intervals of these contrasts."""
    found = together(arms, weights, level=1 - ALPHA)
    return float((found.ci_high - found.estimate)[0] / found.se[0]), found.ci_low, found.ci_high


def _seeds_only(groups: list[Floats], window: Window) -> float:
    """Return 1 if Dunnett's test over seeds claims any arm; its critical value never changes."""
    if not window.seen:
        window.seen.append(stats.dunnett(groups[0], groups[1:]).critical)
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    n = np.array([group.size for group in groups])
    sd = math.sqrt(squares / (n.sum() - n.size))
    means = np.array([group.mean() for group in groups])
    t = (means[1:] - means[0]) / (sd * np.sqrt(1 / n[1:] + 1 / n[0]))
    return float(np.abs(t).max() > window.seen[0])
