"""Classifiers saved by Keras as judges of fakes: rebuilt exactly, never run, refused if unfit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from small_bank import fill_stub
from small_grid import grid, phantom_dataset
from test_scoring import bank_of, scored

from fgaug.bank import open_bank, read_scores
from fgaug.bank.scores import scorers_of
from fgaug.core import files as core_files
from fgaug.core.paths import record_of
from fgaug.data import Dataset, open_dataset
from fgaug.errors import GridError, UserError
from fgaug.grid.load import parse_space
from fgaug.grid.space import JudgeNetwork
from fgaug.quality.scoring import score_bank
from fgaug.quality.scoring.score_bank import ScoreOptions, scorer_of
from fgaug.study import planner
from fgaug.study.scorers import judge_problems
from fgaug.training.images import Images
from fgaug.training.keras.network_file import DenseLayer, read_network
from fgaug.training.load_model import KerasFileNetwork

ATOL = 1e-3  # channels that are nearly constant pass a norm, which enlarges rounding
MADE = """
import os, sys, numpy as np, keras
L = keras.layers
os.chdir(sys.argv[1])
keras.utils.set_random_seed(3)
grey = np.random.RandomState(0).randint(0, 256, (5, 32, 32, 1)).astype(np.uint8)
answers = {}

def body():
    return keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))

def flat(last="softmax", units=2, hidden="relu"):
    b = body()
    x = L.Dropout(0.3)(L.Dense(8, activation=hidden)(L.GlobalAveragePooling2D()(b.output)))
    return keras.Model(b.input, L.Dense(units, activation=last)(x))

def norms(model):
    for each in model.layers:
        yield from norms(each) if hasattr(each, "layers") else [each] * hasattr(each, "momentum")

def save(model, *names):
    reals = np.repeat(grey, 3, 3) / 255.
    for norm in norms(model):
        norm.momentum = 0.0
    model(reals, training=True)  # the statistics of these images, so that answers differ
    for norm in norms(model):
        norm.momentum = 0.99
    for name in names:
        (model.save_weights if ".weights." in name else model.save)(name)
        answers[name] = np.asarray(model(reals, training=False))

model = flat()
model.compile("adam", "categorical_crossentropy")
save(model, "flat.h5", "flat.keras", "flat.weights.h5")
save(flat("sigmoid", 1, "tanh"), "sigmoid.h5")
tail = [L.GlobalAveragePooling2D(), L.Dense(8), L.Activation("relu"), L.Dense(2), L.Softmax()]
save(keras.Sequential([body(), *tail]), "nested.h5", "nested.keras")
input_ = L.Input((32, 32, 3))
marks = L.Lambda(lambda x: x * (2 + 0 * len(str(__import__("pathlib").Path("ran").touch()))))
last = L.Dense(2, activation="softmax")
save(keras.Model(input_, last(L.GlobalAveragePooling2D()(body()(marks(input_))))), "lambda.keras")
os.remove("ran")
scaled = [L.Input((32, 32, 3)), L.Rescaling(2.), body(), L.GlobalAveragePooling2D()]
save(keras.Sequential([*scaled, L.Dense(2, activation="softmax")]), "rescaled.h5")
np.savez("answers.npz", grey=grey, **answers)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers on MobileNet in every form that Keras saves, with its own answers."""
    folder = tmp_path_factory.mktemp("judges")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(
        [sys.executable, "-c", MADE, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(phantom_dataset(tmp_path_factory.mktemp("judged"), images=60))


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    score_bank._judges.clear()


def rebuilt(path: Path, model: str = "MobileNet", channels: int = 1) -> KerasFileNetwork:
    device = torch.device("cpu")
    asked: dict[str, Any] = {"model": model, "scaling": "unit", "size": 32, "device": device}
    return KerasFileNetwork(read_network(path), channels=channels, **asked)


def all_of(pixels: np.ndarray) -> Images:
    none = np.zeros(len(pixels), np.int64)
    return Images(sources=[pixels], source=none, row=np.arange(len(pixels)), label=none)


def judge(*labels: str, **changes: Any) -> JudgeNetwork:
    return JudgeNetwork.model_validate({"labels": labels, "model": "MobileNet", **changes})


class TestRebuilt:
    @pytest.mark.parametrize(
        ("name", "channels"),
        [
            ("flat.h5", 1),
            pytest.param("flat.keras", 3, marks=pytest.mark.slow),
            pytest.param("flat.weights.h5", 1, marks=pytest.mark.slow),
            pytest.param("nested.h5", 1, marks=pytest.mark.slow),
            ("nested.keras", 1),
            ("sigmoid.h5", 3),
        ],
    )
    def test_its_probabilities_are_those_of_keras(
        self, made: Path, name: str, channels: int
    ) -> None:
        answers = np.load(made / "answers.npz")
        expected = answers[name]
        if expected.shape[1] == 1:  # a sigmoid is the probability of the second label
            expected = np.concatenate([1 - expected, expected], axis=1)
        pixels = answers["grey"].repeat(channels, axis=3)
        found = rebuilt(made / name, channels=channels).predict(all_of(pixels))
        assert np.ptp(expected[:, 0]) > 0.05  # images differ, so equality says something
        np.testing.assert_allclose(found, expected, atol=ATOL)

    def test_a_file_describes_itself(self, made: Path) -> None:
        whole, weights = (
            read_network(made / "nested.keras"),
            read_network(made / "flat.weights.h5"),
        )
        assert whole.head == (
            DenseLayer(units=8, activation="relu"),
            DenseLayer(units=2, activation="softmax"),
        )
        assert (whole.size, whole.channels, whole.outputs) == (32, 3, 2)
        assert (weights.head, weights.size, weights.outputs) == (None, None, 2)

    def test_a_lambda_layer_does_not_run(self, made: Path) -> None:
        with pytest.raises(UserError, match=r"has Lambda 1 times, the rebuilt MobileNet 0 times"):
            rebuilt(made / "lambda.keras")
        assert not (made / "ran").exists()

    def test_other_layers_that_change_outputs_are_refused(self, made: Path) -> None:
        with pytest.raises(UserError, match="has Rescaling 1 times, the rebuilt MobileNet 0"):
            rebuilt(made / "rescaled.h5")

    def test_another_body_is_refused(self, made: Path) -> None:
        with pytest.raises(UserError, match=r"of another model .* file for `judge.model` "):
            rebuilt(made / "flat.weights.h5", model="VGG16")


class TestScores:
    def test_they_follow_the_order_of_labels(
        self, made: Path, data: Dataset, tmp_path: Path
    ) -> None:
        answers = np.load(made / "answers.npz")
        bank = bank_of(tmp_path / "bank", {("dbp", 1.0): [answers["grey"]]})
        for number, labels in enumerate((("dbp", "trv"), ("trv", "dbp"))):
            own = number  # the output of dbp
            how = ScoreOptions(
                classifier=str(made / "flat.keras"), judge=judge(*labels), device="cpu"
            )
            found = scored(bank, data, "classifier", "dbp", 1.0, how)
            expected = answers["flat.keras"]
            np.testing.assert_allclose(found["confidence"], expected[:, own], atol=ATOL)
            assert found["agrees"].tolist() == (expected.argmax(axis=1) == own).tolist()
        assert len(scorers_of(bank.store)) == 2  # two judges, as the order differs

    def test_the_command(self, made: Path, data: Dataset, tmp_path: Path, fgaug: Any) -> None:
        fill_stub(tmp_path / "bank", [("trv", 1.0, np.arange(1, 4))], 32)
        code, out, err = fgaug(
            *("bank", "score", tmp_path / "bank", "--dataset", data.root, "--device", "cpu"),
            *("--scorer", "classifier", "--classifier", made / "flat.h5"),
            *("--judge-labels", "trv,dbp", "--judge-model", "MobileNet"),
        )
        assert code == 0, err
        assert "outputs trv, dbp, 32 px, pixels / 255; training images unknown" in out
        assert "validation reals that the judge assigns to their own label: dbp" in out
        bank = open_bank(tmp_path / "bank")
        (scorer,) = scorers_of(bank.store)
        assert len(read_scores(bank.store, scorer, "trv", 1.0, [1, 2, 3])) == 3
        for asked, said in (
            (("--classifier", made / "flat.h5"), "Give --judge-labels, in the order"),
            (("--judge-labels", "a,b"), "--judge-labels describes a classifier file saved by"),
            (
                ("--classifier", made / "flat.h5", "--judge-labels", "trv,trv"),
                "--judge-labels: ",
            ),
            (
                (
                    "--classifier",
                    made / "flat.h5",
                    "--judge-labels",
                    "a,b",
                    "--judge-scaling",
                    "x",
                ),
                "--judge-scaling: ",
            ),
        ):
            code, _, err = fgaug(
                *("bank", "score", tmp_path / "bank", "--dataset", data.root),
                *("--scorer", "classifier", *asked),
            )
            assert code == 2
            assert said in err


# ---- files written here, without Keras


def layer(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": name, "config": settings}


HEAD = (
    layer("GlobalAveragePooling2D"),
    layer("Dense", units=4, activation="relu"),
    layer("Dense", units=2, activation="softmax"),
)


def classifier(
    path: Path, *head: dict[str, Any], units: int = 2, shape: Any = (None, 32, 32, 3)
) -> Path:
    """Write a `.h5` file whose configuration has an input, a convolution and a head."""
    layers = [layer("InputLayer", batch_input_shape=shape), layer("Conv2D"), *head]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(layer("Model", layers=layers))
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"conv", b"dense", b"dense_1"]
        shapes = {"conv": (3, 3, 3, 4), "dense": (4, 4), "dense_1": (4, units)}
        for name, kernel in shapes.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            inner[f"{name}/kernel:0"] = np.zeros(kernel, np.float32)
    return path


class TestFiles:
    def test_one_that_keras_2_wrote(self, tmp_path: Path) -> None:
        found = read_network(classifier(tmp_path / "x.h5", *HEAD))
        assert (found.outputs, found.size, found.channels) == (2, 32, 3)
        assert found.layers is not None
        assert found.layers["GlobalAveragePooling2D"] == 1

    @pytest.mark.parametrize(
        ("head", "said"),
        [
            ((layer("Flatten"), *HEAD[1:]), "has Flatten before its dense layers"),
            (HEAD[1:], "has no pooling layer before"),
            ((*HEAD[:2], layer("BatchNormalization"), HEAD[2]), "layer BatchNormalization in its"),
            (HEAD[:1], "has 0 dense layers"),
            ((*HEAD[:1], *HEAD[1:2] * 5), "has 5 dense layers"),
            ((*HEAD[:2], layer("Dense", units=2, activation="relu")), "have the activation relu"),
            (
                (*HEAD[:2], layer("Dense", units=2, activation="sigmoid")),
                "need softmax or linear",
            ),
            ((*HEAD[:2], layer("Dense", units=3, activation="softmax")), "has 3 outputs, its w"),
            ((*HEAD[:2], layer("Dense", units="2")), "has 2 units"),
            (
                (HEAD[0], layer("Dense", units=4, activation={"class_name": "f\x1b[2J"}), HEAD[2]),
                r"activation \{'class_name': 'f.*Known are relu",
            ),
            ((*HEAD, layer("Softmax")), "softmax, then softmax"),
        ],
    )
    def test_heads_that_are_not_rebuilt(
        self, tmp_path: Path, head: tuple[dict[str, Any], ...], said: str
    ) -> None:
        with pytest.raises(UserError, match=said) as caught:
            read_network(classifier(tmp_path / "x.h5", *head))
        assert "\x1b" not in str(caught.value)

    def test_oblong_images(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="takes images of 32 x 64 px"):
            read_network(classifier(tmp_path / "x.h5", *HEAD, shape=(None, 32, 64, 3)))

    @pytest.mark.parametrize(
        "text", ["", "[", "[1]", "null", '"x"', "[" * 100_000, '{"class_name": "Model"}', "{}"]
    )
    def test_configurations_that_are_damaged(self, tmp_path: Path, text: str) -> None:
        path = classifier(tmp_path / "x.h5", *HEAD)
        with h5py.File(path, "r+") as file:
            del file.attrs["model_config"]
            file["text"] = text  # attributes are limited to 64 kB here
            file.attrs["model_config"] = text[:60_000]
        with pytest.raises(UserError, match=r"x\.h5"):
            read_network(path)

    def test_models_nested_without_end(self, tmp_path: Path) -> None:
        inner: Any = layer("Model", layers=list(HEAD))
        for _ in range(100):
            inner = layer("Model", layers=[inner])
        with pytest.raises(UserError, match=r"x\.h5"):
            read_network(classifier(tmp_path / "x.h5", inner))

    @pytest.mark.parametrize(
        ("name", "write", "said"),
        [
            ("x.pkl", lambda path: path.write_bytes(b"x"), r"is not one of \.h5"),
            ("x.h5", lambda path: None, "is not a file"),
            ("x.h5", lambda path: path.write_bytes(b"x" * 99), "cannot be read as Keras weights"),
            ("x.keras", lambda path: path.write_bytes(b"PK\x03\x04"), "cannot be read as Keras"),
        ],
    )
    def test_files_of_another_kind(
        self, tmp_path: Path, name: str, write: Callable[[Path], Any], said: str
    ) -> None:
        write(tmp_path / name)
        with pytest.raises(UserError, match=said):
            read_network(tmp_path / name)

    def test_groups_that_contain_themselves(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "inner.h5", "w") as file:
            group = file.create_group("layers")
            group["dense"] = group
            group["dense_1"] = group
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            archive.write(tmp_path / "inner.h5", "model.weights.h5")
            archive.writestr("config.json", "{}")
        with pytest.raises(UserError, match="nested without end"):
            read_network(tmp_path / "x.keras")


class TestUnfit:
    @pytest.mark.parametrize(
        ("of", "described", "said"),
        [
            ({}, judge("benign", "dbp"), "judge's labels are benign, dbp, the dataset's dbp, trv"),
            ({"units": 3}, judge("dbp", "trv"), r"has 3 outputs for 2 labels \(dbp, trv\)"),
            ({"shape": (None, 64, 64, 3)}, judge("dbp", "trv"), "of 64 px, the dataset has 32 px"),
            ({"shape": (None, 32, 32, 1)}, judge("dbp", "trv"), "images of 1 channels"),
            ({"shape": None}, judge("dbp", "trv"), "does not state the size of its images"),
            ({"shape": None}, judge("dbp", "trv", size=64), "of 64 px, the dataset has 32 px"),
            ({}, judge("dbp", "trv", size=64), "of 32 px, not of `size` 64"),
            (
                {},
                judge("dbp", "trv", model="MobileNt"),
                "`judge.model`: keras.applications has no",
            ),
        ],
    )
    def test_judges_that_do_not_fit_the_dataset(
        self, data: Dataset, tmp_path: Path, of: dict[str, Any], described: Any, said: str
    ) -> None:
        units = of.get("units", 2)
        head = (*HEAD[:2], layer("Dense", units=units, activation="softmax"))
        path = classifier(tmp_path / "x.h5", *head, **of)
        with pytest.raises(UserError, match=said):
            scorer_of("classifier", data, ScoreOptions(classifier=str(path), judge=described))

    def test_every_problem_at_once(self, data: Dataset, tmp_path: Path) -> None:
        path = classifier(tmp_path / "x.h5", *HEAD, shape=(None, 64, 64, 1))
        how = ScoreOptions(classifier=str(path), judge=judge("a", "b", "c"))
        with pytest.raises(UserError, match=r"labels are a, b, c.*2 outputs.*64 px.*1 channels"):
            scorer_of("classifier", data, how)

    def test_one_trained_on_held_out_images(self, data: Dataset, tmp_path: Path) -> None:
        path = classifier(tmp_path / "x.h5", *HEAD)
        how = ScoreOptions(classifier=str(path), judge=judge("dbp", "trv"))
        manifest = data.manifest

        def record(split: str) -> None:
            rows = manifest.loc[manifest["split"] == split, ["sha256", "group"]]
            with core_files.atomic_write(record_of(path)) as temporary:
                rows.head(3).to_parquet(temporary)

        record("train")
        assert scorer_of("classifier", data, how).words.endswith("training images recorded")
        record("valid")
        with pytest.raises(UserError, match=r"trained on \d+ validation or test images"):
            scorer_of("classifier", data, how)

    def test_its_identity(self, data: Dataset, tmp_path: Path) -> None:
        first = classifier(tmp_path / "x.h5", *HEAD)
        other = classifier(tmp_path / "y.h5", *HEAD[:2], layer("Dropout"), HEAD[2])
        cases = [
            (first, judge("dbp", "trv")),
            (other, judge("dbp", "trv")),
            (first, judge("trv", "dbp")),
            (first, judge("dbp", "trv", scaling="model")),
            (first, judge("dbp", "trv", model="MobileNetV2")),
        ]
        digests = [
            scorer_of("classifier", data, ScoreOptions(classifier=str(path), judge=each)).digest
            for path, each in cases
        ]
        assert len(set(digests)) == len(cases)
        moved = first.rename(tmp_path / "moved.h5")
        how = ScoreOptions(classifier=str(moved), judge=judge("dbp", "trv", size=32))
        assert scorer_of("classifier", data, how).digest == digests[0]


class TestGrid:
    def judged(self, root: Path, scorers: dict[str, Any], order: str = "agrees") -> dict[str, Any]:
        axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}
        return grid(root, axes={**axes, "filter": [order]}, scorers=scorers)

    def test_cells_follow_the_judge(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(planner, "judge_problems", lambda *_: [])  # the file has no body
        path = str(classifier(tmp_path / "x.h5", *HEAD))
        ids = []
        for labels in (["dbp", "trv"], ["trv", "dbp"]):
            described = {"labels": labels, "model": "MobileNet"}
            raw = self.judged(data.root.parent, {"classifier": path, "judge": described})
            planned = planner.plan(parse_space(raw), tmp_path / "run")
            ids.append({each.cell_id for each in planned.cells})
        common = ids[0] & ids[1]
        assert len(common) == 1  # the baseline
        assert len(ids[0]) == 2

    def test_a_judge_that_is_not_rebuilt_is_refused_before_anything_is_made(
        self, made: Path, data: Dataset, tmp_path: Path
    ) -> None:
        described = {"labels": ["dbp", "trv"], "model": "MobileNet"}
        scorers = {"classifier": str(made / "lambda.keras"), "judge": described}
        raw = self.judged(data.root.parent, scorers)
        with pytest.raises(GridError, match=r"`scorers\.classifier`: .* has Lambda 1 times"):
            planner.plan(parse_space(raw), tmp_path / "run")
        unread = parse_space(self.judged(data.root.parent, scorers, "none"))
        assert judge_problems(unread, data) == []
        assert not (made / "ran").exists()

    def test_a_judge_that_does_not_fit_is_a_problem_of_the_grid(
        self, data: Dataset, tmp_path: Path
    ) -> None:
        path = str(classifier(tmp_path / "x.h5", *HEAD, shape=(None, 64, 64, 3)))
        described = {"labels": ["dbp", "trv"], "model": "MobileNet"}
        raw = self.judged(data.root.parent, {"classifier": path, "judge": described})
        with pytest.raises(GridError, match=r"`filter`: .* the dataset has 32 px"):
            planner.plan(parse_space(raw), tmp_path / "run")

    @pytest.mark.parametrize(
        ("scorers", "said"),
        [
            ({"classifier": "x.h5"}, r"does not name its labels. Add `judge: \{labels:"),
            ({"judge": {"labels": ["a", "b"]}}, "got `classifier: lite0`; drop `judge`"),
            ({"classifier": "x.h5", "judge": {}}, "scorers.judge.labels"),
            ({"classifier": "x.h5", "judge": {"labels": ["a"]}}, "scorers.judge.labels"),
            ({"classifier": "x.h5", "judge": {"labels": ["a", "a"]}}, "scorers.judge.labels"),
            (
                {"classifier": "x.h5", "judge": {"labels": ["a", "b"], "scaling": "half"}},
                "scorers.judge.scaling",
            ),
        ],
    )
    def test_mistakes(self, tmp_path: Path, scorers: dict[str, Any], said: str) -> None:
        with pytest.raises(GridError, match=said):
            parse_space(self.judged(tmp_path, scorers))
