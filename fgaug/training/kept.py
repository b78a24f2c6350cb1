"""A kept classifier as a network again.  saved -> [kept] -> predictions, features"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import ValidationError

from fgaug import saved
from fgaug.errors import GridError, UserError
from fgaug.recipe import Recipe
from fgaug.saved import Card, SavedModel
from fgaug.training import models
from fgaug.training.models import Classifier
from fgaug.training.weights import SCRATCH


def load_classifier(model: SavedModel, device: torch.device) -> Classifier:
    """Return a saved model as a network on a device, ready to evaluate.

    Raises:
        UserError: the card's recipe is not one of this version, or the tensors are not its
            network's.
    """
    tensors = model.tensors()
    recipe = _recipe(model.card)
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
            f"labels: {saved.shown(off[0])} is {found.get(off[0])}, the network has "
            f"{wanted.get(off[0])} ({len(off)} differ)."
        )
    for name, numbers in (("mean", model.card.mean), ("std", model.card.std)):
        if not np.array_equal(tensors[name].ravel(), np.asarray(numbers, np.float32)):
            raise UserError(f"The model's card and its tensors name different `{name}`s.")
    # a copy: torch wants arrays that can be written to
    network.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in tensors.items()})
    return network.to(device).eval()


def batch_of(card: Card) -> int:
    """Return how many images such a classifier is asked about at once."""
    return min(2 * _recipe(card).batch_size, 512)  # as in training, for the same last bits


def _recipe(card: Card) -> Recipe:
    fields = {name: value for name, value in card.recipe.items() if name != "weights"}
    try:
        recipe = Recipe.model_validate({**fields, "pretrained": False})
    except ValidationError as error:
        first = error.errors()[0]
        where = saved.shown(".".join(str(part) for part in first["loc"]))
        raise UserError(
            f"The model's card is of fgaug {saved.shown(card.version)}; its recipe cannot be read "
            f"(`{where}`: {first['msg'].splitlines()[0]}). Use the version that wrote it."
        ) from None
    if saved.shown(recipe.model) != recipe.model:
        raise UserError(f"The model's card: no network is named {saved.shown(recipe.model)}.")
    return recipe
