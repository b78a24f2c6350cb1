"""Rebuild a classifier from a file that Keras saved, and apply it.

The network is made anew from keras.applications and dense layers; the file provides only arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fgaug.errors import GridError, UserError
from fgaug.grid.recipe import Recipe
from fgaug.training.images import Images
from fgaug.training.keras import network, weight_file
from fgaug.training.keras.fitting import probabilities
from fgaug.training.saved_model import shown

_SCALES = "CustomScaleLayer"  # in InceptionResNetV2; a Lambda in files of older versions
Dense = tuple[str, np.ndarray, np.ndarray]  # name, kernel [inputs, units], bias [units]


class RebuiltNetwork:
    """A saved classifier, for prediction only.

    Args:
        path: a `.h5`, `.hdf5` or `.keras` file.
        model: name of its body in keras.applications.
        scaling: `unit` or `model`, as in a recipe.
        size: of the images in px.
        channels: of the images, 1 or 3.
        head: (units, activation) of its dense layers; None where the file does not state them:
            then hidden layers have ReLU.
        layers: number of layers by class, to compare; None where the file does not state them.

    Raises:
        UserError: the file does not fit the model, or has layers that are not rebuilt.
    """

    def __init__(
        self,
        *,
        path: str,
        model: str,
        scaling: str,
        size: int,
        channels: int,
        head: Sequence[tuple[int, str]] | None,
        layers: Mapping[str, int] | None,
    ) -> None:
        settings = {"scaling": scaling}
        recipe = Recipe.model_validate(
            {"backend": "keras", "model": model, "pretrained": False, "keras": settings}
        )
        keras.backend.clear_session()
        try:
            body = network.body_of(model, size, own_scaling=scaling == "model")
        except GridError as error:
            raise UserError(f"{path}: {'; '.join(error.problems)}.") from None
        if layers is not None:
            _compare(path, model, layers, body)
        dense = list(_dense(path, weight_file.load_with_head(Path(path), body)))
        _check_chain(path, dense, int(body.output.shape[-1]), head)
        self._model = _with_head(body, dense, head)
        self._scaled = network.scaling(recipe)
        pixels = tf.TensorSpec((None, size, size, channels), tf.uint8)
        self._logits = tf.function(self._answer, input_signature=(pixels,))

    def predict(self, images: Images, batch: int) -> np.ndarray:
        """Return the probabilities of all images in the file's order of labels, float64 [N, L]."""
        return probabilities(self._logits, images, batch)

    def _answer(self, pixels: tf.Tensor) -> tf.Tensor:
        return self._model(self._scaled(tf.cast(pixels, tf.float32)), training=False)


def _compare(path: str, model: str, layers: Mapping[str, int], body: Any) -> None:
    """Refuse a file with other weightless layers than the network that is rebuilt."""
    ours = Counter(type(layer).__name__ for layer in body.layers)
    ours["GlobalAveragePooling2D"] += 1  # of the head
    ours["Lambda"] += ours[_SCALES]
    off = [
        f"{name} {count} times, the rebuilt {model} {ours[name]} times"
        for name, count in layers.items()
        # newer versions have no Lambda where older ones have
        if (count > ours[name] if name == "Lambda" else count != ours[name])
    ]
    if off:
        raise UserError(
            f"{path} has {'; '.join(off)}. fgaug never runs the layers of a file: it rebuilds an "
            "application of keras.applications with global average pooling and dense layers. "
            "Name the right `model`, and save a network without other layers (scaling is an "
            "option of the judge)."
        )


def _dense(path: str, rest: list[tuple[str, list[np.ndarray]]]) -> Iterator[Dense]:
    """Yield the dense layers among a file's layers beyond the body; refuse any other."""
    for name, arrays in rest:
        kernel = arrays[0]
        bias = arrays[1] if len(arrays) > 1 else np.zeros(kernel.shape[-1:], np.float32)
        if len(arrays) > 2 or kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            shapes = [each.shape for each in arrays]
            raise UserError(
                f"{path} has a layer {shown(name)} with weights {shapes}, which fgaug does not "
                "rebuild: after the body only dense layers may follow."
            )
        yield name, kernel, bias


def _check_chain(
    path: str, dense: list[Dense], width: int, head: Sequence[tuple[int, str]] | None
) -> None:
    """Refuse dense layers that do not follow from each other, or differ from the head stated."""
    if not dense:
        raise UserError(f"{path} has no dense layer after its body, so it is no classifier.")
    for name, kernel, _ in dense:
        if kernel.shape[0] != width:
            raise UserError(
                f"{path}: its layer {shown(name)} takes {kernel.shape[0]} inputs, but the layer "
                f"before it has {width} outputs."
            )
        width = kernel.shape[1]
    units = [kernel.shape[1] for _, kernel, _ in dense]
    if head is not None and units != [stated for stated, _ in head]:
        raise UserError(
            f"{path}: its configuration and its weights have different dense layers "
            f"({[stated for stated, _ in head]} and {units} units). Save the network again."
        )


def _with_head(body: Any, dense: list[Dense], head: Sequence[tuple[int, str]] | None) -> Any:
    """Return body, pooling and dense layers as one network that ends in logits."""
    values = keras.layers.GlobalAveragePooling2D(name=f"{network.HEAD}pool")(body.output)
    for number, (_, kernel, bias) in enumerate(dense):
        last = number == len(dense) - 1
        activation = "linear" if last else "relu" if head is None else head[number][1]
        if last and kernel.shape[1] == 1:  # sigmoid(z) is the softmax of (0, z)
            kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
            bias = np.concatenate([np.zeros_like(bias), bias])
        layer = keras.layers.Dense(
            kernel.shape[1], activation=activation, name=f"{network.HEAD}{number}"
        )
        values = layer(values)
        layer.set_weights([kernel, bias])
    return keras.Model(body.input, values)
