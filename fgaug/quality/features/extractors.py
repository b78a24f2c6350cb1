"""Feature extractors, each from a local file or a package.

An extractor takes uint8 [N, 3, H, W] of any size, resizes it as in its network's training, and
returns float32 [N, D]. Nothing is downloaded, and no code in a file is run.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgaug.core import files
from fgaug.core.node_cache import local_file
from fgaug.errors import UserError
from fgaug.grid.recipe import Recipe
from fgaug.training import saved_model, weights
from fgaug.training.pytorch import models
from fgaug.training.weights import IMAGENET_MEAN, IMAGENET_STD, LITE0

LITE0_PX = 224  # side of its training images
DINOV2, DINOV2_PX = "vit_small_patch14_dinov2", 224  # 16 x 16 patches, as its authors evaluate it
# Published weights of each network, for messages: where a machine with internet access finds them
SOURCES = {
    "inception": "weights-inception-2015-12-05-6726825d.pth from the releases of torch-fidelity "
    "(github.com/toshas/torch-fidelity)",
    "vgg16": "vgg16-397923af.pth from torchvision (download.pytorch.org/models)",
    "dinov2": "dinov2_vits14_pretrain.pth from the authors of DINOv2 "
    "(github.com/facebookresearch/dinov2)",
    "model": "model.safetensors of a run that keeps its classifiers (`keep_models` in the grid)",
}
# torch-fidelity's: (class, layer, side in px to which it resizes)
_FIDELITY = {
    "inception": ("FeatureExtractorInceptionV3", "2048", 299),
    "vgg16": ("FeatureExtractorVGG16", "fc2_relu", 224),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """Identity of a feature network, and a function that builds it."""

    name: str
    sha256: str  # of its weights
    side: int  # px to which it resizes images
    words: str
    build: Callable[[], nn.Module]


def extractor_of(asked: str, option: str = "--features") -> Extractor | None:
    """Return the extractor that an option names, not yet built; None for an unknown name.

    Raises:
        UserError: its file is missing, or is not a kept classifier.
    """
    name, _, file = asked.partition(":")
    if asked == "lite0":
        return _lite0()
    if name not in (*_FIDELITY, "dinov2", "model") or not file:
        return None
    path = local_file(file, UserError, (".json",) if name == "model" else ())
    if not path.is_file():
        raise UserError(
            f"{option} {name}:FILE: {file} is not a file. fgaug downloads no weights: copy "
            f"{SOURCES[name]} to this machine, and give its path."
        )
    if name == "model":
        return _kept(path)
    return _dinov2(path) if name == "dinov2" else _fidelity(name, path)


def _resized(images: Tensor, side: int, mode: str) -> Tensor:
    """Return images in [0, 1], resized to the side that a network expects."""
    x = images.float() / 255
    if x.shape[2:] == (side, side):
        return x
    return F.interpolate(x, (side, side), mode=mode, align_corners=False, antialias=True)


class _Pooled(nn.Module):
    """A classifier's body up to its pooled features, from uint8 [N, 3, H, W] to [N, D]."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: models.Classifier, side: int, pool: nn.Module) -> None:
        super().__init__()
        self.body, self.side, self.pool = classifier.body, side, pool
        self.register_buffer("mean", classifier.mean)
        self.register_buffer("std", classifier.std)

    def forward(self, images: Tensor) -> Tensor:
        x = (_resized(images, self.side, "bilinear") - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        pooled: Tensor = self.pool(self.body.forward_features(x))
        return pooled


class _MeanPool(nn.Module):
    """Mean of a feature map, from [N, C, H, W] to [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def _lite0() -> Extractor:
    recipe = Recipe(model=LITE0)
    found = weights.find(recipe)
    assert found.path is not None

    def build() -> nn.Module:
        with torch.random.fork_rng(
            devices=[]
        ):  # initialises the classifier's head, which is not used
            classifier = models.build(recipe, found, labels=2)
        return _Pooled(classifier, LITE0_PX, _MeanPool())

    return Extractor(
        name="lite0",
        sha256=files.sha256_of(found.path),
        side=LITE0_PX,
        words=f"{LITE0}, ImageNet weights, 1280 pooled features of the last feature map; images "
        f"resized to {LITE0_PX} px, bilinear, antialiased",
        build=build,
    )


def _kept(file: Path) -> Extractor:
    kept = saved_model.read(file)
    card = kept.card

    def build() -> nn.Module:
        from fgaug.training.load_model import load_classifier

        classifier = load_classifier(kept, torch.device("cpu"))
        return _Pooled(classifier, card.size, models.ConcatPool())

    return Extractor(
        name="model",
        sha256=card.sha256,
        side=card.size,
        words=f"kept classifier {card.cell_id} ({saved_model.shown(card.cell)}), largest and "
        f"mean of each feature of its last map; images resized to {card.size} px, "
        f"bilinear, antialiased",
        build=build,
    )


class _Dinov2(nn.Module):
    """The class token of DINOv2 after its last norm, from uint8 [N, 3, H, W] to [N, 384]."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = (_resized(images, DINOV2_PX, "bicubic").clamp(0, 1) - self.mean) / self.std
        token: Tensor = self.body(x)
        return token


def _dinov2(file: Path) -> Extractor:
    return Extractor(
        name="dinov2",
        sha256=files.sha256_of(file),
        side=DINOV2_PX,
        words=f"{DINOV2}, its class token; images resized to {DINOV2_PX} px, bicubic, antialiased",
        build=lambda: _Dinov2(_dinov2_body(file)),
    )


def _dinov2_body(file: Path) -> nn.Module:
    """Return timm's network with a file's weights, positions interpolated to 16 x 16 patches."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = weights.read_state(file)
    with torch.random.fork_rng(devices=[]):  # weights are initialised, then replaced
        body: Any = timm.create_model(DINOV2, pretrained=False, num_classes=0, img_size=DINOV2_PX)
    try:
        body.load_state_dict(checkpoint_filter_fn(state, body))
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file} does not hold the weights of {DINOV2} ({reason}). Give the state dict of "
            "timm's network, or dinov2_vits14_pretrain.pth."
        ) from None
    return cast(nn.Module, body)


def _fidelity(name: str, file: Path) -> Extractor:
    class_name, layer, side = _FIDELITY[name]
    return Extractor(
        name=name,
        sha256=files.sha256_of(file),
        side=side,
        words=f"torch-fidelity's {class_name}, layer {layer}; images resized to {side} px as "
        "TensorFlow 1 does, bilinear",
        build=lambda: _Fidelity(_loaded(class_name, layer, file)),
    )


class _Fidelity(nn.Module):
    """One layer of a torch-fidelity network, from uint8 [N, 3, H, W] to [N, D]."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> Tensor:
        layer: Tensor = self.extractor(images)[0]
        return layer


def _loaded(class_name: str, layer: str, file: Path) -> Any:
    """Return a torch-fidelity network with a file's weights.

    Its own loader gets a copy of the tensors, which were read without running any code: it is not
    trusted with the file itself.
    """
    import torch_fidelity.feature_extractor_inceptionv3 as inception
    import torch_fidelity.feature_extractor_vgg16 as vgg16

    made = getattr(inception if "Inception" in class_name else vgg16, class_name)
    state = weights.read_state(file)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses a deprecated torchvision call
        copy = Path(folder) / "state.pth"
        torch.save(state, copy)
        try:
            return made(class_name, [layer], feature_extractor_weights_path=str(copy))
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file} does not hold the weights of {class_name} ({reason}). Give "
                "torch-fidelity's conversion of the Inception weights of 2015-12-05, or "
                "torchvision's VGG16."
            ) from None
