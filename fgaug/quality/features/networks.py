"""Networks that compute image features, each with a label that accompanies its results.

Values from different networks are not comparable, so a label names the network, the first digits
of its weights' SHA-256 and the side to which images are resized. Nothing is downloaded, and no
code in a file is run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fgaug.errors import UserError
from fgaug.quality.features.extractors import SOURCES, Extractor, extractor_of

_BATCH = {"cpu": 32, "cuda": 256}


class FeatureNetwork:
    """A network that computes image features."""

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
        """Wrap `module`, a function from uint8 [N, 3, H, W] to float [N, D]."""
        self.label = _label(name, sha256, side)
        self.sha256, self.description = sha256, words
        self.asked = asked  # argument with which `load_network` loads it in another process
        self.device = torch.device(device)
        self._module = module.to(self.device).eval().requires_grad_(False)

    def features(
        self, images: np.ndarray, done: Callable[[int], None] = lambda count: None
    ) -> NDArray[np.float32]:
        """Return features, float32 [N, D], of uint8 [N, H, W, C]; gray images become RGB.

        Args:
            images: memory-mapped or not; read one batch at a time.
            done: called after each batch with the number of images that have features.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(
                f"Features need images as uint8 [N, H, W, 1 or 3], got {images.dtype} "
                f"{images.shape}."
            )
        if not len(images):
            raise UserError("Features need at least one image, got none.")
        batch, found = _BATCH[self.device.type], []
        for start in range(0, len(images), batch):
            part = np.array(images[start : start + batch], order="C")  # torch needs its own copy
            # full float32: with TF32 the values on a GPU would be those of a different network
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                pixels = torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2)
                made = self._module(pixels.expand(-1, 3, -1, -1))
            found.append(made.float().cpu().numpy())
            done(start + len(part))
        return np.concatenate(found)


def load_network(
    asked: str = "lite0", device: str = "cpu", option: str = "--features"
) -> FeatureNetwork:
    """Return the feature network that an option names.

    Args:
        asked: `lite0`, the ImageNet network that ships with fgaug; `inception:FILE`, the network
            of the published FIDs; `vgg16:FILE`, that of the published precisions and recalls;
            `dinov2:FILE`, a self-supervised transformer; `model:FILE`, a classifier kept by a
            search. FILE is a state dict, `.pth` or `.safetensors`: torch-fidelity's conversion of
            the Inception weights of 2015-12-05, torchvision's VGG16, timm's or the authors' small
            DINOv2 of 14 px patches; of `model` a `model.safetensors`, its card beside it.
        device: cpu, cuda or cuda:1.
        option: for messages.

    Raises:
        UserError: the name is unknown, or the file is not a state dict of that network. Files that
            contain code (TorchScript, pickled models) are refused.
    """
    found = _named(asked, option)
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
    """Return (label, SHA-256 of the weights) of the network that `load_network` would return.

    Raises:
        UserError: as there, except for errors that appear only while building the network.
    """
    found = _named(asked)
    return _label(found.name, found.sha256, found.side), found.sha256


def _named(asked: str, option: str = "--features") -> Extractor:
    found = extractor_of(asked, option)
    if found is None:
        source = SOURCES.get(asked.rstrip(":"))
        cure = f" Its weights are not packaged: copy {source}." if source else ""
        raise UserError(
            f"{option} must be lite0, inception:FILE, vgg16:FILE, dinov2:FILE or model:FILE, "
            f"got {asked}.{cure} The packaged lite0 needs no file, but its values are not "
            "comparable with published ones."
        )
    return found


def _label(name: str, sha256: str, side: int) -> str:
    return f"{name}-{sha256[:8]}@{side}"
