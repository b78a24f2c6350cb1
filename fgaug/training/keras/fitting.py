"""Train and apply one network with TensorFlow, and save its state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fgaug.errors import UserError
from fgaug.grid.recipe import Recipe
from fgaug.training.images import Images
from fgaug.training.keras import devices, network
from fgaug.training.keras.augmentation import shifted_and_flipped

_AHEAD = 2  # batches prefetched during a training step
# of a recipe's Keras fields
_IN_GRAPH = ("hidden", "freeze_below", "norm_momentum", "scaling", "shift", "flip")


class Fitting:
    """A network, its optimiser and its best weights."""

    def __init__(
        self,
        *,
        recipe: Mapping[str, Any],
        weights: str | None,
        labels: int,
        size: int,
        channels: int,
        seed: int,
    ) -> None:
        devices.reset_gpu_peak()
        self.recipe = Recipe.model_validate(recipe)
        self.model = network.build(self.recipe, _path(weights), labels, size, seed)
        self.labels, self.form = labels, form(recipe, labels, size, channels)
        self.scaled = network.scaling(self.recipe)
        self.shape = (size, size, channels)
        self.optimiser = keras.optimizers.Adam(self.recipe.learning_rate)
        self.optimiser.build(self.model.trainable_variables)
        self.kept: list[np.ndarray] = []
        pixels = tf.TensorSpec((None, *self.shape), tf.uint8)
        numbers, seeds = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((2,), tf.int32)
        self._step = tf.function(self._train, input_signature=(pixels, numbers, seeds))
        self._logits = tf.function(self._answer, input_signature=(pixels,))

    def renew(self, weights: str | None, seed: int) -> None:
        """Reset to a new network of the same form, without recompiling its steps."""
        devices.reset_gpu_peak()
        fresh = network.build(self.recipe, _path(weights), self.labels, self.shape[0], seed)
        _assign(self.model.variables, _values(fresh.variables))
        self.kept = []

    def sizes(self) -> dict[str, int]:
        """Return the numbers of layers and parameters, and of trainable ones."""
        learn = sum(int(np.prod(one.shape)) for one in self.model.trainable_weights)
        every = int(self.model.count_params())
        return {"layers": len(self.model.layers), "parameters": every, "trainable": learn}

    def begin(self, rate: float, seed: int) -> None:
        """Reset the optimiser's moments and the random state of the layers."""
        for variable in self.optimiser.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
        self.optimiser.learning_rate.assign(rate)
        weights = {id(each) for each in self.model.weights}
        drawing = [each for each in self.model.variables if id(each) not in weights]
        for place, variable in enumerate(drawing):
            variable.assign(tf.constant([seed, place], variable.dtype))

    def fit(
        self, images: Images, shape: tuple[int, int], first_step: int, seed: int, rate: float
    ) -> tuple[float, float]:
        """Take one step per batch of `images`; return the mean loss and the seconds.

        Args:
            images: all batches, concatenated.
            shape: number of batches and batch size.
            first_step: number of steps taken before; determines the augmentation, together with
                `seed`.
        """
        started = time.perf_counter()
        self.optimiser.learning_rate.assign(rate)
        total = tf.zeros(())
        for step, (pixels, label) in enumerate(self._batches(images, shape)):
            total += self._step(pixels, label, tf.constant([seed, first_step + step], tf.int32))
        return float(total) / shape[0], time.perf_counter() - started

    def predict(self, images: Images, batch: int) -> np.ndarray:
        """Return the probabilities of all images, float64 [N, L]."""
        return probabilities(self._logits, images, batch)

    def _batches(self, images: Images, shape: tuple[int, int]) -> Any:
        """Return a tf.data pipeline of batches, prefetched from the memory-mapped pixels."""
        places = np.arange(shape[0] * shape[1]).reshape(shape)
        label = images.label.reshape(shape).astype(np.int64)

        def gathered(index: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.numpy_function(images.take, [index], tf.uint8, stateful=False)
            return tf.ensure_shape(pixels, (None, *self.shape)), label

        batches = tf.data.Dataset.from_tensor_slices((places, label))
        return batches.map(gathered, num_parallel_calls=1).prefetch(_AHEAD)

    def _train(self, pixels: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        settings = network.settings_of(self.recipe)
        images = shifted_and_flipped(
            tf.cast(pixels, tf.float32), settings.shift, settings.flip, seed
        )
        with tf.GradientTape() as tape:
            logits = self.model(self.scaled(images), training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            loss = tf.reduce_mean(each)
        variables = self.model.trainable_variables
        self.optimiser.apply(tape.gradient(loss, variables), variables)
        return loss

    def _answer(self, pixels: tf.Tensor) -> tf.Tensor:
        return self.model(self.scaled(tf.cast(pixels, tf.float32)), training=False)

    def keep(self) -> None:
        """Keep the current weights as the best."""
        self.kept = self.model.get_weights()

    def put_back(self) -> None:
        """Restore the best weights."""
        self.model.set_weights(self.kept)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the current weights, keyed by layer and name."""
        names = [each.path for each in self.model.weights]
        return dict(zip(names, _values(self.model.weights), strict=True))

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Load weights returned by `weights`.

        Raises:
            UserError: they belong to another model.
        """
        wanted = {each.path: tuple(each.shape) for each in self.model.weights}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if wanted != found:
            off = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
            raise UserError(
                f"The weights do not fit {self.recipe.model}: {off[0][:100]} is "
                f"{found.get(off[0])}, the network has {wanted.get(off[0])} ({len(off)} differ)."
            )
        _assign(self.model.weights, [weights[each.path] for each in self.model.weights])

    def state(self, kept: bool) -> dict[str, Any]:
        """Return weights, random states and moments; with `kept`, also the best weights."""
        return {
            "model": _values(self.model.variables),  # includes the random states of layers
            "optimiser": _values(self.optimiser.variables),
            "kept": self.kept if kept else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a result of `state`."""
        _assign(self.model.variables, state["model"])
        _assign(self.optimiser.variables, state["optimiser"])
        self.kept = self.model.get_weights() if state["kept"] is None else list(state["kept"])


def probabilities(
    logits_of: Callable[[tf.Tensor], tf.Tensor], images: Images, batch: int
) -> np.ndarray:
    """Return the softmax of a network's logits, batch by batch, float64 [N, L]."""
    found = []
    for start in range(0, len(images), batch):
        index = np.arange(start, min(start + batch, len(images)))
        logits = logits_of(tf.constant(images.take(index))).numpy().astype(np.float64)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        found.append(raised / raised.sum(axis=1, keepdims=True))
    return np.concatenate(found)


def form(recipe: Mapping[str, Any], labels: int, size: int, channels: int) -> str:
    """Return a key of everything that the compiled steps of a network depend on."""
    settings = {key: recipe["keras"][key] for key in _IN_GRAPH}
    return json.dumps([recipe["model"], recipe["precision"], settings, labels, size, channels])


def _path(weights: str | None) -> Path | None:
    return None if weights is None else Path(weights)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    """Return the values in types that PyTorch files support: floats and int64."""
    values = [np.asarray(variable.numpy()) for variable in variables]
    return [value if value.dtype.kind == "f" else value.astype(np.int64) for value in values]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(tf.cast(value, variable.dtype))
