"""A kept classifier as a network again, of either backend."""

from __future__ import annotations

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


def load_classifier(model: SavedModel, device: torch.device) -> Classifier:
    """Return a saved model as a network on a device, ready to evaluate.

    Raises:
        UserError: the card's recipe is not one of this version, or the tensors are not its
            network's.
    """
    tensors = model.tensors()
    recipe = _recipe(model.card)
    if recipe.backend != "torch":
        raise UserError(
            f"The model {model.card.cell_id} is of `backend: {recipe.backend}`, which predicts "
            "but gives no features. Name one of `backend: torch`."
        )
    try:
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, and then replaced
            network = models.build(recipe, SCRATCH, len(model.card.labels))
    except GridError as error:
        raise UserError(f"The model's card: {'; '.join(error.problems)}.") from None
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    if wanted != found:
        off = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        raise UserError(
            f"The model's tensors are not those of {recipe.model} with {len(model.card.labels)} "
            f"labels: {saved_model.shown(off[0])} is {found.get(off[0])}, the network has "
            f"{wanted.get(off[0])} ({len(off)} differ)."
        )
    for name, numbers in (("mean", model.card.mean), ("std", model.card.std)):
        if not np.array_equal(tensors[name].ravel(), np.asarray(numbers, np.float32)):
            raise UserError(f"The model's card and its tensors name different `{name}`s.")
    # a copy: torch wants arrays that can be written to
    network.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in tensors.items()})
    return network.to(device).eval()


class KeptNetwork:
    """A kept PyTorch classifier that is asked for its answers; see `backend.Predictor`."""

    def __init__(self, model: SavedModel, device: torch.device) -> None:
        self.network, self.device = load_classifier(model, device), device
        self.batch = batch_of(model.card)

    def predict(self, images: Images) -> np.ndarray:
        return predict(self.network, images, self.batch, self.device)

    def close(self) -> None:
        """Do nothing: the tensors go with the last name of them."""


def load_predictor(model: SavedModel, device: torch.device) -> Predictor:
    """Return a saved model, of whichever backend, ready to be asked.

    Raises:
        UserError: as `load_classifier` does, or TensorFlow is needed and not installed.
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
    learner.take(model.tensors())
    return learner


def batch_of(card: Card) -> int:
    """Return how many images such a classifier is asked about at once."""
    return min(2 * _recipe(card).batch_size, 512)  # as in training, for the same last bits


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
            f"The model's card: no network is named {saved_model.shown(recipe.model)}."
        )
    return recipe
