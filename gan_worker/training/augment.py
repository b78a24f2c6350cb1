"""Augmentation of all that a discriminator sees, at a strength p.

Adaptive discriminator augmentation, Karras et al. 2020, arXiv:2006.06676: each transform happens
to each image with probability p, so that below p of about 0.8 the generator learns the images and
not the transforms. All moves of pixels are one resampling, all changes of colour one matrix.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gan_worker.training.affine_warp import warped
from gan_worker.training.transforms import GROUPS, Draws, Quantile, Source, Transforms, parameters


class AugmentPipe(nn.Module):
    """Random transforms of images [N, C, R, R]; differentiable twice with respect to them.

    `p` is read at each draw: a module on a GPU makes the CPU wait for it, one that is left on the
    CPU transforms images on any device without that.
    """

    p: Tensor  # 0-d float32

    def __init__(self, groups: str, *, resolution: int, img_channels: int) -> None:
        """Start at p = 0.

        Args:
            groups: none, b (mirror, quarter turns, whole px shifts), bg (and scale, rotation,
                stretch, fractional shifts) or bgc (and colour).
            resolution: of the images, px.
            img_channels: 1 or 3 where colours change.
        """
        super().__init__()
        if groups not in GROUPS:
            raise ValueError(f"`groups` must be one of {', '.join(GROUPS)}, got {groups}.")
        self.colour = "c" in groups
        if self.colour and img_channels not in (1, 3):
            raise ValueError(
                f"Group c must have 1 or 3 channels, got {img_channels}. Use bg for these images."
            )
        self.groups, self.resolution, self.img_channels = groups, resolution, img_channels
        self.register_buffer("p", torch.zeros(()))

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images under transforms of their own, drawn from a generator on the CPU.

        It moves on by as many draws at any p, also at 0, where the images themselves come back.
        """
        return self.transformed(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Transforms:
        """Return transforms of `count` images.

        Processes that share a batch draw for all of it and index their images' transforms.
        """
        return self._transforms(Draws(count, generator))

    def quantile(self, count: int, q: float) -> Transforms:
        """Return transforms whose every parameter is its q-quantile, all on but `rotate_post`."""
        return self._transforms(Quantile(count, q), rotate_post=False)

    def transformed(self, images: Tensor, transforms: Transforms) -> Tensor:
        """Return images under given transforms; the images themselves where nothing changes.

        Args:
            images: float32 or float64 [N, C, R, R].
            transforms: of N images.
        """
        assert len(images) == len(transforms)
        if transforms.idle:
            return images
        # in half precision the two filters would not cancel
        with torch.autocast(images.device.type, enabled=False):
            images = warped(images, transforms.inverse)
            if transforms.colour is None:
                return images
            return _coloured(images, transforms.colour.to(images))

    def _transforms(self, source: Source, *, rotate_post: bool = True) -> Transforms:
        drawn = parameters(
            source,
            p=float(self.p),
            groups=self.groups,
            resolution=self.resolution,
            img_channels=self.img_channels,
        )
        if not rotate_post:
            drawn = replace(drawn, rotate_post=torch.zeros_like(drawn.rotate_post))
        return Transforms.of(drawn, colour=self.colour)


def _coloured(images: Tensor, colour: Tensor) -> Tensor:
    """Return images [N, 1 or 3, R, R] whose colours went through matrices [N, 3, 4].

    A gray image counts as three equal channels whose mean is kept.
    """
    linear, added = colour[:, :, :3], colour[:, :, 3:]
    if images.shape[1] == 1:
        factor, added = linear.sum(dim=2).mean(dim=1), added.mean(dim=1, keepdim=True)
        return images * factor[:, None, None, None] + added[:, :, None]
    return (linear @ images.flatten(2) + added).view_as(images)
