"""Score single images with a snapshot's discriminator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fgaug.core.devices import usable_device
from fgaug.errors import SnapshotError
from gan_worker.files.discriminators import StoredDiscriminator, read_discriminator
from gan_worker.generators.devices import exact_float32

_BATCH = {"cpu": 16, "cuda": 128}


class Critic:
    """The discriminator that was trained with a generator.

    Each image is scored alone, as a group of one. In training, the last block also received the
    spread of a group of images, which is 0 here. Logits are comparable within one network, but not
    between networks.
    """

    def __init__(
        self, file: Path | str, device: str = "cpu", class_index: int | None = None
    ) -> None:
        """Read an official pickle.

        Raises:
            SnapshotError: the file has no discriminator, or the class is invalid.
        """
        stored = read_discriminator(file)
        config = dataclasses.replace(stored.config, group_size=1)
        if (class_index is None) != (not config.labels) or not (
            0 <= (class_index or 0) < max(1, config.labels)
        ):
            raise SnapshotError(
                f"The discriminator of {file} has {config.labels} classes, but requested is "
                f"{'none' if class_index is None else class_index}."
            )
        self.size, self.channels = config.resolution, config.img_channels
        self._device = usable_device(device)
        lone = StoredDiscriminator(config=config, tensors=stored.tensors)
        self._network = lone.network().to(self._device)
        self._one_hot = None
        if class_index is not None:
            self._one_hot = torch.eye(config.labels, device=self._device)[[class_index]]

    def logits(self, images: np.ndarray) -> NDArray[np.float64]:
        """Return float64 [N] for uint8 [N, size, size, channels]; above 0 means real.

        Raises:
            SnapshotError: the images have another shape than the network's.
        """
        shape = (self.size, self.size, self.channels)
        if images.shape[1:] != shape:
            raise SnapshotError(
                f"The discriminator needs images of {shape}, but these have {images.shape[1:]}. "
                "Use a bank with the size and channels of its network."
            )
        step, found = _BATCH[self._device.type], [np.empty(0)]
        for start in range(0, len(images), step):
            part = torch.from_numpy(np.array(images[start : start + step])).to(self._device)
            with torch.inference_mode(), exact_float32(self._device):
                pixels = part.permute(0, 3, 1, 2).float() / 127.5 - 1
                classes = None
                if self._one_hot is not None:
                    classes = self._one_hot.expand(len(part), -1)
                logits = self._network(pixels, classes)
            found.append(logits[:, 0].double().cpu().numpy())
        return np.concatenate(found)
