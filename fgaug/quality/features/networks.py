"""Networks that turn images into features; each with a label that goes with its numbers.

Numbers from different networks do not compare, so a
label names the network, the first digits of its weights' SHA-256 and the side that images are
resized to. Nothing is downloaded and no file's code is run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fgaug.errors import UserError
from fgaug.quality.features.extractors import Extractor, extractor_of

_BATCH = {"cpu": 32, "cuda": 256}


class FeatureNetwork:
    """A network whose features stand for images."""

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        sha256: str,
        side: int,
        words: str,
        device: str,
        asked: str | None = None,
    ) -> None:
        """Take `module`: uint8 [N, 3, H, W] -> float [N, D]."""
        self.label = _label(name, sha256, side)
        self.sha256, self.description = sha256, words
        self.asked = asked  # what `load_network` gives it by, in another process too
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
            part = np.array(images[start : start + batch], order="C")  # torch wants its own
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
            of the published FIDs; `vgg16:FILE`, that of the published precisions and recalls;
            `dinov2:FILE`, a self-supervised transformer; `model:FILE`, a classifier that a search
            kept. FILE is a state dict, `.pth` or `.safetensors`: torch-fidelity's conversion of
            the Inception weights of 2015-12-05, torchvision's VGG16, timm's or the authors' small
            DINOv2 of 14 px patches; of `model` a `model.safetensors`, its card beside it.
        device: cpu, cuda or cuda:1.

    Raises:
        UserError: another name, or a file that is no such network's state dict. Files that hold
            code (TorchScript, pickled models) are refused.
    """
    found = _named(asked)
    return FeatureNetwork(
        found.build(),
        name=found.name,
        sha256=found.sha256,
        side=found.side,
        words=found.words,
        device=device,
        asked=asked,
    )


def network_label(asked: str) -> tuple[str, str]:
    """Return (label, SHA-256 of the weights) of the network that `load_network` would give.

    Raises:
        UserError: as there, as far as it shows before the network is built.
    """
    found = _named(asked)
    return _label(found.name, found.sha256, found.side), found.sha256


def _named(asked: str) -> Extractor:
    found = extractor_of(asked)
    if found is None:
        raise UserError(
            "--features is lite0, inception:FILE, vgg16:FILE, dinov2:FILE or model:FILE, got "
            f"{asked}. The packaged lite0 needs no file; its numbers do not compare with "
            "published ones."
        )
    return found


def _label(name: str, sha256: str, side: int) -> str:
    return f"{name}-{sha256[:8]}@{side}"
