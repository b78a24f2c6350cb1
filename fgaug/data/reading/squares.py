"""Crop source images and resize them to squares of the dataset's size."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

RESIZE_FILTER = "lanczos"
MIN_SIZE, MAX_SIZE = 8, 2048  # px, side of a dataset's or bank's images


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels of an image `of_width` x `of_height`."""

    x: float
    y: float
    width: float
    height: float
    of_width: float
    of_height: float

    def scaled(self, width: int, height: int) -> Box:
        """Return the same region in a copy of the image resized to width x height."""
        sx, sy = width / self.of_width, height / self.of_height
        return Box(
            x=self.x * sx,
            y=self.y * sy,
            width=self.width * sx,
            height=self.height * sy,
            of_width=width,
            of_height=height,
        )

    def problem(self) -> str | None:
        """Return why this box cannot be used for cropping, or None."""
        numbers = (self.x, self.y, self.width, self.height, self.of_width, self.of_height)
        if not all(math.isfinite(number) for number in numbers):
            return f"box {numbers[:4]} is not four numbers"
        if min(self.width, self.height, self.of_width, self.of_height) <= 0:
            return f"box {numbers[:4]} has no area"
        right, bottom = self.x + self.width, self.y + self.height
        # Hand-drawn boxes overshoot by a pixel; more means that the box belongs to another image.
        if min(self.x, self.y) < -1 or right > self.of_width + 1 or bottom > self.of_height + 1:
            return (
                f"box {numbers[:4]} extends beyond its image of {self.of_width} x {self.of_height}"
            )
        return None


def image_sha256(pixels: np.ndarray) -> str:
    """Return the SHA-256 of source pixels and their shape; lossless copies share it."""
    shape = "x".join(str(side) for side in pixels.shape)
    digest = hashlib.sha256(f"{pixels.dtype}:{shape}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return [..., channels]: repeats grey, and converts colour to grey with Pillow's luma."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def crop_square(pixels: np.ndarray, box: Box, margin: float) -> np.ndarray:
    """Return the square of (1 + margin) times the box's longer side, centred on the box.

    Where the square extends beyond the image, it is padded by reflection without repeating the
    edge.
    """
    height, width = pixels.shape[:2]
    box = box.scaled(width, height)
    side = max(1, round((1 + margin) * max(box.width, box.height)))
    left = round(box.x + box.width / 2 - side / 2)
    top = round(box.y + box.height / 2 - side / 2)
    before = (max(0, -top), max(0, -left))
    after = (max(0, top + side - height), max(0, left + side - width))
    around = ((before[0], after[0]), (before[1], after[1]), (0, 0))
    padded = np.pad(pixels, around, mode="reflect")
    top, left = top + before[0], left + before[1]
    return padded[top : top + side, left : left + side]


def resize_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the image resized to size x size with Pillow's antialiasing Lanczos filter.

    The aspect ratio is not kept: nothing is cropped or padded.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    resized = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    return resized[..., None] if grey else resized
