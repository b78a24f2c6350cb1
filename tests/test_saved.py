"""Models on disk: written whole with a card, read back, refused where hostile, pruned by arm."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from test_trial import Bench, bench

from fgaug.core.paths import RunPaths, TrialPaths
from fgaug.errors import UserError
from fgaug.runs import results
from fgaug.runs.results import TrialResult
from fgaug.runs.trial import Trial
from fgaug.training import saved_model
from fgaug.training.load_model import load_classifier

__all__ = ["bench"]  # a fixture

CPU = torch.device("cpu")


def trained(bench: Bench, mode: str = "augmentation") -> Trial:
    trial = Trial(bench.cells[mode], bench.sources, "cpu")
    for _ in trial:
        pass
    return trial


@pytest.fixture(scope="module")
def result(bench: Bench) -> TrialResult:
    return trained(bench).result(keep_model=True)


@pytest.fixture
def model(tmp_path: Path, result: TrialResult) -> Path:
    """A model in a trial's folder."""
    trial = TrialPaths(tmp_path / "a trial")
    results.write_trial(trial, result)
    return trial.model


def test_a_model_is_kept_only_where_it_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    result = trained(bench, "baseline").result()
    assert result.model is None
    results.write_trial(TrialPaths(tmp_path), result)
    assert not list(tmp_path.glob("model.*"))


def test_the_best_weights_are_kept_to_the_last_bit(bench: Bench, tmp_path: Path) -> None:
    trial = trained(bench)
    results.write_trial(TrialPaths(tmp_path), trial.result(keep_model=True))
    kept = load_file(tmp_path / "model.safetensors")
    best = trial.training.kept
    assert set(kept) == set(best)
    for name, value in best.items():
        assert np.array_equal(kept[name], value.numpy()), name
        assert kept[name].shape == tuple(value.shape)
    assert {str(value.dtype) for value in kept.values()} == {"float32", "int64"}


def test_the_card_says_what_the_tensors_mean(
    bench: Bench, result: TrialResult, model: Path
) -> None:
    card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    row, spec = result.row, bench.dataset.spec
    assert (card["schema_version"], card["labels"]) == (1, ["dbp", "trv"])
    assert (card["size"], card["channels"], card["crop_margin"]) == (32, 1, None)
    assert (card["mean"], card["std"]) == ([0.0] * 3, [1.0] * 3)  # from scratch
    assert (card["recipe"]["model"], card["recipe"]["weights"]) == ("resnet10t", "scratch")
    assert card["cell"] == "augmentation psi 0.7 ratio 0.5 seed 5"
    assert card["dataset_digest"] == spec.digest
    for name in ("cell_id", "recipe_digest", "version"):
        assert card[name] == row[name]
    assert card["metrics"] == {k: v for k, v in row.items() if k.startswith("valid_")}
    assert card["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert str(bench.dataset.root) not in json.dumps(card)


def test_metrics_that_are_undefined_are_null(bench: Bench) -> None:
    trial = trained(bench)
    row = {**trial.result().row, "valid_auc": math.nan}
    kept = saved_model.taken(trial.learner.weights(), bench.dataset.spec, {}, row, "a cell")
    assert kept.card.metrics["valid_auc"] is None
    assert json.loads(json.dumps(kept.card.model_dump(), allow_nan=False))


def test_a_model_is_read_back(result: TrialResult, model: Path) -> None:
    assert saved_model.read(model) == result.model


def test_loading_leaves_the_random_numbers_of_the_process_alone(model: Path) -> None:
    before = torch.get_rng_state()
    load_classifier(saved_model.read(model), CPU)
    assert torch.equal(before, torch.get_rng_state())


def changed_card(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        path = model.with_suffix(".json")
        card = json.loads(path.read_text(encoding="utf-8"))
        change(card)
        path.write_text(json.dumps(card), encoding="utf-8")

    return damage


def written(name: str, data: bytes) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model.parent / name).write_bytes(data)

    return damage


def changed_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Other tensors, with a card that names their digest."""

    def damage(model: Path) -> None:
        tensors = dict(load_file(model))
        change(tensors)
        with_digest(model, save(tensors))

    return damage


def with_digest(model: Path, data: bytes) -> None:
    model.write_bytes(data)
    changed_card(lambda card: card.update(sha256=hashlib.sha256(data).hexdigest()))(model)


CARDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda model: model.with_suffix(".json").unlink(), "is missing"),
    "empty": (written("model.json", b""), "cannot be read as JSON"),
    "binary": (written("model.json", b"\xff\x00"), "cannot be read as JSON"),
    "deep": (written("model.json", b"[" * 100_000), "is not a model's card"),
    "large": (written("model.json", b" " * (1 << 21)), "too large for a card"),
    "a list": (written("model.json", b"[]"), "is not a model's card"),
    "another version": (changed_card(lambda c: c.update(schema_version=2)), "`schema_version`"),
    "unknown key": (changed_card(lambda c: c.update(run="rm -rf")), "`run`: Extra inputs"),
    "no labels": (changed_card(lambda c: c.pop("labels")), "`labels`: Field required"),
    "one label twice": (changed_card(lambda c: c.update(labels=["a", "a"])), "same name"),
    "a label more": (changed_card(lambda c: c["labels"].append("x")), "with 3 labels"),
    "huge size": (changed_card(lambda c: c.update(size=10**9)), "`size`"),
    "size as text": (changed_card(lambda c: c.update(size="32")), "`size`"),
    "unshowable label": (changed_card(lambda c: c.update(labels=["a", "\x1b[2J"])), "unprintable"),
    "unshowable key": (changed_card(lambda c: c.update({"\x1b[2J": 1})), "`?[2J`"),
    "endless network": (
        changed_card(lambda c: c["recipe"].update(model="x" * 9**5)),
        "there is no network",
    ),
    "no such network": (changed_card(lambda c: c["recipe"].update(model="x" * 9)), "neither"),
    "a hub's network": (
        changed_card(lambda c: c["recipe"].update(model="hf-hub:some/one")),
        "neither torchvision's resnets nor timm",
    ),
    "another network": (
        changed_card(lambda c: c["recipe"].update(model="resnet14t")),
        "do not fit resnet14t",
    ),
    "unknown recipe": (changed_card(lambda c: c["recipe"].update(optimiser="x")), "`optimiser`"),
    "mean of another": (changed_card(lambda c: c.update(mean=[0.5] * 3)), "different `mean`s"),
    "std of zero": (changed_card(lambda c: c.update(std=[0.0] * 3)), "`std.0`"),
    "NaN": (changed_card(lambda c: c.update(mean=[math.nan] * 3)), "`mean.0`"),
}
TENSORS: dict[str, tuple[Callable[[Path], None], str]] = {
    "torn": (lambda m: m.write_bytes(m.read_bytes()[:-10]), "describes tensors"),
    "no safetensors": (lambda m: with_digest(m, b"\x80\x04pickle"), "not a valid safetensors"),
    "empty": (lambda m: with_digest(m, b""), "not a valid safetensors"),
    "huge header": (
        lambda m: with_digest(m, (2**60).to_bytes(8, "little") + b"{}"),
        "not a valid safetensors",
    ),
    "one lacking": (changed_tensors(lambda t: t.pop("mean")), "mean is None"),
    "one too many": (
        changed_tensors(lambda t: t.update(more=np.zeros(1, np.float32))),
        "the network has None",
    ),
    "another shape": (
        changed_tensors(lambda t: t.update(mean=np.zeros((1, 1), np.float32))),
        "do not fit resnet10t",
    ),
    "another type": (
        changed_tensors(lambda t: t.update(mean=t["mean"].astype(np.float16))),
        "mean is float16",
    ),
    "not numbers": (
        changed_tensors(lambda t: t.update(mean=t["mean"] * np.float32(math.nan))),
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize(("damage", "message"), CARDS.values(), ids=CARDS)
def test_a_hostile_card_is_one_error(
    model: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(model)
    with pytest.raises(UserError) as caught:
        load_classifier(saved_model.read(model), CPU)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("damage", "message"), TENSORS.values(), ids=TENSORS)
def test_hostile_tensors_are_one_error(
    model: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(model)
    with pytest.raises(UserError) as caught:
        load_classifier(saved_model.read(model), CPU)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["model.json", "none.safetensors", "."])
def test_what_is_no_model_says_so(model: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"Give the model\.safetensors of a trial"):
        saved_model.read(model.parent / name)


def finished(run: RunPaths, cell_id: str, **row: Any) -> TrialPaths:
    trial = run.trial(cell_id)
    trial.root.mkdir(parents=True)
    trial.model.write_bytes(b"tensors")
    trial.model_card.write_text("{}", encoding="utf-8")
    if row:
        results.write_row(trial, {"status": "ok", **row})
    return trial


def held(run: RunPaths) -> set[str]:
    names = {path.parent.name for path in run.root.glob("trials/*/model.safetensors")}
    assert names == {path.parent.name for path in run.root.glob("trials/*/model.json")}
    return names


def test_the_best_of_an_arm_is_kept(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trials = [
        finished(run, "undefined", valid_auc=math.nan, valid_loss=0.1),
        finished(run, "worse", valid_auc=0.8, valid_loss=0.1),
        finished(run, "tied", valid_auc=0.9, valid_loss=0.3),
        finished(run, "best", valid_auc=0.9, valid_loss=0.2),
        finished(run, "without a row"),
        finished(run, "failed", status="failed", valid_auc=1.0, valid_loss=0.0),
        run.trial("not begun"),
    ]
    saved_model.keep_best(trials)
    assert held(run) == {"best", "without a row", "failed"}
    saved_model.keep_best(trials)
    assert held(run) == {"best", "without a row", "failed"}


def test_a_trial_that_lost_its_model_does_not_cost_another_its_own(tmp_path: Path) -> None:
    """A grid that kept nothing before has finished trials without models."""
    run = RunPaths(tmp_path)
    first = finished(run, "best", valid_auc=0.9, valid_loss=0.2)
    first.model.unlink()
    first.model_card.unlink()
    saved_model.keep_best([first, finished(run, "second", valid_auc=0.8, valid_loss=0.2)])
    assert held(run) == {"second"}


def test_a_damaged_row_costs_no_model(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    trials = [finished(run, str(i), valid_auc=0.5 + i / 10, valid_loss=0.2) for i in range(2)]
    trials[1].result.write_text("{", encoding="utf-8")
    saved_model.keep_best(trials)
    assert held(run) == {"0", "1"}


@pytest.mark.parametrize("drawn", range(20))
def test_the_best_is_kept_in_whatever_order_trials_end_and_are_killed(
    tmp_path: Path, drawn: int
) -> None:
    """Rows appear one by one; each process prunes then, later, or is killed before it does."""
    run, chance = RunPaths(tmp_path), random.Random(drawn)
    order = chance.sample(range(6), 6)
    trials = [run.trial(str(i)) for i in range(6)]
    for done in order:
        finished(run, str(done), valid_auc=done / 10, valid_loss=0.5)
        if chance.random() < 0.5:
            saved_model.keep_best(trials)
        ended = order[: order.index(done) + 1]
        assert str(max(ended)) in held(run)
    saved_model.keep_best(trials)  # as the driver does at the end of a search
    assert held(run) == {"5"}


def test_processes_that_prune_at_once_leave_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pair of removals in each order: what one has read, another has changed since."""
    rank = saved_model._rank
    for first, second in itertools.permutations(range(3), 2):
        run = RunPaths(tmp_path / f"{first}{second}")
        trials = [finished(run, str(i), valid_auc=i / 10, valid_loss=0.5) for i in range(3)]
        before = {trial.root.name: rank(trial) for trial in trials}
        saved_model.keep_best(
            [trials[first], trials[second]]
        )  # it has not seen the third's row yet
        with monkeypatch.context() as patch:
            patch.setattr(saved_model, "_rank", lambda trial, seen=before: seen[trial.root.name])
            saved_model.keep_best(trials)
        assert held(run) == {"2"}
