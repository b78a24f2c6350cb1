"""The command line: what users type wrong ends in one message and exit code 2, no traceback."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_grid import grid, phantom_dataset, write_grid

from fgaug.core.files import write_json
from fgaug.core.paths import RunPaths
from fgaug.runs.results import columns, write_row


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    assert code == 2, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    phantom_dataset(root)
    return root


def test_help_without_arguments(fgaug: Any) -> None:
    code, out, _ = fgaug("--help")
    assert code == 0
    for command in ("search", "results", "report", "demo", "data", "bank"):
        assert command in out


def test_unknown_command_and_missing_argument(fgaug: Any) -> None:
    refused(fgaug("serch"), "serch")
    refused(fgaug("search"), "grid")


def test_prepare_and_audit(fgaug: Any, tmp_path: Path) -> None:
    out = tmp_path / "set"
    code, text, _ = fgaug(
        "data", "prepare", "--preset", "phantom", "--count", 40, "--size", 16, "--out", out
    )
    assert code == 0
    assert "40 images of 10 groups, 16 px" in text
    code, text, _ = fgaug("data", "audit", out)
    assert code == 0
    assert "no problems found" in text


def test_a_csv_with_every_kind_of_mistake(fgaug: Any, tmp_path: Path) -> None:
    images = tmp_path / "img"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(images / f"{name}.png")
    table = tmp_path / "labels.csv"
    table.write_text("image,label,patient\na,x,1\nb,y,2\nb,x,2\nmissing,y,3\n")
    arguments = ["--csv", table, "--images", images, "--group-col", "patient", "--size", 8]
    twice = "more than once with different labels: b"
    refused(fgaug("data", "prepare", *arguments, "--out", tmp_path / "o"), "found", twice)
    table.write_text("image,label,patient\na,x,1\nb,y,1\nc,x,1\nd,y,1\n")
    refused(fgaug("data", "prepare", *arguments, "--out", tmp_path / "o"), "patient")
    assert not (tmp_path / "o" / "manifest.parquet").exists()
    refused(
        fgaug("data", "prepare", *arguments, "--label-col", "lable", "--out", tmp_path / "o"),
        "label",
    )


def test_every_mistake_of_a_grid_at_once(fgaug: Any, prepared: Path, tmp_path: Path) -> None:
    bad = grid(
        prepared,
        axes={
            "mode": ["augmentation"],
            "truncation": [1],
            "psi": [0],
            "ratio": [-1],
            "seed": [1, 1],
        },
        pools=5,
    )
    path = tmp_path / "bad.yaml"
    path.write_text(json.dumps(bad))
    result = fgaug("search", path, "--dry-run")
    refused(
        result, "`axes.truncation`", "did you mean `psi`", "`pools`", "`pool`", "repeat", "psi` 0"
    )
    assert result[2].count("\n  - ") >= 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "nowhere"}, ["dataset", "nowhere"]),
        ({"generator": {"snapshots": {"dbp": "no.pkl", "trv": "no.pkl"}}}, ["no.pkl"]),
        ({"generator": {"snapshots": {"dbp": "no.pkl"}}}, ["no network for label `trv`"]),
        ({"pool": 5}, ["`pool` holds 5"]),
        ({"recipe": {"model": "resnet81", "pretrained": False}}, ["resnet81", "did you mean"]),
        ({"recipe": {"model": "resnet34"}}, ["no pretrained weights", "pretrained: false"]),
        (
            {"recipe": {"model": "resnet18", "pretrained": False, "augmentation": [{"Flop": {}}]}},
            ["no transform `Flop`"],
        ),
        (
            {
                "axes": {"mode": ["replacement"], "psi": [1], "ratio": [1], "seed": [1]},
                "remove": {"dbp": 5000, "trv": 1},
            },
            ["`remove` takes 5000"],
        ),
        ({"remove": {"dbp": 1}}, ["`remove` must name the labels"]),
        ({"bank": "nowhere://bucket/bank"}, ["not a valid address"]),
    ],
)
def test_what_a_grid_asks_for_and_cannot_have(
    fgaug: Any,
    prepared: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no cached weights
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    path = tmp_path / "grid.yaml"
    path.write_text(json.dumps(grid(prepared, **changes)))
    refused(fgaug("search", path, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_grid_file_that_is_none(fgaug: Any, tmp_path: Path) -> None:
    refused(fgaug("search", tmp_path / "no.yaml"), "does not exist")
    (tmp_path / "tag.yaml").write_text("name: !!python/object/apply:os.system [touch x]")
    refused(fgaug("search", tmp_path / "tag.yaml"), "tag")


def test_dry_run_prints_the_plan_and_writes_nothing(
    fgaug: Any, prepared: Path, tmp_path: Path
) -> None:
    before = sorted(p for p in prepared.rglob("*"))
    path = write_grid(tmp_path, **grid(prepared))
    code, out, _ = fgaug("search", path, "--out", tmp_path / "run", "--dry-run")
    assert code == 0
    assert "4 cells in 2 arms (baseline 2, augmentation 2)" in out
    assert "to generate" in out
    assert "disk: about" in out
    assert "time: about" in out
    assert sorted(p for p in prepared.rglob("*")) == before
    assert not (tmp_path / "run").exists()


def test_bank_arguments(fgaug: Any, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    refused(fgaug("bank", "fill", bank), "Give the fakes to generate")
    snapshot = ["--snapshot", f"a={tmp_path / 'no.pkl'}"]
    refused(fgaug("bank", "fill", bank, *snapshot, "--psi", 0, "--seeds", "1-3"), "psi")
    refused(fgaug("bank", "fill", bank, *snapshot, "--psi", 1, "--seeds", "3-1"), "3-1")
    refused(fgaug("bank", "fill", bank, *snapshot, "--psi", 1, "--seeds", "1-3"), "no.pkl")
    refused(fgaug("bank", "info", bank), "not a bank")


def test_results_in_every_format(fgaug: Any, tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    for seed, auc in ((1, 0.7), (2, 0.8)):
        row = {"cell_id": f"{seed:012x}", "arm_id": "a" * 12, "mode": "baseline", "seed": seed}
        full = {**row, "status": "ok", "valid_auc": auc, "valid_acc": auc, "valid_loss": 0.5}
        write_row(run.trial(row["cell_id"]), full)
    code, out, _ = fgaug("results", run.root, "--format", "csv")
    assert code == 0
    assert pd.read_csv(io.StringIO(out))["valid_auc"].tolist() == [0.7, 0.8]
    code, out, _ = fgaug("results", run.root, "--format", "json")
    assert [row["seed"] for row in json.loads(out)] == [1, 2]
    code, out, _ = fgaug("results", run.root, "--by", "arm", "--format", "csv")
    by_arm = pd.read_csv(io.StringIO(out))
    assert {"valid_f1_macro_mean", "valid_specificity_macro_sd"} <= set(by_arm)
    code, out, _ = fgaug("results", run.root, "--by", "arm")
    assert {"acc", "auc", "f1", "specificity"} <= set(out.replace("┃", " ").split())
    assert code == 0
    assert "0.75" in out
    refused(fgaug("results", run.root, "--by", "seed"), "--by seed pools the folds", "has none")
    refused(fgaug("results", run.root, "--by", "patient"), "cell, seed or arm, got patient")
    refused(fgaug("results", run.root, "--format", "xls"), "table, csv, json or parquet")
    refused(fgaug("results", tmp_path / "nowhere"), "not a run")
    refused(fgaug("report", run.root), "environment.json")
    write_json(run.environment, {"cells": []})
    refused(fgaug("report", tmp_path / "nowhere"), "not a run")


def test_a_table_that_is_no_text(fgaug: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(bytes(range(256)) * 20)
    table = ["--csv", tmp_path / "t.csv", "--images", tmp_path, "--size", 8]
    refused(fgaug("data", "prepare", *table, "--out", tmp_path / "o"), "Save it as CSV in UTF-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--seeds", "1-4000000000"], "at most 10000000 at once"),
        (["--psi", "nan"], "--psi: must be between"),
        (["--psi", "1e308"], "--psi: must be between"),
        (["--psi", "0"], "one image for every seed"),
        (["--size", "0"], "--size must lie from 8 to 2048 pixels, got 0"),
        (["--channels", "2"], "--channels must be 1 or 3"),
        (["--snapshot", "a=y.pkl"], "names `a` twice"),
        (["--snapshot", "../b=y.pkl"], "folder name, got '../b'"),
    ],
)
def test_fills_that_cannot_be(fgaug: Any, tmp_path: Path, changes: list[str], words: str) -> None:
    asked = ["--snapshot", "a=x.pkl", "--psi", "0.7", "--seeds", "1-3"]
    if changes[0] == "--seeds":
        asked = asked[:-2]
    refused(fgaug("bank", "fill", tmp_path / "bank", *asked, *changes), words)
    assert not (tmp_path / "bank").exists()


def test_a_class_that_a_network_lacks_is_said_before_anything_starts(
    fgaug: Any, tmp_path: Path
) -> None:
    network = Path(__file__).parent / "data" / "stylegan2" / "c.pkl"
    asked = ["--psi", "0.7", "--seeds", "1-3"]
    bank = tmp_path / "bank"
    refused(
        fgaug("bank", "fill", bank, "--snapshot", f"a={network}:9", *asked), "class 9 is requested"
    )
    refused(fgaug("bank", "fill", bank, "--snapshot", f"a={network}", *asked), "has 2 classes")
    assert not bank.exists()


def test_the_table_shows_every_axis(fgaug: Any, tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "run")
    for cell, model in (("a" * 12, "resnet18"), ("b" * 12, "resnet34")):
        row = dict.fromkeys(columns(("x", "y")), 1.0)
        text = {"cell_id": cell, "arm_id": cell, "mode": "baseline", "status": "ok"}
        write_row(run.trial(cell), {**row, **text, "recipe.model": model})
    code, out, _ = fgaug("results", run.root)
    assert code == 0
    assert "recipe.model" in out
    assert "resnet34" in out


def test_a_dry_run_with_a_pipeline(fgaug: Any, prepared: Path, tmp_path: Path) -> None:
    recipe = {**grid(prepared)["recipe"], "augmentation": [{"HorizontalFlip": {"p": 0.5}}]}
    path = write_grid(tmp_path, dataset=str(prepared / "dataset"), recipe=recipe)
    code, out, err = fgaug("search", path, "--dry-run")
    assert code == 0, err
    assert "time: about" in out
    recipe["augmentation"] = [{"Crop": {"x_max": 1000, "y_max": 1000}}]
    path = write_grid(tmp_path, dataset=str(prepared / "dataset"), recipe=recipe)
    refused(fgaug("search", path, "--dry-run"), "`recipe.augmentation` fails on an image of 32 px")


def test_a_dry_run_of_a_recipe_that_does_not_train(
    fgaug: Any, prepared: Path, tmp_path: Path
) -> None:
    recipe = {**grid(prepared)["recipe"], "learning_rate": 1e30}
    path = write_grid(tmp_path, dataset=str(prepared / "dataset"), recipe=recipe)
    code, out, err = fgaug("search", path, "--dry-run")
    assert code == 0, err
    assert "time: no estimate" in out


def test_places_that_are_taken(
    fgaug: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_grid(tmp_path, dataset=str(prepared / "dataset"))
    refused(fgaug("search", path, "--out", path), "is a file, but a run needs a folder")
    refused(fgaug("search", path, "--out", prepared / "dataset"), "is a dataset")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "file"))
    refused(fgaug("search", path, "--dry-run"), "Set FGAUG_CACHE to a writable folder")
    refused(fgaug("data", "audit", prepared / "dataset"), "Set FGAUG_CACHE to a writable folder")
