"""Points where the program is extended: a name in one table has its part in the others."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer

from fgaug import stats
from fgaug.bank import BankSpec
from fgaug.cli import app
from fgaug.core.analysis_metrics import METRICS as ANALYSIS_METRICS
from fgaug.data.prepare import PRESETS as ALL_PRESETS
from fgaug.data.presets import PRESETS, read_preset
from fgaug.errors import DataError, SnapshotError
from fgaug.grid.analysis_plan import AnalysisPlan
from fgaug.grid.generators import Generator
from fgaug.grid.space import Scheduler
from fgaug.runs.results import PER_LABEL, columns
from fgaug.stats.influence import MEASURES
from fgaug.study.tune.history import policy_of
from fgaug.training.metrics import METRICS, evaluate
from gan_worker.filling.label_generators import LabelGenerator, LabelSource, describe

KINDS = get_args(Generator.model_fields["kind"].annotation)
OF_FILES = ("stylegan2", "external")  # want a network
FOREIGN = "imported"  # made elsewhere, so refused here


def test_every_metric_is_a_column_and_every_column_is_computed() -> None:
    found = evaluate(np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]), ("a", "b"))
    per_label = {f"{name}_{label}" for name in PER_LABEL for label in "ab"}
    assert set(found) == {*METRICS, *per_label}
    assert len(set(METRICS)) == len(METRICS)


def test_every_metric_of_an_analysis_has_its_influence_and_its_column() -> None:
    assert set(ANALYSIS_METRICS) == set(MEASURES) == set(stats.METRICS)
    for name, metric in ANALYSIS_METRICS.items():
        assert AnalysisPlan(metric=name).metric == name
        known = [c for c in columns(("a", "b")) if fnmatch(c, metric.column)]
        assert known, f"{name}: result rows have no column {metric.column}"


def test_an_analysis_takes_a_metric_from_its_two_tables_alone() -> None:
    """Specificity, added before the rest is imported: no third place has to know it."""
    code = """
import numpy as np, pandas as pd
from fgaug.core.analysis_metrics import METRICS, AnalysisMetric
METRICS["specificity_macro"] = AnalysisMetric(words="macro specificity", column="specificity_*")
from fgaug.stats import influence

def ratios(y, p, threshold):
    other = ~influence._is_label(y, p)
    called, _ = influence._called(p, threshold)
    return 1.0 * (other & (called != np.arange(len(other))[:, None, None])), 1.0 * other

influence.MEASURES["specificity_macro"] = influence.Measure(ratios=ratios)
from fgaug.analysis import format
from fgaug.analysis.findings.resampled_metrics import _WeightedRatios
from fgaug.grid.analysis_plan import AnalysisPlan

plan = AnalysisPlan(metric="specificity_macro")
y, p = np.array([0, 0, 1, 2]), np.eye(3)[[0, 1, 1, 2]]
found = influence.influence_of(plan.metric, y, p[None])
weighted = _WeightedRatios(ratios, [p.astype(np.float32)], y)
again = weighted(np.ones((1, 4), np.float32), np.ones((1, 1), bool))[0]
rows = pd.DataFrame({"specificity_a": [1.0], "specificity_b": [2 / 3], "specificity_c": [1.0]})
print(format.NAMES[plan.metric], format.effect(plan.metric, 0.012, with_unit=True))
print(found.estimate.round(6), again.round(6), METRICS[plan.metric].values(rows).round(6).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "macro specificity +1.2 points",
        "[0.888889] [0.888889] [0.888889]",
    ]


def test_every_scheduler_has_a_policy_of_its_own() -> None:
    names = get_args(Scheduler.model_fields["type"].annotation)
    made = {type(policy_of(Scheduler(type=name), ())).__name__: name for name in names}
    assert sorted(made.values()) == sorted(names)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {*OF_FILES, FOREIGN}))
def test_every_kind_of_generator_makes_images(kind: str) -> None:
    assert Generator(kind=kind).kind == kind
    source = LabelSource(kind=kind)
    spec = BankSpec(size=16, channels=1, noise="seeded", sources={"dbp": describe("dbp", source)})
    images = LabelGenerator("dbp", source, spec, "cpu").generate(np.array([1, 2]), 0.7)
    assert images.shape == (2, 16, 16, 1)
    assert not np.array_equal(images[0], images[1])


def test_the_other_kinds_say_what_they_lack() -> None:
    assert {*OF_FILES, FOREIGN} < {*KINDS}
    for kind in OF_FILES:
        with pytest.raises(ValueError, match="snapshots"):
            Generator(kind=kind)
    spec = BankSpec(size=16, channels=1, noise="seeded", sources={})
    with pytest.raises(SnapshotError, match="fgaug bank import"):
        LabelGenerator("dbp", LabelSource(kind=FOREIGN), spec, "cpu")


def test_every_preset_reads_its_own_set(tmp_path: Path) -> None:
    messages = set()
    for name in PRESETS:
        with pytest.raises(DataError) as refusal:
            read_preset(name, tmp_path)
        messages.add(str(refusal.value))
    assert len(messages) == len(PRESETS), "two presets look for the same files"


def test_the_help_names_every_preset() -> None:
    command: Any = typer.main.get_command(app.app)
    for word in ("data", "prepare"):
        command = command.get_command(None, word)
    (option,) = [each for each in command.params if "--preset" in each.opts]
    words = set(option.help.replace(",", " ").rstrip(".").split())
    assert set(ALL_PRESETS) <= words
