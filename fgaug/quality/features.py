"""Networks that turn images into features; each with a label that goes with its numbers.

images -> [features] -> measures, filters.  Numbers from different networks do not compare, so a
label names the network, the first digits of its weights' SHA-256 and the side that images are
resized to. Nothing is downloaded and no file's code is run.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fgaug import paths
from fgaug.errors import UserError
from fgaug.recipe import Recipe
from fgaug.training import models, weights
from fgaug.training.weights import LITE0

LITE0_PX = 224  # the side of the images that it was trained on
_BATCH = {"cpu": 32, "cuda": 256}
# torch-fidelity's: (class, layer, side in px that it resizes to itself)
_FIDELITY = {
    "inception": ("FeatureExtractorInceptionV3", "2048", 299),
    "vgg16": ("FeatureExtractorVGG16", "fc2_relu", 224),
}


class FeatureNetwork:
    """A network whose features stand for images."""

    def __init__(
        self, module: nn.Module, *, name: str, sha256: str, side: int, words: str, device: str
    ) -> None:
        """Take `module`: uint8 [N, 3, H, W] -> float [N, D]."""
        self.label = f"{name}-{sha256[:8]}@{side}"
        self.sha256, self.description = sha256, words
        self.device = torch.device(device)
        self._module = module.to(self.device).eval().requires_grad_(False)

    def features(
        self, images: np.ndarray, done: Callable[[int], None] = lambda count: None
    ) -> NDArray[np.float32]:
        """Return float32 [N, D] of images, uint8 [N, H, W, C]; one channel is repeated to three.

        Args:
            images: memory-mapped or not; read a batch at a time.
            done: told after each batch how many images have their features.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(
                "Features are of images uint8 [N, H, W, 1 or 3], "
                f"got {images.dtype} {images.shape}."
            )
        if not len(images):
            raise UserError("Features need at least one image, got none.")
        batch, found = _BATCH[self.device.type], []
        for start in range(0, len(images), batch):
            part = np.ascontiguousarray(images[start : start + batch])
            # float32 to the last digit: TF32 would make a GPU's numbers another network's
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                pixels = torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2)
                made = self._module(pixels.expand(-1, 3, -1, -1))
            found.append(made.float().cpu().numpy())
            done(start + len(part))
        return np.concatenate(found)


def load_network(asked: str = "lite0", device: str = "cpu") -> FeatureNetwork:
    """Return a feature network by what `--features` says.

    Args:
        asked: `lite0`, the ImageNet network that fgaug comes with; `inception:FILE`, the network
            of the published FIDs; `vgg16:FILE`, that of the published precisions and recalls.
            FILE is a state dict, `.pth` or `.safetensors`: torch-fidelity's conversion of the
            Inception weights of 2015-12-05, torchvision's VGG16.
        device: cpu, cuda or cuda:1.

    Raises:
        UserError: another name, or a file that is no such network's state dict. Files that hold
            code (TorchScript, pickled models) are refused.
    """
    name, _, file = asked.partition(":")
    if asked == "lite0":
        return _lite0(device)
    if name in _FIDELITY and file:
        return _from_file(name, Path(file), device)
    raise UserError(
        f"--features is lite0, inception:FILE or vgg16:FILE, got {asked}. The packaged lite0 "
        "needs no file; its numbers do not compare with published ones."
    )


class _Lite0(nn.Module):
    """The packaged ImageNet network up to its pooled features: uint8 [N, 3, H, W] -> [N, 1280]."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: models.Classifier) -> None:
        super().__init__()
        self.body = classifier.body
        self.register_buffer("mean", classifier.mean)
        self.register_buffer("std", classifier.std)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255
        if x.shape[2:] != (LITE0_PX, LITE0_PX):
            side = (LITE0_PX, LITE0_PX)
            x = F.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        pooled: Tensor = self.body.forward_features(x).mean(dim=(2, 3))
        return pooled


def _lite0(device: str) -> FeatureNetwork:
    recipe = Recipe(model=LITE0)
    found = weights.find(recipe)
    assert found.path is not None
    with torch.random.fork_rng(devices=[]):  # the classifier's head is drawn, and not used
        classifier = models.build(recipe, found, labels=2)
    return FeatureNetwork(
        _Lite0(classifier.to(memory_format=torch.channels_last)),
        name="lite0",
        sha256=paths.sha256_of(found.path),
        side=LITE0_PX,
        words=f"{LITE0}, ImageNet weights, 1280 pooled features of the last feature map; images "
        f"resized to {LITE0_PX} px, bilinear, antialiased",
        device=device,
    )


def _from_file(name: str, file: Path, device: str) -> FeatureNetwork:
    class_name, layer, side = _FIDELITY[name]
    if not file.is_file():
        raise UserError(f"--features {name}:FILE: {file} is not a file.")
    return FeatureNetwork(
        _Fidelity(_extractor(class_name, layer, file)),
        name=name,
        sha256=paths.sha256_of(file),
        side=side,
        words=f"torch-fidelity's {class_name}, layer {layer}; images resized to {side} px as "
        "TensorFlow 1 does, bilinear",
        device=device,
    )


class _Fidelity(nn.Module):
    """One layer of a torch-fidelity network: uint8 [N, 3, H, W] -> [N, D]."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> Tensor:
        layer: Tensor = self.extractor(images)[0]
        return layer


def _extractor(class_name: str, layer: str, file: Path) -> Any:
    """Return a torch-fidelity network with a file's weights.

    Its own loader reads a copy that was written here of tensors that were read without running
    anything: what it does with a file is not ours to trust.
    """
    import torch_fidelity.feature_extractor_inceptionv3 as inception
    import torch_fidelity.feature_extractor_vgg16 as vgg16

    made = getattr(inception if "Inception" in class_name else vgg16, class_name)
    state = weights.read_state(file)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision for networks in an outdated way
        copy = Path(folder) / "state.pth"
        torch.save(state, copy)
        try:
            return made(class_name, [layer], feature_extractor_weights_path=str(copy))
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file} holds the weights of another network than {class_name} ({reason}). Give "
                "torch-fidelity's conversion of the Inception weights of 2015-12-05, or "
                "torchvision's VGG16."
            ) from None
