"""List the models of keras.applications without importing TensorFlow."""

from __future__ import annotations

import difflib
import importlib.util
import os
from pathlib import Path

from fgaug.core import files
from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe
from fgaug.training.weights import SCRATCH, Weights, weights_file

APPLICATIONS = (
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
)
NEEDS = "`recipe.backend: keras` needs TensorFlow: pip install 'fgaug[keras]'"
FORMATS = (".h5", ".keras", ".hdf5")


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed, without importing it."""
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except ValueError:  # sys.modules has a None in its place
        return False


def check_name(model: str) -> str | None:
    """Return the problem with a model's name, with suggestions, or None."""
    if model in APPLICATIONS:
        return None
    folded = {name.lower(): name for name in APPLICATIONS}
    plain = model.lower().replace("_", "").replace("-", "")
    near = [folded[name] for name in difflib.get_close_matches(plain, folded, n=3)]
    hint = f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
    return f"`recipe.model`: keras.applications has no `{model}`{hint}"


def find(recipe: Recipe) -> Weights:
    """Return the initial weights of a recipe; see `training.weights.find`.

    Raises:
        GridError: TensorFlow is not installed, the model is unknown, or the weights are not on
            this machine.
    """
    problem = check_name(recipe.model)
    if not has_tensorflow():
        raise GridError([NEEDS])
    if problem is not None:
        raise GridError([problem])
    if not recipe.pretrained:
        return SCRATCH
    if recipe.weights is not None:
        return weights_file(recipe.weights, FORMATS)
    cached = _cached(recipe.model)
    if cached is not None:
        digest = files.sha256_of(cached)[:16]
        return Weights(identity=f"imagenet:{cached.name}:{digest}", path=cached)
    if recipe.allow_scratch:
        return SCRATCH
    raise GridError(
        [
            f"`recipe.model`: no pretrained weights of {recipe.model} are in {_cache()}, and "
            "fgaug downloads nothing at run time. Give `recipe.weights: FILE` (.h5 or .keras), "
            "fill that folder on a machine with internet access, or train from scratch with "
            "`pretrained: false` (or `allow_scratch: true`)"
        ]
    )


def _cache() -> Path:
    """Return the folder where Keras caches downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _cached(model: str) -> Path | None:
    """Return the cached weights of an application without its top; of several, the widest."""
    files = sorted(_cache().glob("*.h5")) if _cache().is_dir() else []
    found = [path for path in files if _is_body(path.stem) and _application(path.stem) == model]
    full = [path for path in found if "1_0" in path.stem or "1.0" in path.stem]
    return next(iter(full or found), None)


def _is_body(stem: str) -> bool:
    return "notop" in _folded(stem) and "minimalistic" not in stem


def _application(stem: str) -> str | None:
    """Return the application whose name is the longest prefix of a file name."""
    text = _folded(stem).removeprefix("weights")
    fits = [name for name in APPLICATIONS if text.startswith(name.lower())]
    return max(fits, key=len, default=None)


def _folded(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
