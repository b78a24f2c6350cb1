"""Points where the program is extended: a name in one table has its part in the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer

from fgaug.bank import BankSpec
from fgaug.cli import app
from fgaug.data.prepare import PRESETS as ALL_PRESETS
from fgaug.data.presets import PRESETS, read_preset
from fgaug.errors import DataError, SnapshotError
from fgaug.grid.generators import Generator
from fgaug.grid.space import Scheduler
from fgaug.runs.results import METRICS, PER_LABEL
from fgaug.study.tune.history import policy_of
from fgaug.training.metrics import evaluate
from gan_worker.filling.label_generators import LabelGenerator, LabelSource, describe

KINDS = get_args(Generator.model_fields["kind"].annotation)
OF_FILES = ("stylegan2", "external")  # want a network
FOREIGN = "imported"  # made elsewhere, so refused here


def test_every_metric_is_a_column_and_every_column_is_computed() -> None:
    found = evaluate(np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]), ("a", "b"))
    per_label = {f"{name}_{label}" for name in PER_LABEL for label in "ab"}
    assert set(found) == {*METRICS, *per_label}
    assert len(set(METRICS)) == len(METRICS)


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
