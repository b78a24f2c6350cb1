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
    """A rectangle in pixels of an image `of_width` x `of_height`.

    With 1 x 1 its numbers are shares of the sides; with None they are pixels of the image file
    itself, whatever its size.
    """

    x: float
    y: float
    width: float
    height: float
    of_width: float | None
    of_height: float | None

    def scaled(self, width: int, height: int) -> Box:
        """Return the same region in pixels of the image, or of its copy, of width x height."""
        sx, sy = width / (self.of_width or width), height / (self.of_height or height)
        return Box(
            x=self.x * sx,
            y=self.y * sy,
            width=self.width * sx,
            height=self.height * sy,
            of_width=width,
            of_height=height,
        )

    def problem(self) -> str | None:
        """Return why this box cannot be used for cropping an image of the stated size, or None."""
        assert self.of_width is not None
        assert self.of_height is not None
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


class BoxOutsideError(ValueError):
    """A box that no pixel of its image lies in."""


def fit_box(box: Box, width: int, height: int) -> tuple[Box, float]:
    """Return the box in pixels of its image, clipped to it, and how far it reached beyond.

    A box that exceeds the image by a pixel at most is returned whole: drawn boxes round outwards.

    Args:
        box: of the image, or of a copy of another size.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Raises:
        BoxOutsideError: the box lies outside of the image.
    """
    box = box.scaled(width, height)
    right, bottom = box.x + box.width, box.y + box.height
    if box.x >= width or box.y >= height or right <= 0 or bottom <= 0:
        raise BoxOutsideError(
            f"the box from x {box.x:g} to {right:g} and y {box.y:g} to {bottom:g} px lies outside "
            f"of its image of {width} x {height} px"
        )
    beyond = max(-box.x, -box.y, right - width, bottom - height, 0.0)
    if beyond <= 1:
        return box, 0.0
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    clipped = Box(
        x=x,
        y=y,
        width=min(right, width) - x,
        height=min(bottom, height) - y,
        of_width=width,
        of_height=height,
    )
    return clipped, beyond


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
