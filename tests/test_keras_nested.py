"""Keras bodies inside other models: found where there is one, named where there are two.

Files are written in Keras's two layouts without Keras, so that the tests take no TensorFlow.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fgaug.errors import UserError
from fgaug.training.keras import applications, weight_file


class Weight:
    """A weight as Keras describes one."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


@dataclass
class Layer:
    """A layer as `weight_file` sees one."""

    name: str
    weights: list[Weight] = field(default_factory=list)
    given: list[np.ndarray] = field(default_factory=list)

    def set_weights(self, arrays: list[np.ndarray]) -> None:
        self.given = arrays


class Conv2D(Layer):
    def __init__(self, name: str, *shape: int) -> None:
        super().__init__(name, [Weight("kernel", shape), Weight("bias", shape[-1:])])


class BatchNormalization(Layer):
    def __init__(self, name: str, width: int) -> None:
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        super().__init__(name, [Weight(each, (width,)) for each in names])


class Dense(Layer):
    def __init__(self, name: str, *shape: int) -> None:
        super().__init__(name, [Weight("kernel", shape), Weight("bias", shape[-1:])])


class RandomFlip(Layer):
    pass


@dataclass
class Functional:
    name: str
    layers: list[Any]
    weights: tuple[()] = ()


class Sequential(Functional):
    pass


def body(first: int = 0, width: int = 4) -> Functional:
    """Return a body; Keras numbers layers without a name from `first`."""
    names = [f"conv2d_{first + n}" if first + n else "conv2d" for n in range(2)]
    return Functional(
        "body",
        [
            Sequential("stem", [Conv2D("stem_conv", 3, 3, 3, width)]),
            Conv2D(names[0], 3, 3, width, width),
            BatchNormalization(f"batch_normalization_{first}", width),
            Conv2D(names[1], 3, 3, width, width),  # of the same shape: order tells them apart
            Conv2D("named", 1, 1, width, 2),
        ],
    )


def leaves(model: Any) -> list[Layer]:
    return [
        leaf
        for layer in model.layers
        for leaf in (leaves(layer) if hasattr(layer, "layers") else [layer])
    ]


def value(place: int, weight: Weight, seed: int) -> np.ndarray:
    """Return numbers that no two weights share."""
    own = sum(map(ord, weight.name)) + 1000 * place + 100_000 * seed
    return np.arange(np.prod(weight.shape), dtype=np.float32).reshape(weight.shape) + own


def filled_as(model: Functional, seed: int) -> bool:
    return all(
        np.array_equal(given, value(place, weight, seed))
        for place, layer in enumerate(leaves(model))
        if layer.weights
        for given, weight in zip(layer.given, layer.weights, strict=True)
    )


# ---- the two layouts


def write_new(group: h5py.Group, model: Any, seed: int = 0) -> None:
    """Write a model as `.weights.h5` has it: layers of each class are numbered."""
    place = iter(range(1000))

    def write(group: h5py.Group, model: Any) -> None:
        group.create_group("vars").attrs["name"] = model.name
        count: dict[str, int] = {}
        for layer in model.layers:
            kind = weight_file._snake(type(layer).__name__)
            number = count[kind] = count.get(kind, -1) + 1
            inner = group.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
            if hasattr(layer, "layers"):
                write(inner, layer)
                continue
            own = next(place)
            variables = inner.create_group("vars")
            for index, weight in enumerate(layer.weights):
                variables[str(index)] = value(own, weight, seed)

    write(group, model)


def write_old(file: h5py.Group, layers: list[Any], seed: int = 0, frozen: int = 0) -> None:
    """Write layers as `.h5` has them: a model in it is one layer with all the weights.

    Args:
        file: where to.
        layers: of the outer model.
        seed: of the numbers.
        frozen: so many of a nested model's first layers were, so that their weights come last.
    """
    file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
    for layer in layers:
        group = file.create_group(layer.name)
        inside = leaves(layer) if hasattr(layer, "layers") else [layer]
        learn: dict[str, np.ndarray] = {}
        rest: dict[str, np.ndarray] = {}
        for place, leaf in enumerate(inside):
            for weight in leaf.weights:
                fixed = place < frozen or weight.name.startswith("moving")
                (rest if fixed else learn)[f"{leaf.name}/{weight.name}:0"] = value(
                    place, weight, seed
                )
        for name, numbers in (learn | rest).items():
            group[name] = numbers
        group.attrs["weight_names"] = [name.encode() for name in learn | rest]


def outer(*models: Functional) -> list[Any]:
    """Return the layers of a model around others: augmentation before, a head behind."""
    flip = Sequential("augment", [RandomFlip("random_flip")])
    return [flip, *models, BatchNormalization("batch_normalization_99", 2), Dense("head", 2, 3)]


def saved(path: Path, write: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


# ---- one body


@pytest.mark.parametrize("first", [0, 1, 94])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_newer_layout(tmp_path: Path, first: int, suffix: str, depth: int) -> None:
    model = body(first)
    for level in range(depth):
        model = (Functional, Sequential)[level % 2](f"level {level}", outer(model))

    def write(file: h5py.File) -> None:
        write_new(file, model)

    path = saved(tmp_path / "w.weights.h5", write)
    if suffix == ".keras":
        with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
            archive.write(path, "model.weights.h5")
            archive.writestr("config.json", '{"class_name": "Lambda", "module": "os"}')
        path = tmp_path / "w.keras"
    found = body()
    weight_file.load(path, found)
    shift = depth  # each level has one layer before the body: the flip
    for place, layer in enumerate(leaves(found)):
        for given, weight in zip(layer.given, layer.weights, strict=True):
            np.testing.assert_array_equal(given, value(place + shift, weight, 0))


@pytest.mark.parametrize("first", [0, 1, 94])
@pytest.mark.parametrize("frozen", [0, 2, 9])
@pytest.mark.parametrize("in_model", [False, True])
def test_the_older_layout(tmp_path: Path, first: int, frozen: int, in_model: bool) -> None:
    def write(file: h5py.File) -> None:
        place = file.create_group("model_weights") if in_model else file
        write_old(place, outer(body(first)), frozen=frozen)

    found = body()
    weight_file.load(saved(tmp_path / "w.h5", write), found)
    assert filled_as(found, seed=0)


def test_the_older_layout_nested_twice(tmp_path: Path) -> None:
    inner = Sequential("inner", [body(7), Dense("dense", 2, 5)])
    found = body()
    weight_file.load(saved(tmp_path / "w.h5", lambda f: write_old(f, outer(inner))), found)
    assert filled_as(found, seed=0)


# ---- two bodies, another body, other files


@pytest.mark.parametrize("layout", ["old", "new"])
def test_two_bodies_that_differ_are_refused_by_name(tmp_path: Path, layout: str) -> None:
    first, second = body(), body(2)
    first.name, second.name = "left", "right"

    def write(file: h5py.File) -> None:
        if layout == "new":
            write_new(file, Functional("both", [first, second]))
            return
        write_old(file, [first, second])
        for name in file["right"].attrs["weight_names"]:
            file["right"][name][...] += 1

    path = saved(tmp_path / "w.h5", write)
    with pytest.raises(
        UserError, match=r"2 different nested models that fit `recipe.model` \('left', 'right'"
    ):
        weight_file.load(path, body())


def test_the_same_body_twice_is_no_question(tmp_path: Path) -> None:
    first, second = body(), body()
    second.name = "again"
    found = body()
    weight_file.load(saved(tmp_path / "w.h5", lambda f: write_old(f, [first, second])), found)
    assert filled_as(found, seed=0)


@pytest.mark.parametrize("layout", ["old", "new"])
def test_another_nested_body_is_refused_and_named(tmp_path: Path, layout: str) -> None:
    def write(file: h5py.File) -> None:
        other = outer(body(width=5))
        write_new(file, Functional("x", other)) if layout == "new" else write_old(file, other)

    found = body()
    with pytest.raises(
        UserError, match=r"of another model .* layers differ; nested in it: .*'body'"
    ):
        weight_file.load(saved(tmp_path / "w.h5", write), found)
    assert not any(layer.given for layer in leaves(found))


def test_numbered_layers_whose_count_differs_are_not_guessed(tmp_path: Path) -> None:
    more = body(3)
    more.layers.insert(1, Conv2D("conv2d_2", 3, 3, 4, 4))  # as a layer put before the body
    path = saved(tmp_path / "w.h5", lambda f: write_old(f, outer(more)))
    with pytest.raises(UserError, match="of another model"):
        weight_file.load(path, body())


def test_models_without_end_are_looked_at_to_a_bound(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        write_new(file, Functional("x", outer(body(width=5))))
        file["layers/again"] = file  # a hard link to the file itself

    with pytest.raises(UserError, match="of another model"):
        weight_file.load(saved(tmp_path / "w.h5", write), body())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html><title>Log in</title>", "an HTML page titled 'Log in'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x08\x01\x12\xf3\x0a\x05serve\x80", "save it again with model.save"),
        (b"", "an empty file"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".hdf5"])
def test_well_known_other_files_are_named(
    tmp_path: Path, content: bytes, words: str, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert suffix in applications.FORMATS
    with pytest.raises(UserError, match="cannot be read as Keras weights") as raised:
        weight_file.load(path, body())
    assert words in str(raised.value)
