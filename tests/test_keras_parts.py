"""Keras without TensorFlow: recipes, names, weights' files, looks, and what crosses the pipe."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pydantic import ValidationError
from small_grid import grid, phantom_dataset

from fgaug.errors import GridError, UserError
from fgaug.grid.cells import recipe_identity
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.recipe import Budget, Recipe
from fgaug.study import planner
from fgaug.training.images import Images
from fgaug.training.keras import applications, weight_file, worker
from fgaug.training.keras.learner import FOLDS, KerasTraining, last_fold
from fgaug.training.keras.shared_images import Place, Rows, opened, rows_of


class TestRecipe:
    def test_its_defaults_are_the_sources(self) -> None:
        recipe = Recipe.model_validate({"backend": "keras"})
        assert (recipe.model, recipe.batch_size, recipe.learning_rate) == (
            "InceptionResNetV2",
            32,
            1e-3,
        )
        assert recipe.keras is not None
        assert (recipe.keras.hidden, recipe.keras.shift, recipe.keras.flip) == (1024, 0.1, True)

    def test_what_is_given_wins_and_a_dump_is_read_back(self) -> None:
        given = {"backend": "keras", "batch_size": 8, "keras": {"hidden": None, "plateau": None}}
        recipe = Recipe.model_validate(given)
        assert recipe.batch_size == 8
        assert Recipe.model_validate(recipe.model_dump()) == recipe
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
        assert Recipe.model_validate(recipe.model_dump(exclude_none=True)) == recipe

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"backend": "keras", "lr_mult": 3}, "`lr_mult` belongs to `backend: torch`"),
            ({"backend": "keras", "dropout": 0.1}, "`dropout` belongs to `backend: torch`"),
            ({"backend": "keras", "augmentation": "none"}, "`augmentation` belongs to"),
            ({"keras": {}}, "`keras` belongs to `backend: keras`"),
        ],
    )
    def test_fields_of_the_other_backend_are_refused(
        self, given: dict[str, Any], line: str
    ) -> None:
        with pytest.raises(ValidationError) as error:
            Recipe.model_validate(given)
        assert len(error.value.errors()) == 1
        assert line in str(error.value)

    def test_an_identity_has_the_fields_of_its_backend(self) -> None:
        named = {
            backend: recipe_identity(recipe, {recipe.model_dump_json(): "scratch"})
            for backend in ("torch", "keras")
            for recipe in [Recipe.model_validate({"backend": backend})]
        }
        assert "keras" not in named["torch"]
        assert not {"lr_mult", "dropout", "weight_decay", "augmentation"} & set(named["keras"])

    def test_its_fields_are_axes(self) -> None:
        axes = {
            "mode": ["baseline"],
            "seed": [1],
            "recipe.keras": [{"freeze_below": 775}, {"scaling": "model"}],
            "recipe.batch_size": [8, 16],
        }
        raw = {"name": "g", "dataset": "d", "axes": axes, "recipe": {"backend": "keras"}}
        space = parse_space(raw)
        points = expand(space)
        assert {(point.recipe.batch_size, point.value("recipe.keras")) for point in points} == {
            (size, text)
            for size in (8, 16)
            for text in ('{"freeze_below":775}', '{"scaling":"model"}')
        }


class TestKnown:
    def test_a_wrong_name_is_met_with_near_ones(self) -> None:
        assert applications.check_name("InceptionResNetV2") is None
        assert "`InceptionResNetV2`" in str(applications.check_name("inception_resnet_v2"))

    def test_without_tensorflow_a_grid_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        phantom_dataset(tmp_path)
        space = parse_space(grid(tmp_path, recipe={"backend": "keras"}))
        with pytest.raises(GridError) as error:
            planner.plan(space, tmp_path / "run")
        assert error.value.problems == (applications.NEEDS,)
        assert "pip install 'fgaug[keras]'" in applications.NEEDS

    def test_without_weights_on_this_machine_it_says_where_they_were_looked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        recipe = Recipe.model_validate({"backend": "keras"})
        with pytest.raises(GridError, match="fgaug downloads nothing"):
            applications.find(recipe)
        scratch = Recipe.model_validate({"backend": "keras", "allow_scratch": True})
        assert applications.find(scratch).identity == "scratch"

    @pytest.mark.parametrize(
        ("file", "model"),
        [
            (
                "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "InceptionResNetV2",
            ),
            ("mobilenet_1_0_224_tf_no_top.h5", "MobileNet"),
            ("resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "ResNet50V2"),
            ("efficientnetv2-b0_notop.h5", "EfficientNetV2B0"),
            ("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "MobileNetV3Small"),
        ],
    )
    def test_keras_own_cache_is_looked_into(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, model: str
    ) -> None:
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / file).write_bytes(b"weights")
        (tmp_path / "models" / file.replace("no", "").replace("_top", "")).write_bytes(b"top")
        recipe = Recipe.model_validate({"backend": "keras", "model": model})
        found = applications.find(recipe)
        assert found.path == tmp_path / "models" / file
        assert found.identity.startswith(f"imagenet:{file}:")
        other = Recipe.model_validate({"backend": "keras", "model": "MobileNetV2"})
        with pytest.raises(GridError):
            applications.find(other)


@dataclass
class Layer:
    """A layer as `weight_file` sees one."""

    name: str
    shapes: list[tuple[int, ...]]
    given: list[np.ndarray] = field(default_factory=list)

    @property
    def weights(self) -> list[np.ndarray]:
        return [np.zeros(shape) for shape in self.shapes]

    def set_weights(self, arrays: list[np.ndarray]) -> None:
        self.given = arrays


class Conv2D(Layer):
    pass


class BatchNormalization(Layer):
    pass


class InputLayer(Layer):
    pass


@dataclass
class Body:
    layers: list[Layer]


def body() -> Body:
    return Body(
        [
            InputLayer("input", []),
            Conv2D("conv2d", [(3, 3, 3, 4), (4,)]),
            BatchNormalization("batch_normalization", [(4,), (4,), (4,), (4,)]),
            Conv2D("conv2d_1", [(1, 1, 4, 2)]),
        ]
    )


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def write_keras_3(file: h5py.File, top: bool = False) -> None:
    names = ["input_layer", "conv2d", "batch_normalization", "conv2d_1"]
    for name, layer in zip(names, body().layers, strict=True):
        group = file.create_group(f"layers/{name}/vars")
        for index, shape in enumerate(layer.shapes):
            group[str(index)] = numbers(shape) + index
    if top:
        file["layers/dense/vars/0"] = numbers((2, 1000))


def write_keras_2(file: h5py.File, top: bool = False) -> None:
    names = []
    for layer in body().layers:
        names.append(f"old_{layer.name}")
        group = file.create_group(names[-1])
        inner = [f"{names[-1]}/w{index}:0" for index in range(len(layer.shapes))]
        group.attrs["weight_names"] = [each.encode() for each in inner]
        for index, (each, shape) in enumerate(zip(inner, layer.shapes, strict=True)):
            group[each] = numbers(shape) + index
    if top:
        names.append("predictions")
        file.create_group("predictions")["k"] = numbers((2, 1000))
        file["predictions"].attrs["weight_names"] = [b"k"]
    file.attrs["layer_names"] = [name.encode() for name in names]


WRITERS = {"2": write_keras_2, "3": write_keras_3}


class TestWeightFile:
    @pytest.mark.parametrize("layout", WRITERS)
    @pytest.mark.parametrize("top", [False, True])
    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
    def test_layers_are_filled_in_their_order(
        self, tmp_path: Path, layout: str, top: bool, suffix: str
    ) -> None:
        inner = tmp_path / "inner.h5"
        with h5py.File(inner, "w") as file:
            WRITERS[layout](file, top)
        path = inner if suffix == ".h5" else tmp_path / f"w{suffix}"
        if suffix == ".keras":
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(inner, "model.weights.h5")
                archive.writestr("config.json", '{"class_name": "Lambda", "module": "os"}')
        elif suffix == ".weights.h5":
            inner.rename(path)
        found = body()
        weight_file.load(path, found)
        for layer in found.layers:
            assert [each.shape for each in layer.given] == layer.shapes
            for index, each in enumerate(layer.given):
                np.testing.assert_array_equal(each, numbers(layer.shapes[index]) + index)

    @pytest.mark.parametrize("layout", WRITERS)
    def test_another_models_weights_are_refused(self, tmp_path: Path, layout: str) -> None:
        path = tmp_path / "w.h5"
        with h5py.File(path, "w") as file:
            WRITERS[layout](file)
        other = body()
        other.layers[1].shapes[0] = (5, 5, 3, 4)
        other.layers.append(BatchNormalization("batch_normalization_1", [(2,)]))
        with pytest.raises(UserError, match="2 layers differ"):
            weight_file.load(path, other)
        assert not other.layers[2].given  # nothing is copied where something is wrong

    @pytest.mark.parametrize(
        "trick", ["external link", "soft link", "external storage", "text", "nan", "torn", "empty"]
    )
    def test_hostile_files_are_refused(self, tmp_path: Path, trick: str) -> None:
        path, secret = tmp_path / "w.h5", tmp_path / "secret.h5"
        with h5py.File(secret, "w") as file:
            file["n"] = numbers((4,)) + 1
        with h5py.File(path, "w") as file:
            write_keras_3(file)
            name = "layers/conv2d/vars/1"
            del file[name]
            if trick == "external link":
                file[name] = h5py.ExternalLink(str(secret), "/n")
            elif trick == "soft link":
                file[name] = h5py.SoftLink("/layers/batch_normalization/vars/0")
            elif trick == "external storage":
                raw = tmp_path / "raw"
                raw.write_bytes(b"0" * 16)
                file.create_dataset(name, (4,), "f4", external=[(str(raw), 0, 16)])
            elif trick == "text":
                file[name] = ["a", "b", "c", "d"]
            elif trick == "nan":
                file[name] = np.full(4, np.nan, np.float32)
        if trick == "torn":
            path.write_bytes(path.read_bytes()[:900])
        if trick == "empty":
            path.write_bytes(b"")
        with pytest.raises(UserError, match="cannot be read as Keras weights"):
            weight_file.load(path, body())

    def test_an_archive_without_weights_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "w.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
        with pytest.raises(UserError, match="cannot be read as Keras weights"):
            weight_file.load(path, body())


class TestShared:
    @pytest.fixture
    def pixels(self, tmp_path: Path) -> np.ndarray:
        drawn = np.random.RandomState(0).randint(0, 256, (5000, 4, 4, 1)).astype(np.uint8)
        np.save(tmp_path / "p.npy", drawn)
        mapped: np.ndarray = np.load(tmp_path / "p.npy", mmap_mode="r")
        return mapped

    @pytest.mark.parametrize(
        "view", [slice(None), slice(3, 9), slice(4700, None), slice(None, None, 2)]
    )
    def test_no_pixel_travels_that_lies_in_a_file(self, pixels: np.ndarray, view: slice) -> None:
        plain = np.zeros((3, 4, 4, 1), np.uint8)
        seen = pixels[view]
        images = Images(
            sources=[seen, plain],
            source=np.array([0, 0, 1, 0]),
            row=np.array([len(seen) - 1, 0, 2, 1]),
            label=np.array([0, 1, 1, 0]),
        )
        rows = rows_of(images, np.array([[3, 2], [1, 0]]))
        assert isinstance(rows.sources[0], Place) == (view.step is None)
        assert not isinstance(rows.sources[1], Place)
        there = opened(rows)
        taken = there.take(np.arange(4))
        np.testing.assert_array_equal(taken, images.take(np.array([3, 2, 1, 0])))
        assert there.label.tolist() == [0, 1, 1, 0]

    def test_the_sources_fold_is_of_the_training_images(self, pixels: np.ndarray) -> None:
        none = np.zeros(95, np.int64)
        images = Images(sources=[pixels], source=none, row=np.arange(95), label=none)
        fold = last_fold(images, 1)
        assert len(set(fold.row.tolist())) == len(fold) == 95 // FOLDS
        assert fold.row.tolist() == last_fold(images, 1).row.tolist()
        assert fold.row.tolist() != last_fold(images, 2).row.tolist()


class ResourceExhaustedError(Exception):
    """Of TensorFlow, by its name."""


class TestReplies:
    """How the other process says what went wrong."""

    @staticmethod
    def reply(error: Exception, **arguments: Any) -> tuple[str, Any]:
        def answer(**given: Any) -> None:
            raise error

        return worker._reply(answer, arguments)

    def test_out_of_memory_names_the_cure(self) -> None:
        batches = np.zeros((3, 32), np.int64)
        rows = Rows(sources=[], source=batches, row=batches, label=batches)
        kind, text = self.reply(ResourceExhaustedError("OOM when allocating"), rows=rows)
        assert kind == "TrialError"
        assert "with 32 images at a time" in text
        assert "`resources.gpu`" in text
        assert "with 64 images" in self.reply(ResourceExhaustedError(), rows=rows, batch=64)[1]

    def test_refusals_keep_their_kind_and_their_problems(self) -> None:
        assert self.reply(GridError(["a", "b"])) == ("GridError", ("a", "b"))
        assert self.reply(UserError("no")) == ("UserError", "no")

    def test_what_nobody_expected_comes_with_its_trace(self) -> None:
        kind, text = self.reply(ZeroDivisionError("by zero"))
        assert kind == "RuntimeError"
        assert "in answer" in text
        assert "ZeroDivisionError: by zero" in text


class Scripted:
    """A learner whose losses are written down: what a training decides, without a network."""

    labels = ("a", "b")

    def __init__(self, losses: list[float], **keras: Any) -> None:
        given = {"backend": "keras", "batch_size": 4, "learning_rate": 1.0, "keras": keras}
        self.recipe = Recipe.model_validate(given)
        assert self.recipe.keras is not None
        self.settings = self.recipe.keras
        self.losses, self.asked = iter(losses), list[str]()
        self.rates: list[float] = []
        self.predicted: list[int] = []

    def ask(self, command: str, **arguments: Any) -> Any:
        self.asked.append(command)
        if command == "fit":
            self.rates.append(arguments["rate"])
            return 0.5, 0.1
        return None

    def predict(self, images: Images) -> np.ndarray:
        self.predicted.append(len(images))
        true = np.exp(-next(self.losses))
        own = np.full((len(images), 2), 1 - true)
        own[np.arange(len(images)), images.label] = true
        return own


def scripted(learner: Scripted, **budget: Any) -> KerasTraining:
    def images(count: int) -> Images:
        none, label = np.zeros(count, np.int64), np.arange(count) % 2
        pixels = np.zeros((count, 2, 2, 1), np.uint8)
        return Images(sources=[pixels], source=none, row=np.arange(count), label=label)

    return KerasTraining(learner, images(40), images(6), Budget(**budget), 3)  # type: ignore[arg-type]


class TestLooks:
    def test_patience_ends_it_and_the_best_look_is_kept(self) -> None:
        learner = Scripted([0.5, 0.4, 0.45, 0.41, 0.3])
        training = scripted(learner, max=9, patience=2)
        points = list(training)
        assert [point.epoch for point in points] == [1, 2, 3, 4]
        assert training.stopped_by == "patience"
        fitted = training.finish()
        assert (fitted.best.epoch, fitted.last.epoch) == (2, 4)
        assert fitted.valid["loss"] == pytest.approx(0.4)
        assert learner.asked.count("keep") == 2

    def test_the_source_keeps_the_last_weights(self) -> None:
        learner = Scripted([0.5, 0.4, 0.45, 0.41], restore_best=False)
        training = scripted(learner, max=9, patience=2)
        assert len(list(training)) == 4  # patience counts from the best all the same
        assert training.finish().best.epoch == 4

    def test_the_rate_falls_where_the_loss_stands_still(self) -> None:
        losses = [0.5, 0.49995, 0.6, 0.4, 0.5, 0.5, 0.5]  # the second is no gain
        learner = Scripted(losses, plateau={"factor": 0.1, "patience": 2})
        list(scripted(learner, unit="steps", max=7, evaluations=7))
        assert learner.rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])

    def test_no_plateau(self) -> None:
        learner = Scripted([0.5] * 7, plateau=None)
        list(scripted(learner, unit="steps", max=7, evaluations=7))
        assert learner.rates == [1.0] * 7

    def test_a_fold_of_the_training_images_stops_it_and_does_not_judge_it(self) -> None:
        learner = Scripted([0.2, 0.1, 0.7], validate_on="training_fold")
        training = scripted(learner, max=2, patience=2)
        points = list(training)
        assert learner.predicted == [4, 4]  # a tenth of the 40
        fitted = training.finish()
        assert learner.predicted == [4, 4, 6]
        assert points[-1].valid["loss"] == pytest.approx(0.1)
        assert fitted.valid["loss"] == pytest.approx(0.7)
        assert fitted.valid_probability.shape == (6, 2)
