"""Trials: every mode end to end on simulated images; rows, predictions, the sealed test set."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from fgaug.bank import BankSpec, Demand
from fgaug.data.dataset import Dataset, open_dataset
from fgaug.data.prepare import prepare
from fgaug.errors import BankError, DataError
from fgaug.grid import cells
from fgaug.grid.cells import Cell, Context
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.recipe import Recipe
from fgaug.runs import mix, trial_inputs
from fgaug.runs.reals import Reals
from fgaug.runs.results import TrialResult
from fgaug.runs.row import Exposure, TrialSources, failed_row
from fgaug.runs.trial import run_trial
from fgaug.training import images
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe

MODES = ("baseline", "augmentation", "synthetic", "replacement", "oversample", "drop")
POOL = 60
CONTRACT = """
cell_id arm_id mode psi ratio filter seed round status stopped_by error n_real n_fake n_dropped
budget_unit budget_used best_epoch best_step valid_loss valid_acc valid_auc valid_f1_macro
valid_brier valid_ece precision_dbp precision_trv recall_dbp recall_trv specificity_dbp
specificity_trv images_seen wall_s train_images_per_s peak_rss_mb peak_gpu_mb leakage
gan_saw_removed dataset_digest recipe_digest snapshots version host device started_at
"""


@dataclasses.dataclass
class Bench:
    """A small dataset, a bank of simulated fakes, and one cell of each mode."""

    dataset: Dataset
    sources: TrialSources
    cells: dict[str, Cell]

    @property
    def reals(self) -> Reals:
        return Reals(self.dataset.manifest, self.dataset.spec.labels)

    def plan(self, mode: str) -> mix.MixPlan:
        return mix.plan(self.cells[mode], self.reals, POOL)


def space_of(**changes: Any) -> Any:
    return parse_space(
        {
            "name": "trials",
            "dataset": "not used",
            "bank": "not used",
            "generator": {"kind": "phantom"},
            "pool": POOL,
            "axes": {
                "mode": ["baseline", "augmentation", "synthetic", "replacement"],
                "psi": [0.7],
                "ratio": [0.5],
                "seed": [5],
            },
            "remove": {"dbp": 3, "trv": 2},
            "controls": ["oversample", "drop"],
            "recipe": {"model": "resnet10t", "pretrained": False, "batch_size": 8},
            "budget": {"unit": "steps", "max": 4, "evaluations": 2},
            **changes,
        }
    )


def cells_of(dataset: Dataset, **changes: Any) -> dict[str, Cell]:
    """Return one cell of each mode by its name; of the oversample twins, augmentation's."""
    space = space_of(**changes)
    context = Context(
        dataset_digest=dataset.spec.digest,
        generator={"kind": "phantom"},
        pool=POOL,
        weights={space.recipe.model_dump_json(): "scratch"},
    )
    made = {}
    for cell in cells.cells_of(space, expand(space), {None: context}):
        made.setdefault(cell.mode, cell)
    return made


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("trial")
    dataset = prepare(
        preset="phantom", phantom={"images": 60}, size=32, out=root / "data", test=0.2
    )
    made = cells_of(dataset)
    reals = Reals(dataset.manifest, dataset.spec.labels)
    sources = {label: LabelSource(kind="phantom") for label in dataset.spec.labels}
    spec = BankSpec(
        size=32,
        channels=1,
        noise="seeded",
        sources={label: describe(label, source) for label, source in sources.items()},
    )
    fill(root / "bank", spec, sources, mix.demand(made.values(), {"dataset": reals}, POOL))
    return Bench(
        dataset,
        TrialSources(
            dataset=str(root / "data"),
            bank=str(root / "bank"),
            pool=POOL,
            leakage="none",
            snapshots="dbp=1 trv=2",
            dataset_digest=dataset.spec.digest,
        ),
        made,
    )


@pytest.fixture(scope="module")
def results(bench: Bench) -> dict[str, TrialResult]:
    return {mode: run_trial(bench.cells[mode], bench.sources) for mode in MODES}


@pytest.mark.parametrize("mode", MODES)
def test_a_row_has_the_contracts_columns(mode: str, results: dict[str, TrialResult]) -> None:
    row = results[mode].row
    assert [name for name in CONTRACT.split() if name not in row] == []
    assert (row["mode"], row["status"], row["stopped_by"]) == (mode, "ok", "budget")
    assert (row["budget_unit"], row["budget_used"], row["images_seen"]) == ("steps", 4, 32)
    assert row["error"] is None
    assert row["wall_s"] > 0
    assert row["train_images_per_s"] > 0
    assert row["peak_rss_mb"] > 10
    assert pd.Timestamp(row["started_at"]).tzinfo is not None
    assert all(np.isscalar(value) or value is None for value in row.values())


@pytest.mark.parametrize("mode", MODES)
def test_a_row_counts_its_images(mode: str, results: dict[str, TrialResult], bench: Bench) -> None:
    row = results[mode].row
    n = {label: bench.reals.count(label) for label in ("dbp", "trv")}
    fakes = {label: int(0.5 * count) for label, count in n.items()}
    real, added = sum(n.values()), sum(fakes.values())
    expected = {
        "baseline": (real, 0, 0),
        "augmentation": (real, added, 0),
        "synthetic": (0, added, 0),
        "replacement": (real - 5, added, 5),
        "oversample": (real + added, 0, 0),
        "drop": (real - 5, 0, 5),
    }
    assert (row["n_real"], row["n_fake"], row["n_dropped"]) == expected[mode]
    uses_fakes = mode in cells.FAKE_MODES
    assert row["psi"] == (0.7 if uses_fakes else None)
    assert row["filter"] == ("none" if uses_fakes else None)
    assert row["snapshots"] == ("dbp=1 trv=2" if uses_fakes else None)
    assert row["ratio"] == (None if mode in ("baseline", "drop") else 0.5)
    if mode in (*cells.FAKE_MODES, "oversample"):
        assert (row["n_fake_dbp"], row["n_fake_trv"]) == (fakes["dbp"], fakes["trv"])


@pytest.mark.parametrize("mode", MODES)
def test_predictions_give_the_rows_metrics_again(
    mode: str, results: dict[str, TrialResult], bench: Bench
) -> None:
    row, predictions = results[mode].row, results[mode].predictions
    truth = (predictions["label"] == "trv").to_numpy(int)
    p_trv = predictions["p_trv"].to_numpy()
    assert np.allclose(predictions["p_dbp"] + p_trv, 1, atol=1e-12)
    assert row["valid_acc"] == pytest.approx(accuracy_score(truth, p_trv > 0.5), abs=1e-6)
    assert row["valid_auc"] == pytest.approx(roc_auc_score(truth, p_trv), abs=1e-6)
    of_valid = bench.dataset.manifest.query("split == 'valid'")
    assert predictions["image_id"].tolist() == of_valid["image_id"].tolist()
    assert predictions["group"].tolist() == of_valid["group"].tolist()
    assert predictions["round"].isna().all()


@pytest.mark.parametrize("mode", MODES)
def test_the_test_set_is_predicted_and_sealed(
    mode: str, results: dict[str, TrialResult], bench: Bench
) -> None:
    sealed = results[mode].sealed
    assert sealed is not None
    of_test = bench.dataset.manifest.query("split == 'test'")
    assert len(of_test) > 0
    assert sealed["image_id"].tolist() == of_test["image_id"].tolist()
    assert np.allclose(sealed["p_dbp"] + sealed["p_trv"], 1, atol=1e-12)
    assert not any(name.startswith("test_") for name in results[mode].row)


def test_the_curve_holds_every_evaluation(results: dict[str, TrialResult]) -> None:
    curve, row = results["augmentation"].curve, results["augmentation"].row
    assert curve["step"].tolist() == [2, 4]
    assert curve["images_seen"].tolist() == [16, 32]
    best = curve.set_index("step").loc[row["best_step"]]
    assert best["valid_loss"] == row["valid_loss"] == curve["valid_loss"].min()
    assert best["valid_auc"] == row["valid_auc"]


@pytest.mark.parametrize("mode", ["baseline", "augmentation"])
def test_a_cell_is_trained_to_the_same_numbers_twice(
    mode: str, results: dict[str, TrialResult], bench: Bench
) -> None:
    np.random.seed(1)  # whatever ran before in this process
    again = run_trial(bench.cells[mode], bench.sources)
    pd.testing.assert_frame_equal(again.predictions, results[mode].predictions, check_exact=True)
    assert again.sealed is not None
    assert results[mode].sealed is not None
    pd.testing.assert_frame_equal(again.sealed, results[mode].sealed, check_exact=True)
    costs = ["wall_s", "train_images_per_s", "peak_rss_mb", "started_at"]
    rows = (pd.Series(result.row).drop(costs) for result in (again, results[mode]))
    pd.testing.assert_series_equal(*rows, check_exact=True)  # undefined metrics equal each other


def test_modes_and_seeds_give_other_numbers(results: dict[str, TrialResult], bench: Bench) -> None:
    losses = {result.row["valid_loss"] for result in results.values()}
    other = dataclasses.replace(bench.cells["baseline"], seed=6)
    losses.add(run_trial(other, bench.sources).row["valid_loss"])
    assert len(losses) == len(MODES) + 1


def test_training_images_are_those_of_the_plan(bench: Bench) -> None:
    plan, bank = bench.plan("augmentation"), trial_inputs.bank_at(str(bench.sources.bank))
    images = trial_inputs.training_images(plan, bench.dataset, bank)
    pixels = images.take(np.arange(len(images)))
    assert np.array_equal(pixels[: plan.n_real], bench.dataset.pixels()[plan.real])
    labels = bench.dataset.manifest["label"].to_numpy()[plan.real]
    assert images.label[: plan.n_real].tolist() == [int(label == "trv") for label in labels]
    start = plan.n_real
    for index, (label, z_seeds) in enumerate(plan.fakes.items()):
        here = slice(start, start + len(z_seeds))
        assert np.array_equal(pixels[here], bank.read(label, 0.7, z_seeds.tolist()))
        assert set(images.label[here].tolist()) == {index}
        start += len(z_seeds)
    assert start == len(images)


def test_training_validation_and_test_images_are_apart(bench: Bench) -> None:
    parts = [
        set(images.split_images(bench.dataset, split).row.tolist())
        for split in ("train", "valid", "test")
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(bench.dataset)
    assert set(bench.plan("oversample").real.tolist()) == parts[0]


def test_a_set_without_test_images_seals_nothing(tmp_path: Path, bench: Bench) -> None:
    data = prepare(preset="phantom", phantom={"images": 40}, size=32, out=tmp_path / "data")
    cell = cells_of(data, budget={"unit": "epochs", "max": 1})["baseline"]
    found = run_trial(cell, dataclasses.replace(bench.sources, dataset=str(tmp_path / "data")))
    assert found.sealed is None
    assert found.curve["epoch"].tolist() == [0, 1]
    assert (found.row["budget_unit"], found.row["budget_used"]) == ("epochs", 1)
    assert found.row["best_epoch"] == 1  # the frozen epoch does not compete


def test_a_dataset_prepared_anew_is_opened_anew(tmp_path: Path, bench: Bench) -> None:
    sources = dataclasses.replace(bench.sources, dataset=str(tmp_path / "data"))
    counts = []
    for n_images in (40, 80):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        data = prepare(
            preset="phantom", phantom={"images": n_images}, size=32, out=tmp_path / "data"
        )
        counts.append(run_trial(cells_of(data)["baseline"], sources).row["n_real"])
        assert counts[-1] == (open_dataset(tmp_path / "data").manifest["split"] == "train").sum()
    assert counts[0] < counts[1]


def test_a_missing_or_unfinished_bank_says_so(tmp_path: Path, bench: Bench) -> None:
    cell = bench.cells["augmentation"]
    with pytest.raises(BankError, match="not a bank"):
        run_trial(cell, dataclasses.replace(bench.sources, bank=str(tmp_path / "none")))
    shutil.copytree(str(bench.sources.bank), tmp_path / "half")
    (tmp_path / "half" / "manifest.json").unlink()
    with pytest.raises(BankError, match="unfinished"):
        run_trial(cell, dataclasses.replace(bench.sources, bank=str(tmp_path / "half")))


def test_a_missing_dataset_says_so(tmp_path: Path, bench: Bench) -> None:
    gone = dataclasses.replace(bench.sources, dataset=str(tmp_path / "none"))
    with pytest.raises(DataError, match="does not exist"):
        run_trial(bench.cells["baseline"], gone)


def test_a_bank_may_be_given_as_a_uri_and_may_grow(tmp_path: Path, bench: Bench) -> None:
    cell, root = bench.cells["augmentation"], tmp_path / "a bank"
    shutil.copytree(str(bench.sources.bank), root)
    sources = dataclasses.replace(bench.sources, bank=root.as_uri())
    before = run_trial(cell, sources)
    more = {label: LabelSource(kind="phantom") for label in ("dbp", "trv")}
    demand = Demand.of([(label, 0.7, np.arange(1, POOL + 1)) for label in more])
    grown = fill(root, trial_inputs.bank_at(str(root)).spec, more, demand)
    assert len(grown.index()) == 2 * POOL
    assert grown.index()["shard"].nunique() > 2
    pd.testing.assert_frame_equal(
        run_trial(cell, sources).predictions, before.predictions, check_exact=True
    )


@pytest.mark.parametrize(
    ("mode", "seen", "unknown", "noted"),
    [
        ("replacement", True, False, True),
        ("replacement", True, True, True),
        ("replacement", False, True, None),
        ("replacement", False, False, False),
        ("drop", True, True, False),
        ("augmentation", True, True, False),
    ],
)
def test_removed_images_that_the_gan_saw_are_noted(
    mode: str, seen: bool, unknown: bool, noted: bool | None, bench: Bench
) -> None:
    every = frozenset(bench.dataset.manifest.index)
    exposure = Exposure(
        seen=every if seen else frozenset(), unknown=every if unknown else frozenset()
    )
    sources = dataclasses.replace(bench.sources, exposure=exposure)
    assert run_trial(bench.cells[mode], sources).row["gan_saw_removed"] is noted


def test_a_failed_cell_has_a_row(bench: Bench) -> None:
    cell = bench.cells["augmentation"]
    row = failed_row(cell, bench.sources, "x" * 50_000)
    assert (row["status"], row["stopped_by"], row["cell_id"]) == ("failed", "error", cell.cell_id)
    assert row["error"] == "x" * 20_000 + "... (cut)"
    assert not math.isnan(row["psi"])


def test_recipes_are_told_apart_in_a_row(bench: Bench, results: dict[str, TrialResult]) -> None:
    cell = bench.cells["baseline"]
    other = dataclasses.replace(cell, recipe=Recipe(**{**dict(cell.recipe), "dropout": 0.1}))
    digests = {results[mode].row["recipe_digest"] for mode in MODES}
    digests.add(run_trial(other, bench.sources).row["recipe_digest"])
    assert len(digests) == 2
