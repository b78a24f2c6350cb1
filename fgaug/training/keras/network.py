"""Build classifiers from keras.applications with the head of the original study."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from fgaug.errors import GridError
from fgaug.grid.recipe import KerasRecipe, Recipe
from fgaug.training.keras import weight_file

_FREE = "batch_normalization"  # layers with this name are always trainable, as in the study
HEAD = "head_"


def build(recipe: Recipe, weights: Path | None, labels: int, size: int, seed: int) -> Any:
    """Return a recipe's network, which maps preprocessed images to logits.

    The body without its top, global average pooling, a dense layer with ReLU and a dense layer, in
    one flat graph, so that layer indices match the study.

    Raises:
        GridError: this Keras has no such application, or the application refuses the image size.
        UserError: the weights do not fit the body.
    """
    settings = settings_of(recipe)
    keras.backend.clear_session()  # restarts the numbering of layers
    keras.utils.set_random_seed(seed)
    with _policy(recipe.precision):
        body = body_of(recipe.model, size, own_scaling=settings.scaling == "model")
        if weights is not None:
            weight_file.load(weights, body)
        features = keras.layers.GlobalAveragePooling2D(name=f"{HEAD}pool")(body.output)
        if settings.hidden != "none":
            dense = keras.layers.Dense(settings.hidden, activation="relu", name=f"{HEAD}hidden")
            features = dense(features)
    logits = keras.layers.Dense(labels, name=f"{HEAD}logits")(features)  # float32 always
    model = keras.Model(body.input, logits)
    if settings.norm_momentum != "none":
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = settings.norm_momentum
    if settings.freeze_below != "none":
        _freeze(model, settings.freeze_below)
    return model


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Let layers built in this block compute in a precision; their weights are float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def scaling(recipe: Recipe) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function that scales pixels in [0, 255], 1 or 3 channels, to network inputs."""
    # preprocessing lives in the module that defines the model; for some it is not public
    own = sys.modules[getattr(keras.applications, recipe.model).__module__].preprocess_input
    unit = settings_of(recipe).scaling == "unit"

    def scaled(pixels: tf.Tensor) -> tf.Tensor:
        if pixels.shape[-1] == 1:
            pixels = tf.repeat(pixels, 3, axis=-1)
        return pixels / 255 if unit else own(pixels)

    return scaled


def settings_of(recipe: Recipe) -> KerasRecipe:
    assert recipe.keras is not None
    return recipe.keras


def body_of(name: str, size: int, *, own_scaling: bool) -> Any:
    """Return an application without its top, for images of `size` px and 3 channels.

    Raises:
        GridError: this Keras has no such application, or the application refuses the image size.
    """
    application = getattr(keras.applications, name, None)
    if application is None:
        raise GridError(
            [f"`recipe.model`: keras.applications of Keras {keras.__version__} has no {name}"]
        )
    # some scale their inputs in a layer, and their preprocess_input does nothing
    within = "include_preprocessing" in inspect.signature(application).parameters
    extra = {"include_preprocessing": own_scaling} if within else {}
    try:
        return application(include_top=False, weights=None, input_shape=(size, size, 3), **extra)
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise GridError(
            [f"`recipe.model`: {name} refuses images of {size} px: {reason}. {_cure(reason)}"]
        ) from None


def _cure(reason: str) -> str:
    """Return the cure for an image size, with the minimum size if Keras names it."""
    stated = re.search(r"at least (\d+)x\1", reason)
    if stated is None:
        return "Multiples of 32 usually work; prepare the dataset at such a size (`--size`)"
    return (
        f"The smallest size that works is {stated[1]} px: prepare the dataset at that size "
        f"(`fgaug data prepare --size {stated[1]}`), or choose another model"
    )


def _freeze(model: Any, below: int) -> None:
    if below > len(model.layers):
        raise GridError(
            [
                f"`recipe.keras.freeze_below` is {below}, but the network has only "
                f"{len(model.layers)} layers"
            ]
        )
    for index, layer in enumerate(model.layers):
        layer.trainable = index >= below or layer.name.startswith(_FREE)
