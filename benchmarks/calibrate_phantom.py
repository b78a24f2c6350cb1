"""Fakes whose worth is known, through real training: does the verdict say it?  [phantom] -> table

Simulated heads, few to train on and many to validate, each patient on a machine of its own, as the
simulator's fakes are. Copies of the training images are worth nothing beyond training steps, fresh
draws are as good as more patients, and fresh draws with shuffled labels do harm. Of twice as many
training images the AUC is .96 without a single fake, which leaves too little room to see a gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from calibrate_table import figure, markdown
from PIL import Image
from rich.console import Console

import fgaug
from fgaug.analysis.findings.analysis import Analysis, analyse
from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.format import BETTER, THESE_ONLY, WORSE
from fgaug.bank.import_images import import_folders
from fgaug.bank.seed_files import LabelFolder
from fgaug.data import Dataset, draw_image
from fgaug.data.prepare import prepare
from fgaug.data.reading.source_image import read_image
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.load import parse_space

DATASETS = (1, 2, 3)  # seeds of simulated patients, a search each
SIZE, IMAGES, VALID = 32, 800, 0.98  # pixels; some 16 images train, the others validate
RATIO, POOL, SEEDS, STEPS = 24, 400, 5, 240
FIRST_SEED = 10**6  # of the draws with shuffled labels

# kind -> what has to be said of it against its twin, and what it is
EXPECTED: Mapping[str, tuple[str, str]] = {
    "copies": ("no gain", "copies of the training images"),
    "fresh": ("better", "fresh draws of the simulator"),
    "shuffled": ("worse", "fresh draws, labels shuffled"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was said of one arm of one dataset."""

    dataset: int
    fakes: str  # a key of EXPECTED
    verdict: str  # against the twin
    mean: float  # AUC
    twin: float  # difference to the twin, AUC
    ci_low: float  # simultaneous
    ci_high: float
    p_value: float  # adjusted, new patients (E2)
    baseline: float  # difference to the baseline
    p_baseline: float

    @property
    def complaint(self) -> str | None:
        """Return what is wrong, or None."""
        expected = EXPECTED[self.fakes][0]
        gained = self.verdict in (BETTER, THESE_ONLY)
        right = {
            "no gain": not gained,
            "better": self.verdict == BETTER,
            "worse": self.verdict == WORSE,
        }[expected]
        said = f"phantom {self.dataset}, {self.fakes}: `{self.verdict}`, expected {expected}"
        return None if right else said


def run(root: Path, only: str = "") -> list[Answer]:
    """Return the answers of all datasets, trained below `root`, where finished trials stay.

    Args:
        root: a folder.
        only: takes the datasets with these words in `phantom 1`, `phantom 2`, ...
    """
    chosen = [seed for seed in DATASETS if only in f"phantom {seed}"]
    return [
        answer
        for seed in chosen
        for answer in answers(seed, search(root / f"phantom-{seed}", seed))
    ]


def search(
    root: Path,
    seed: int,
    *,
    images: int = IMAGES,
    seeds: int = SEEDS,
    steps: int = STEPS,
    model: str = "resnet10t",
) -> Analysis:
    """Return what `fgaug` finds in the search of one dataset below `root`."""
    drawn = {"images": images, "seed": seed, "images_per_patient": 2, "machines": images}
    drawn["label_noise"] = 0.0
    dataset = prepare(
        out=root / "dataset", size=SIZE, preset="phantom", phantom=drawn, valid=VALID
    )
    if not (root / "banks").is_dir():
        for name in ("copies", "shuffled"):
            import_bank(root, name, dataset)
    space = parse_space(
        {
            "name": f"phantom-{seed}",
            "dataset": str(root / "dataset"),
            "pool": POOL,
            "axes": {
                "mode": ["augmentation"],
                "psi": [1.0],
                "ratio": [RATIO],
                "seed": list(range(1, seeds + 1)),
                "snapshot": [
                    {
                        "name": name,
                        "bank": str(root / "banks" / name),
                        "generator": {"kind": "phantom" if name == "fresh" else "imported"},
                    }
                    for name in EXPECTED
                ],
            },
            "controls": ["oversample"],
            "recipe": {
                "model": model,
                "pretrained": False,
                "learning_rate": 0.01,
                "lr_mult": 1,
                "augmentation": "fastai",
                "batch_size": 32,
            },
            "budget": {"unit": "steps", "max": steps, "evaluations": 2},
            "resources": {"cpu": 1, "gpu": 0},
        }
    )
    fgaug.search(space, root / "run", dashboard=False, console=Console(stderr=True))
    return analyse(load_evidence(root / "run"), AnalysisPlan(contrast="twin"))


def import_bank(root: Path, name: str, dataset: Dataset) -> None:
    """Import POOL images a label: of the training set, over and over, or with shuffled labels."""
    pixels, table = dataset.pixels(), dataset.manifest
    rng = np.random.default_rng(FIRST_SEED)
    folders = []
    for number, label in enumerate(dataset.spec.labels):
        own = np.flatnonzero((table["split"] == "train") & (table["label"] == label))
        folder = root / "png" / name / label
        folder.mkdir(parents=True)
        for z_seed, place in enumerate(islice(cycle(own), POOL), start=1):
            if name == "copies":
                image = pixels[place]
            else:
                seed = FIRST_SEED + number * POOL + z_seed
                image = draw_image(str(rng.choice(dataset.spec.labels)), seed, size=SIZE)
            Image.fromarray(image[..., 0]).save(folder / f"seed{z_seed:05d}.png")
        folders.append(LabelFolder(label=label, folder=folder))
    import_folders(root / "banks" / name, folders, 1.0, read_image)


def answers(seed: int, found: Analysis) -> list[Answer]:
    """Return what was said of each kind of fakes."""
    compared = found.comparisons[found.comparisons["metric"].eq("auc")]
    rows = compared.set_index(["arm_id", "against"])
    verdict = found.verdicts.set_index("arm_id")["verdict"]
    given = []
    for fakes in EXPECTED:
        names = found.arms[found.arms["mode"].eq("augmentation")].set_index("arm_id")["sheet"]
        (arm_id,) = names[names.str.contains(fakes)].index
        twin, baseline = rows.loc[(arm_id, "twin")], rows.loc[(arm_id, "baseline")]
        given.append(
            Answer(
                dataset=seed,
                fakes=fakes,
                verdict=str(verdict[arm_id]),
                mean=float(twin["mean"]),
                twin=float(twin["effect"]),
                ci_low=float(twin["ci_low"]),
                ci_high=float(twin["ci_high"]),
                p_value=float(twin["p_value"]),
                baseline=float(baseline["effect"]),
                p_baseline=float(baseline["p_value"]),
            )
        )
    return given


def section(given: Sequence[Answer]) -> str:
    """Return the section of the page, Markdown."""
    if not given:
        return ""
    rows = [
        [
            str(answer.dataset),
            EXPECTED[answer.fakes][1],
            EXPECTED[answer.fakes][0],
            f"{answer.verdict}{' *outside*' if answer.complaint else ''}",
            f"{answer.mean:.3f}",
            f"{_points(answer.twin)} ({_points(answer.ci_low)} to {_points(answer.ci_high)})",
            _p(answer.p_value),
            _points(answer.baseline),
            _p(answer.p_baseline),
        ]
        for answer in given
    ]
    heads = (
        "dataset",
        "fakes",
        "expected",
        "verdict",
        "AUC",
        "points over the twin (95%)",
        "p",
        "over the baseline",
        "p",
    )
    return f"{WORDS}\n\n{markdown(heads, rows)}\n"


WORDS = f"""## Fakes whose worth is known

Real trainings on {len(DATASETS)} sets of {IMAGES} simulated ultrasound heads of {SIZE} px,
{100 * (1 - VALID):.0f}% of the patients to train on and the others to validate; {RATIO} fakes a
real image, {STEPS} steps of a resnet10t from scratch, {SEEDS} seeds an arm. Judged as any run
is, by AUC against the twin of repeated reals, on new patients (E2), adjusted for all arms of a
dataset."""


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else figure(value, None, 4)
