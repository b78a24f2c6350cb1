"""Augment all images that a discriminator sees, with a strength p.

Adaptive discriminator augmentation, Karras et al. 2020, arXiv:2006.06676: each transform is
applied to each image with probability p, so that for p below about 0.8 the generator learns the
images and not the transforms. All geometric transforms are one resampling, all colour transforms
one matrix.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gan_worker.training.affine_warp import warped
from gan_worker.training.transforms import GROUPS, Draws, Quantile, Source, Transforms, parameters


class AugmentPipe(nn.Module):
    """Random transforms of images [N, C, R, R], twice differentiable.

    Each draw reads `p`. A module on a GPU thus synchronises with the CPU; one on the CPU does not,
    and can transform images on any device.
    """

    p: Tensor  # 0-d float32

    def __init__(self, groups: str, *, resolution: int, img_channels: int) -> None:
        """Start at p = 0.

        Args:
            groups: none, b (flips, quarter turns, whole px shifts), bg (also scaling, rotation,
                stretching, fractional shifts) or bgc (also colour).
            resolution: side of the images in px.
            img_channels: number of channels; 1 or 3 for group c.
        """
        super().__init__()
        if groups not in GROUPS:
            raise ValueError(f"`groups` must be one of {', '.join(GROUPS)}, got {groups}.")
        self.colour = "c" in groups
        if self.colour and img_channels not in (1, 3):
            raise ValueError(
                f"Group c needs images of 1 or 3 channels, got {img_channels}. Use bg for these "
                "images."
            )
        self.groups, self.resolution, self.img_channels = groups, resolution, img_channels
        self.register_buffer("p", torch.zeros(()))

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Transform each image with separate draws from a generator on the CPU.

        The number of draws does not depend on p. At p = 0 the images are returned unchanged.
        """
        return self.transformed(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Transforms:
        """Draw transforms of `count` images.

        Processes that share a batch draw for the whole batch and select their part.
        """
        return self._transforms(Draws(count, generator))

    def quantile(self, count: int, q: float) -> Transforms:
        """Return transforms with parameters at their q-quantiles, all on except `rotate_post`."""
        return self._transforms(Quantile(count, q), rotate_post=False)

    def transformed(self, images: Tensor, transforms: Transforms) -> Tensor:
        """Apply transforms to images; return the same images if nothing changes.

        Args:
            images: float32 or float64 [N, C, R, R].
            transforms: transforms of the N images.
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
    """Apply colour matrices [N, 3, 4] to images [N, 1 or 3, R, R].

    A grey image is treated as three equal channels, whose mean is returned.
    """
    linear, added = colour[:, :, :3], colour[:, :, 3:]
    if images.shape[1] == 1:
        factor, added = linear.sum(dim=2).mean(dim=1), added.mean(dim=1, keepdim=True)
        return images * factor[:, None, None, None] + added[:, :, None]
    return (linear @ images.flatten(2) + added).view_as(images)
