"""`fgaug predict` and `fgaug replay` on a real run: the numbers of its trials, again."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from small_grid import grid, phantom_dataset

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.data.prepare import prepare
from fgaug.errors import DataError, GridError, RunError, UserError
from fgaug.grid.load import parse_space
from fgaug.runs import folder as run_folder
from fgaug.runs import results
from fgaug.runs.trial import Trial
from fgaug.study import execute, planner, replay
from fgaug.training import predict
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource

AXES = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]}


def search(root: Path, folder: Path, **changes: Any) -> RunPaths:
    """Do what a search does, in this process: one trial after the other, without Ray."""
    space = parse_space(grid(root, axes=AXES, **changes))
    planned = planner.plan(space, folder)
    (needs,) = planned.needs
    if needs.missing.count:
        sources = {label: LabelSource(kind="phantom") for label in needs.source.spec.sources}
        fill(root / "bank", needs.source.spec, sources, needs.missing)
    run_folder.note_start(planned.run, planned.space, planned.grid_cells, planned.dataset)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for cell in planned.cells:
        trial = Trial(cell, planned.sources[None], "cpu")
        for _ in trial:
            pass
        keep = space.keep_models != "none"
        results.write_trial(planned.run.trial(cell.cell_id), trial.result(keep_model=keep))
    torch.set_num_threads(threads)
    execute.prune_models(planned)
    return planned.run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("replay 'of' a run")
    phantom_dataset(root, images=80, test=0.2)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> RunPaths:
    """A run of four trials with the models of all."""
    return search(root, root / "run", keep_models="all")


@pytest.fixture
def run(trained: RunPaths, tmp_path: Path) -> RunPaths:
    """A copy of the run, to be changed."""
    return RunPaths(Path(shutil.copytree(trained.root, tmp_path / "run")))


def cell_of(run: RunPaths, mode: str = "augmentation", seed: int = 1) -> str:
    frame = results.load_results(run.root)
    return str(frame.set_index(["mode", "seed"]).loc[(mode, seed), "cell_id"])


def contents(run: RunPaths) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}


def test_models_are_kept_as_the_grid_says(root: Path, trained: RunPaths, tmp_path: Path) -> None:
    assert len(list(trained.trials.glob("*/model.safetensors"))) == 4
    best = search(root, tmp_path / "best", keep_models="best")
    frame = results.load_results(best.root).sort_values(
        ["valid_auc", "valid_loss"], ascending=[False, True]
    )
    wanted = set(frame.drop_duplicates("arm_id")["cell_id"])
    assert len(wanted) == 2
    assert {path.parent.name for path in best.trials.glob("*/model.safetensors")} == wanted
    none = search(root, tmp_path / "none")
    assert not list(none.trials.glob("*/model.*"))
    assert {path.name for path in none.trials.iterdir()} == {
        path.name for path in trained.trials.iterdir()
    }, "what is kept is no part of a cell"


def test_what_is_kept_has_three_values(root: Path) -> None:
    with pytest.raises(GridError, match="`keep_models`"):
        parse_space(grid(root, keep_models="some"))
    kept = parse_space(grid(root, keep_models="best"))
    assert parse_space(yaml.safe_load(kept.to_yaml())).keep_models == "best"


@pytest.mark.parametrize("mode", ["baseline", "augmentation"])
def test_a_saved_model_gives_the_predictions_of_its_trial(
    root: Path, trained: RunPaths, mode: str
) -> None:
    trial = trained.trial(cell_of(trained, mode))
    found = predict.predict(trial.model, root / "dataset")
    written = files.read_table(trial.predictions, RunError).to_pandas()
    assert list(found["image"]) == list(written["image_id"])
    assert list(found["label"]) == list(written["label"])
    probability = found[["p_dbp", "p_trv"]].to_numpy()
    assert np.abs(probability - written[["p_dbp", "p_trv"]].to_numpy()).max() <= 1e-6
    assert list(found["predicted"]) == [("dbp", "trv")[i] for i in probability.argmax(axis=1)]
    other = trained.trial(cell_of(trained, mode, seed=2))
    assert not np.allclose(
        predict.predict(other.model, root / "dataset")[["p_dbp"]], probability[:, :1]
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of many sizes and kinds in a folder a label."""
    folder, draw = tmp_path_factory.mktemp("sources"), np.random.RandomState(0)
    for index in range(24):
        label = ("dbp", "trv")[index % 2]
        (folder / label).mkdir(exist_ok=True)
        shape = (40 + index, 70 - index) if index % 3 else (33, 33, 3)
        pixels = draw.randint(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{index}.{'png' if index % 4 else 'bmp'}")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_prepared_as_the_training_images_were(
    tmp_path: Path, sources: Path, channels: int
) -> None:
    """The same files by way of `fgaug data prepare` give the same probabilities."""
    dataset = prepare(
        folders=sources, size=32, channels=channels, out=tmp_path / "dataset", valid=0.5
    )
    run = search_on(dataset.root, tmp_path, channels)
    model = next(run.trials.glob("*/model.safetensors"))
    by_file = predict.predict(model, sources)
    assert len(by_file) == 24
    names = [
        Path(name).relative_to(sources).with_suffix("").as_posix() for name in by_file["image"]
    ]
    by_file = by_file.assign(image=names).set_index("image")
    for split in ("valid", "train"):
        prepared = predict.predict(model, dataset.root, split=split).set_index("image")
        assert len(prepared) >= 8
        there = by_file.loc[prepared.index, ["p_dbp", "p_trv"]]
        assert np.abs(there.to_numpy() - prepared[["p_dbp", "p_trv"]].to_numpy()).max() <= 1e-6


def search_on(dataset: Path, root: Path, channels: int) -> RunPaths:
    """Train a baseline, pretrained where images have colours: there the inputs are normalised."""
    recipe = {"model": "tf_efficientnet_lite0", "pretrained": channels == 3, "batch_size": 4}
    space = parse_space(
        {
            "name": "own",
            "dataset": str(dataset),
            "axes": {"mode": ["baseline"], "seed": [1]},
            "recipe": recipe,
            "budget": {"unit": "steps", "max": 2, "evaluations": 1},
        }
    )
    planned = planner.plan(space, root / "own")
    (cell,) = planned.cells
    trial = Trial(cell, planned.sources[None], "cpu")
    for _ in trial:
        pass
    result = trial.result(keep_model=True)
    assert result.model is not None
    assert (result.model.card.mean != [0.0] * 3) == (channels == 3)
    results.write_trial(planned.run.trial(cell.cell_id), result)
    return planned.run


def test_predict_as_a_command(
    fgaug: Any, root: Path, trained: RunPaths, sources: Path, tmp_path: Path
) -> None:
    model = trained.trial(cell_of(trained)).model
    some = [sources / "dbp" / "2.png", sources / "trv"]
    code, out, err = fgaug("predict", model, *some)
    assert (code, err) == (0, "")
    frame = pd.read_csv(io.StringIO(out))
    assert list(frame) == ["image", "predicted", "p_dbp", "p_trv"]
    assert len(frame) == 13
    assert np.allclose(frame["p_dbp"] + frame["p_trv"], 1)
    pd.testing.assert_frame_equal(frame, predict.predict(model, some))
    for name, read in (("a.csv", pd.read_csv), ("a.parquet", pd.read_parquet)):
        code, out, _ = fgaug("predict", model, *some, "--out", tmp_path / name)
        assert (code, out.strip()) == (0, str((tmp_path / name).resolve()))
        pd.testing.assert_frame_equal(read(tmp_path / name), frame)
    code, out, _ = fgaug("predict", model, root / "dataset", "--split", "train")
    assert code == 0
    assert list(pd.read_csv(io.StringIO(out)))[:4] == ["image", "label", "group", "predicted"]


@pytest.mark.parametrize("patients", [True, False])
def test_predictions_carry_labels_and_patients_of_a_table(
    fgaug: Any, trained: RunPaths, sources: Path, tmp_path: Path, patients: bool
) -> None:
    """They can be compared; without patients each image is said to be taken for one."""
    model = trained.trial(cell_of(trained)).model
    named = sorted(path.relative_to(sources) for path in sources.rglob("*.*"))
    rows = [(str(path), path.parts[0], f"00{number // 3}") for number, path in enumerate(named)]
    pd.DataFrame(rows, columns=["file", "dx", "who"]).to_csv(tmp_path / "t.csv", index=False)
    given = ["--csv", tmp_path / "t.csv", "--image-col", "file", "--label-col", "dx"]
    given += ["--group-col", "who"] * patients
    out = tmp_path / "p.csv"
    code, _, err = fgaug("predict", model, sources, *given, "--out", out)
    assert code == 0, err
    frame = pd.read_csv(out, dtype=str)
    assert list(frame)[:2] == ["image", "label"]
    assert ("group" in frame) == patients
    assert frame["label"].tolist() == [name.split("/")[0] for name in frame["image"]]
    if patients:
        assert frame["group"].nunique() == 8
    plain = predict.predict(model, sources)
    assert sorted(frame["p_dbp"].astype(float)) == pytest.approx(sorted(plain["p_dbp"]))
    code, said, _ = fgaug("compare", out)
    assert code == 0
    assert ("24 images of 8 patients" in said) == patients
    assert ("24 images, each counted as its own patient" in said) != patients


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--csv", "t.csv"), "give --image-col and --label-col"),
        (("--group-col", "who"), "--group-col can be used only with --csv"),
        (("--csv", "t.csv", "--image-col", "a", "--label-col", "b"), "t.csv"),
    ],
)
def test_a_table_that_cannot_be_read(
    given: tuple[str, ...], said: str, fgaug: Any, trained: RunPaths, sources: Path
) -> None:
    model = trained.trial(cell_of(trained)).model
    code, out, err = fgaug("predict", model, sources, *given)
    assert (code, out) == (2, "")
    assert said in err


def test_predict_refuses_in_one_message(
    fgaug: Any, root: Path, trained: RunPaths, sources: Path, tmp_path: Path
) -> None:
    model, data = trained.trial(cell_of(trained)).model, root / "dataset"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = sources / "dbp" / "2.png"
    for arguments, message in (
        ((model, data, "--split", "test"), "The test set is sealed"),
        ((model, data, "--split", "all"), "--split must be valid or train, got all"),
        ((model, sources, "--split", "valid"), "--split valid works only with a prepared dataset"),
        ((model, data, sources), "is a prepared dataset. Give it without other images"),
        ((model, tmp_path / "none.png"), "no such file"),
        ((model, tmp_path / "empty"), "no images to predict"),
        ((model, good, tmp_path / "broken.png"), "--skip-broken"),
        ((model, good, "--out", "frame.xlsx"), "--out must be a .csv or .parquet file"),
        ((model, good, "--device", "tpu"), "device must be cpu"),
        ((model, good, "--device", "mps"), "device must be cpu or cuda, got mps"),
        ((model, good, "--device", "cuda:99"), "CUDA devices"),
        ((data / "dataset.json", good), "is not a .safetensors file"),
    ):
        code, out, err = fgaug("predict", *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert "Traceback" not in err
    code, out, err = fgaug("predict", model, good, tmp_path / "broken.png", "--skip-broken")
    assert code == 0
    assert out.count(".png") == 1


def test_a_dataset_prepared_otherwise_is_refused(
    trained: RunPaths, sources: Path, tmp_path: Path
) -> None:
    other = prepare(folders=sources, size=16, channels=3, out=tmp_path / "other")
    with pytest.raises(DataError, match="size 32, the dataset 16; channels 1, the dataset 3"):
        predict.predict(trained.trial(cell_of(trained)).model, other.root)


def test_files_for_a_model_of_crops_are_refused(run: RunPaths, sources: Path) -> None:
    trial = run.trial(cell_of(run))
    card = json.loads(trial.model_card.read_text(encoding="utf-8"))
    trial.model_card.write_text(json.dumps({**card, "crop_margin": 0.5}), encoding="utf-8")
    with pytest.raises(DataError, match="cropped to a box"):
        predict.predict(trial.model, sources)


@pytest.mark.parametrize(("mode", "seed"), [("baseline", 2), ("augmentation", 1)])
def test_a_cell_gives_the_same_numbers_again(trained: RunPaths, mode: str, seed: int) -> None:
    before, threads = contents(trained), torch.get_num_threads()
    replayed = replay.replay(trained.root, cell_of(trained, mode, seed))
    assert replayed.same
    assert replayed.predictions == 0
    assert replayed.row == ()
    assert {change.name for change in replayed.environment} <= {"git commit"}  # of a clone at work
    assert replayed.compared >= 20
    assert replayed.images >= 20
    assert contents(trained) == before
    assert torch.get_num_threads() == threads
    assert not list(trained.root.parent.glob("*.replay-*"))


def test_replay_as_a_command(fgaug: Any, run: RunPaths) -> None:
    cell = cell_of(run)
    code, out, _ = fgaug("replay", run.root, cell[:6])
    assert code == 0
    assert out.startswith(f"cell {cell} (augmentation psi 1 ratio 1 seed 1): same numbers (")
    tamper(run, cell, valid_auc=-0.25, best_step=1)
    environment = json.loads(run.environment.read_text(encoding="utf-8"))
    environment |= {"torch": "1.0", "git_commit": "0" * 40}
    run.environment.write_text(json.dumps(environment), encoding="utf-8")
    code, out, _ = fgaug("replay", run.root, cell)
    assert code == 1
    assert "different numbers" in out
    assert "(by 0.25)" in out
    assert "  best_step: " in out
    assert f"  torch: 1.0 in the run, {importlib.metadata.version('torch')} now" in out
    assert "  git commit: 0000" in out
    assert "predictions" not in out.split("\n", 1)[1]


def tamper(run: RunPaths, cell: str, **add: float) -> None:
    trial = run.trial(cell)
    (row,) = results.read_rows(trial)
    results.write_row(trial, {**row, **{name: row[name] + by for name, by in add.items()}})


def test_tampered_rows_and_predictions_are_found(run: RunPaths) -> None:
    cell = cell_of(run)
    tamper(run, cell, valid_loss=5e-7)
    nearly = replay.replay(run.root, cell)
    assert nearly.same
    assert [change.name for change in nearly.row] == ["valid_loss"]
    exact = replay.replay(run.root, cell, tolerance=0)
    assert [change.name for change in exact.beyond] == ["valid_loss"]
    tamper(run, cell, images_seen=1)
    assert [change.name for change in replay.replay(run.root, cell).beyond] == ["images_seen"]
    trial = run.trial(cell_of(run, seed=2))
    frame = files.read_table(trial.predictions, RunError).to_pandas()
    frame.iloc[::-1].to_parquet(trial.predictions)  # the order of the rows means nothing
    assert replay.replay(run.root, trial.root.name).predictions == 0
    frame.assign(p_dbp=frame["p_dbp"] + 0.01).to_parquet(trial.predictions)
    replayed = replay.replay(run.root, trial.root.name)
    assert not replayed.same
    assert replayed.predictions == pytest.approx(0.01)
    frame.iloc[1:].to_parquet(trial.predictions)
    assert replay.replay(run.root, trial.root.name).predictions == np.inf


def test_cells_that_cannot_be_replayed_say_why(fgaug: Any, run: RunPaths) -> None:
    cell = cell_of(run)
    for asked, message in (
        ("zzz", "has no cell zzz. Choose one of its 4 cells"),
        ("", "has no cell . Choose one of its 4 cells"),
        ("../run", "has no cell ../run"),
    ):
        code, _, err = fgaug("replay", run.root, asked)
        assert code == 2
        assert message in err
    shutil.copytree(run.trial(cell).root, run.trials / f"{cell}0")
    with pytest.raises(RunError, match="matches 2 cells"):
        replay.replay(run.root, cell)
    results.write_row(run.trial(cell), {"status": "failed", "error": "x"})
    shutil.rmtree(run.trials / f"{cell}0")
    with pytest.raises(RunError, match="has status failed"):
        replay.replay(run.root, cell)
    run.trial(cell).result.unlink()
    with pytest.raises(RunError, match="has no results yet"):
        replay.replay(run.root, cell)
    with pytest.raises(RunError, match="is not a run"):
        replay.replay(run.root / "trials", cell)
    with pytest.raises(UserError, match="CUDA devices"):
        replay.replay(run.root, cell_of(run, seed=2), device="cuda:99")


def test_a_cell_of_an_earlier_smaller_grid_is_found(run: RunPaths) -> None:
    cell = cell_of(run, seed=2)
    raw = yaml.safe_load(run.space.read_text(encoding="utf-8"))
    run.space.replace(run.space.with_suffix(".1.yaml"))
    raw["axes"]["seed"] = [7]
    run.space.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert replay.replay(run.root, cell).same


def test_a_changed_dataset_is_named(run: RunPaths, tmp_path: Path) -> None:
    other = phantom_dataset(tmp_path, images=60)
    text = yaml.safe_load(run.space.read_text(encoding="utf-8"))
    run.space.write_text(yaml.safe_dump({**text, "dataset": str(other)}), encoding="utf-8")
    with pytest.raises(RunError, match=r"no longer contains cell \w+: .* has digest \w{12}, but"):
        replay.replay(run.root, cell_of(run))


def test_a_changed_budget_is_no_longer_the_cell(run: RunPaths) -> None:
    text = run.space.read_text(encoding="utf-8")
    run.space.write_text(text.replace("max: 4", "max: 6"), encoding="utf-8")
    with pytest.raises(RunError, match=r"no longer contains cell \w+: space\.resolved\.yaml has"):
        replay.replay(run.root, cell_of(run))
