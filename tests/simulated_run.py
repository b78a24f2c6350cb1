"""Runs that never were: arms with a known worth, on patients and seeds drawn at random.

Run r of arm k (one seed) gives image i of patient g with label y the scores, one a label l,

    x_l = (worth_k + seed_r) (1[l = y] - 1 / L) + patient_gl + image_il + arm_kil + run_ril,

and their softmax as probabilities: all but `worth` normal and drawn anew. `evidence_of` makes an
`Evidence` in memory, `write_run` the folder that a search would have left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fgaug.analysis.findings.evidence import Evidence
from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.runs.results import TrialResult, write_row, write_trial
from fgaug.training.metrics import evaluate

SLOPE = 1.5  # of the softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm of a simulated grid."""

    mode: str = "baseline"
    psi: float | None = None
    ratio: float | None = None
    worth: float = 1.2  # how far its scores tell the labels apart; 1.2 is an AUC of about 0.88
    seeds: int | None = None  # None: as many as the run's arms have
    n_real: int = 400
    n_fake: int = 0
    remove: str | None = None
    real_fraction: float | None = None
    split: str | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)  # `recipe.model` and the like
    failed: int = 0  # of its seeds, the last ones
    pruned: int = 0
    missing: int = 0
    shuffled: bool = False  # trained on labels that mean nothing

    def columns(self) -> dict[str, Any]:
        """Return what a result row says of the arm."""
        further = {name: getattr(self, name) for name in ("remove", "real_fraction", "split")}
        return {
            "arm_id": _digits(repr(replace(self, seeds=None, failed=0, pruned=0, missing=0))),
            "mode": self.mode,
            "psi": self.psi,
            "ratio": self.ratio,
            "filter": "none" if self.n_fake and self.mode != "oversample" else None,
            **{name: value for name, value in further.items() if value is not None},
            **self.axes,
        }

    @property
    def arm_id(self) -> str:
        return str(self.columns()["arm_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who is judged on, and how much all that is random varies."""

    patients: int = 60
    images: int = 2  # of a patient
    labels: tuple[str, ...] = ("benign", "malignant")
    seeds: int = 4
    seed_sd: float = 0.05  # of the worth
    patient_sd: float = 0.5
    arm_sd: float = 0.2  # of an image's scores between arms
    run_sd: float = 0.2  # of an image's scores between runs
    rng: int = 0
    first_seed: int = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of a simulated run."""

    cell_id: str
    arm: Arm
    seed: int
    status: str  # ok, failed, pruned, missing
    valid: np.ndarray  # float [N, L]
    sealed: np.ndarray


def grid_of(
    psi: Sequence[float] = (0.5, 1.0),
    ratio: Sequence[float] = (1, 2),
    *,
    worth: Mapping[tuple[float, float], float] | float = 1.2,
    baseline: float = 1.2,
    twin: float | None = None,
    mode: str = "augmentation",
    n_real: int = 400,
    **of_all: Any,
) -> list[Arm]:
    """Return a baseline, its arms psi by ratio, and their twins where `twin` is their worth."""
    worths = worth if isinstance(worth, Mapping) else {}
    usual = 1.2 if isinstance(worth, Mapping) else worth
    arms = [Arm(worth=baseline, n_real=n_real, **of_all)]
    if twin is not None:
        arms += [
            Arm(mode="oversample", ratio=r, worth=twin, n_real=n_real, **of_all) for r in ratio
        ]
    return arms + [
        Arm(
            mode=mode, psi=p, ratio=r, worth=worths.get((p, r), usual),
            n_real=n_real, n_fake=int(n_real * r), **of_all,
        )
        for p in psi
        for r in ratio
    ]  # fmt: skip


def evidence_of(arms: Iterable[Arm], world: World | None = None) -> Evidence:
    """Return the evidence that a run of these arms would leave."""
    world = world or World()
    images, _, trials = _trials(arms, world)
    rows = [_row(trial, world) for trial in trials if trial.status != "missing"]
    lost = [
        {**_identity(trial), "status": "missing"} for trial in trials if trial.status == "missing"
    ]
    return Evidence(
        rows=pd.DataFrame(rows),
        labels=world.labels,
        images=images,
        probability={t.cell_id: t.valid.astype(np.float32) for t in trials if t.status == "ok"},
        missing=pd.DataFrame(
            lost, columns=None if lost else ["cell_id", "arm_id", "seed", "status"]
        ),
    )


def write_run(root: Path, arms: Iterable[Arm], world: World | None = None) -> Path:
    """Write the folder of a run of these arms, and return it."""
    world, run = world or World(), RunPaths(root)
    images, tests, trials = _trials(arms, world)
    for trial in trials:
        split = trial.arm.split or "dataset"
        if trial.status == "missing":
            continue
        if trial.status != "ok":
            write_row(run.trial(trial.cell_id), _row(trial, world))
            continue
        truth = images[split]["y"].to_numpy()
        scores = evaluate(truth, trial.valid, world.labels)
        named = {
            k if "_" in k and not k.startswith("f1") else f"valid_{k}": v
            for k, v in scores.items()
        }
        write_trial(
            run.trial(trial.cell_id),
            TrialResult(
                row={**_row(trial, world), **named},
                curve=_curve(scores),
                predictions=_predictions(images[split], trial.valid, world),
                sealed=_predictions(tests[split], trial.sealed, world),
            ),
        )
    by_arm: dict[str, dict[str, Any]] = {}
    for trial in trials:
        known = by_arm.setdefault(trial.arm.arm_id, {**trial.arm.columns(), "cells": {}})
        known["cells"][trial.cell_id] = trial.seed
    valid, test = (next(iter(of.values())) for of in (images, tests))
    sizes = {"n_train": 400, "n_valid": len(valid), "n_test": len(test)}
    environment = {
        "fgaug": "0",
        "dataset": {
            "labels": list(world.labels),
            "size": 64,
            "channels": 1,
            "digest": "0" * 64,
            **sizes,
        },
        "cells": [trial.cell_id for trial in trials],
        "arms": list(by_arm.values()),
    }
    files.write_json(run.environment, environment)
    files.write_text(run.space, yaml.safe_dump({"name": "simulated", "dataset": "data/simulated"}))
    return root


def _trials(
    arms: Iterable[Arm], world: World
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame], list[Trial]]:
    rng = np.random.default_rng(world.rng)
    arms = list(arms)
    splits = dict.fromkeys(arm.split or "dataset" for arm in arms)
    parts = {
        which: {split: _images(rng, world, f"{which}-{split}") for split in splits}
        for which in ("valid", "sealed")
    }
    shared = {
        (which, split): _shared(rng, world, frame)
        for which, frames in parts.items()
        for split, frame in frames.items()
    }
    trials = []
    for arm in arms:
        split, count = arm.split or "dataset", arm.seeds or world.seeds
        own = {
            which: shared[which, split]
            + world.arm_sd * rng.standard_normal(shared[which, split].shape)
            for which in parts
        }
        statuses = ["ok"] * (count - arm.failed - arm.pruned - arm.missing)
        statuses += ["failed"] * arm.failed + ["pruned"] * arm.pruned + ["missing"] * arm.missing
        for number, status in enumerate(statuses):
            seed = world.first_seed + number
            worth = arm.worth + world.seed_sd * rng.standard_normal()
            found = {
                which: _answers(rng, own[which], parts[which][split], worth, arm, world)
                for which in parts
            }
            cell = _digits(f"{arm.arm_id} {seed}")
            trials.append(Trial(cell_id=cell, arm=arm, seed=seed, status=status, **found))
    return parts["valid"], parts["sealed"], trials


def _images(rng: np.random.Generator, world: World, name: str) -> pd.DataFrame:
    """Return images of patients with one label each; every label has a third patient or more."""
    label = rng.permutation(np.arange(world.patients) % len(world.labels))
    group = np.repeat(np.arange(world.patients), world.images)
    return pd.DataFrame(
        {
            "image_id": [f"{name}-{number:05d}" for number in range(group.size)],
            "group": group,
            "label": [world.labels[label[g]] for g in group],
            "y": label[group].astype(np.int64),
        }
    )


def _shared(rng: np.random.Generator, world: World, images: pd.DataFrame) -> np.ndarray:
    wide = len(world.labels)
    patient = world.patient_sd * rng.standard_normal((world.patients, wide))
    image = np.sqrt(max(0.0, 1 - world.patient_sd**2)) * rng.standard_normal((len(images), wide))
    return patient[images["group"].to_numpy()] + image


def _answers(
    rng: np.random.Generator,
    own: np.ndarray,
    images: pd.DataFrame,
    worth: float,
    arm: Arm,
    world: World,
) -> np.ndarray:
    y = images["y"].to_numpy()
    if arm.shuffled:
        y = rng.permutation(y)
    hot = np.eye(len(world.labels))[y] - 1 / len(world.labels)
    score = own + worth * hot + world.run_sd * rng.standard_normal(own.shape)
    odds = np.exp(SLOPE * (score - score.max(axis=1, keepdims=True)))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _identity(trial: Trial) -> dict[str, Any]:
    return {"cell_id": trial.cell_id, **trial.arm.columns(), "seed": trial.seed}


def _row(trial: Trial, world: World) -> dict[str, Any]:
    error = "RuntimeError: out of patience" if trial.status == "failed" else None
    stopped = {"ok": "budget", "failed": "error", "pruned": "scheduler"}[trial.status]
    return {
        **_identity(trial),
        "round": None,
        "status": trial.status,
        "stopped_by": stopped,
        "error": error,
        "n_real": trial.arm.n_real,
        "n_fake": trial.arm.n_fake,
        "n_dropped": 0,
        "budget_unit": "steps",
        "budget_used": 100,
        "leakage": "none",
        **{f"n_fake_{label}": trial.arm.n_fake // len(world.labels) for label in world.labels},
        **({"rung": 1} if trial.status == "pruned" else {}),
    }


def _predictions(images: pd.DataFrame, probability: np.ndarray, world: World) -> pd.DataFrame:
    frame = images[["image_id", "group", "label"]].copy()
    for place, label in enumerate(world.labels):
        frame[f"p_{label}"] = probability[:, place]
    return frame.assign(round=pd.array([pd.NA] * len(frame), dtype="Int64"))


def _curve(scores: Mapping[str, float]) -> pd.DataFrame:
    looks = [{"epoch": n, "step": 50 * n, "frozen": n == 0, "train_loss": 1.0 / n} for n in (1, 2)]
    named = {f"valid_{name}": scores[name] for name in ("loss", "acc", "auc")}
    return pd.DataFrame(
        [{**look, **named, "images_seen": 800 * look["epoch"], "train_s": 1.0} for look in looks]
    )


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
