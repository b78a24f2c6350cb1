"""Load a saved classifier of either backend as a network."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError

from fgaug.errors import GridError, UserError
from fgaug.grid.recipe import Recipe
from fgaug.training import saved_model
from fgaug.training.images import Images
from fgaug.training.learner import Predictor
from fgaug.training.pytorch import models
from fgaug.training.pytorch.fine_tuning import predict
from fgaug.training.pytorch.models import Classifier
from fgaug.training.saved_model import Card, SavedModel
from fgaug.training.weights import SCRATCH

if TYPE_CHECKING:
    from fgaug.training.keras.network_file import NetworkFile

_KERAS_BATCH = 32  # images at once: the activations of InceptionResNetV2 at 256 px are large


def load_classifier(model: SavedModel, device: torch.device) -> Classifier:
    """Load a saved model as a network on a device, in evaluation mode.

    Raises:
        UserError: this version does not know the card's recipe, or the tensors do not fit its
            network.
    """
    tensors = model.tensors()
    recipe = _recipe(model.card)
    if recipe.backend != "torch":
        raise UserError(
            f"The model {model.card.cell_id} is of `backend: {recipe.backend}`, which can predict "
            "but not compute features. Give a model of `backend: torch`."
        )
    try:
        with torch.random.fork_rng(devices=[]):  # weights drawn here are replaced
            network = models.build(recipe, SCRATCH, len(model.card.labels))
    except GridError as error:
        raise UserError(f"The model's card: {'; '.join(error.problems)}.") from None
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    if wanted != found:
        off = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        raise UserError(
            f"The model's tensors do not fit {recipe.model} with {len(model.card.labels)} labels: "
            f"{saved_model.shown(off[0])} is {found.get(off[0])}, the network has "
            f"{wanted.get(off[0])} ({len(off)} differ)."
        )
    for name, numbers in (("mean", model.card.mean), ("std", model.card.std)):
        if not np.array_equal(tensors[name].ravel(), np.asarray(numbers, np.float32)):
            raise UserError(f"The model's card and its tensors have different `{name}`s.")
    # a copy: torch needs writable arrays
    network.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in tensors.items()})
    return network.to(device).eval()


class KeptNetwork:
    """A saved PyTorch classifier for prediction; see `learner.Predictor`."""

    def __init__(self, model: SavedModel, device: torch.device) -> None:
        self.network, self.device = load_classifier(model, device), device
        self.batch = batch_of(model.card)

    def predict(self, images: Images) -> np.ndarray:
        return predict(self.network, images, self.batch, self.device)

    def close(self) -> None:
        """Do nothing: tensors are freed with their last reference."""


def load_predictor(model: SavedModel, device: torch.device) -> Predictor:
    """Load a saved model of either backend for prediction.

    Raises:
        UserError: as for `load_classifier`, or TensorFlow is needed but not installed.
    """
    recipe = _recipe(model.card)
    if recipe.backend == "torch":
        return KeptNetwork(model, device)
    from fgaug.training.keras.learner import KerasLearner

    try:
        learner = KerasLearner(recipe, tuple(model.card.labels), 0, str(device))
        learner.open_for(model.card.size, model.card.channels)
    except GridError as error:
        raise UserError(f"The model's card: {'; '.join(error.problems)}.") from None
    learner.load_weights(model.tensors())
    return learner


class KerasFileNetwork:
    """A classifier from a file that Keras saved; see `learner.Predictor`.

    Args:
        file: description of the file.
        model: name of its body in keras.applications.
        scaling: `unit` or `model`, as in a recipe.
        size: of the images in px.
        channels: of the images, 1 or 3.
        device: cpu or cuda.

    Raises:
        UserError: the file does not fit the model, or TensorFlow is needed but not installed.
    """

    def __init__(
        self,
        file: NetworkFile,
        *,
        model: str,
        scaling: str,
        size: int,
        channels: int,
        device: torch.device,
    ) -> None:
        from fgaug.training.keras.process import Settings, process_for

        head = file.head and [(layer.units, layer.activation) for layer in file.head]
        how = Settings(device=device.type, gpu_share=1.0, threads=torch.get_num_threads())
        try:
            self._process = process_for(how)
        except GridError as error:
            raise UserError(f"{file.path}: {'; '.join(error.problems)}.") from None
        self._network = self._process.ask(
            "rebuild",
            path=str(file.path.resolve()),
            model=model,
            scaling=scaling,
            size=size,
            channels=channels,
            head=head,
            layers=None if file.layers is None else dict(file.layers),
        )
        weakref.finalize(self, self._process.forget, self._network).atexit = False

    def predict(self, images: Images) -> np.ndarray:
        from fgaug.training.keras.shared_images import rows_of

        rows = rows_of(images, np.arange(len(images)))
        found: np.ndarray = self._process.ask(
            "predict", network=self._network, rows=rows, batch=_KERAS_BATCH
        )
        return found

    def close(self) -> None:
        """Do nothing: the process frees the network with this object."""


def batch_of(card: Card) -> int:
    """Return the batch size for predictions of this classifier."""
    return min(2 * _recipe(card).batch_size, 512)  # as in training: bit-identical


def _recipe(card: Card) -> Recipe:
    fields = {name: value for name, value in card.recipe.items() if name != "weights"}
    try:
        recipe = Recipe.model_validate({**fields, "pretrained": False})
    except ValidationError as error:
        first = error.errors()[0]
        where = saved_model.shown(".".join(str(part) for part in first["loc"]))
        raise UserError(
            f"The model's card was written by fgaug {saved_model.shown(card.version)}; its recipe "
            f"cannot be read (`{where}`: {first['msg'].splitlines()[0]}). Use that version."
        ) from None
    if saved_model.shown(recipe.model) != recipe.model:
        raise UserError(
            f"The model's card: there is no network {saved_model.shown(recipe.model)}."
        )
    return recipe
