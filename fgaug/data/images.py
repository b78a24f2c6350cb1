"""Images: one file -> source pixels -> crop -> square of the dataset's size.

ingest -> images -> loading -> dataset
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
RESIZE_FILTER = "lanczos"
MIN_SIZE, MAX_SIZE = 8, 2048  # px, side of a dataset's or bank's images
MAX_PIXELS = (
    80_000_000  # a whole-slide scan or a decompression bomb, not an image to be learnt from
)
_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class BrokenImageError(ValueError):
    """A file whose pixels cannot be had; the text is the reason without the name."""


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
        """Return the same region of a copy of the image that was resized to width x height."""
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
        """Return why this box cannot be cropped to, or None."""
        numbers = (self.x, self.y, self.width, self.height, self.of_width, self.of_height)
        if not all(math.isfinite(number) for number in numbers):
            return f"box {numbers[:4]} is not four numbers"
        if min(self.width, self.height, self.of_width, self.of_height) <= 0:
            return f"box {numbers[:4]} has no area"
        right, bottom = self.x + self.width, self.y + self.height
        # Hand-drawn boxes overshoot by a pixel; more means that they belong to another image.
        if min(self.x, self.y) < -1 or right > self.of_width + 1 or bottom > self.of_height + 1:
            return f"box {numbers[:4]} leaves its image of {self.of_width} x {self.of_height}"
        return None


def read_image(path: Path) -> np.ndarray:
    """Return the source pixels of a PNG, JPEG, BMP or TIFF file.

    The orientation in the file is applied, palettes are resolved, 16 bits are scaled to 8 by the
    full range, and transparency is laid over black, the background of an ultrasound image.

    Returns:
        uint8 [H, W, 1] if the image is grey (also if it is stored as colour with equal channels),
        else [H, W, 3].

    Raises:
        BrokenImageError: the file is truncated, too large, of many frames, or no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            _check(opened)
            opened.load()
            return _canonical(_to_8_bit(ImageOps.exif_transpose(opened)))
    except BrokenImageError:
        raise
    except FileNotFoundError:
        raise BrokenImageError("no such file") from None
    except UnidentifiedImageError:
        raise BrokenImageError(f"not a {', '.join(FORMATS)} image") from None
    except Exception as problem:  # decoders raise anything on hostile bytes, not only OSError
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise BrokenImageError(reason) from None


def image_sha256(pixels: np.ndarray) -> str:
    """Return the SHA-256 of source pixels and their shape; a lossless copy has the same."""
    shape = "x".join(str(side) for side in pixels.shape)
    digest = hashlib.sha256(f"{pixels.dtype}:{shape}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return [..., channels]: grey is repeated, colour becomes grey by Pillow's luma."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def crop_square(pixels: np.ndarray, box: Box, margin: float) -> np.ndarray:
    """Return the square of (1 + margin) times the box's longer side, centred on the box.

    Where the square leaves the image, the image is reflected without repeating its edge.
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
    """Return the image squashed to size x size by Pillow's Lanczos filter, antialiased.

    The aspect is not kept: nothing is cut off and no border is added.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    resized = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    return resized[..., None] if grey else resized


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BrokenImageError(
            f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}; export it smaller"
        )
    frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if frames > 1:
        raise BrokenImageError(f"{frames} frames; export each frame to its own file")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    if image.mode in (*_16_BIT, "I"):
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise BrokenImageError("more than 16 bits a pixel; export 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise BrokenImageError("pixels are floating point; export 8 or 16 bits")
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        over = image.convert("RGBA")
        black = Image.new("RGBA", over.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, over).convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _canonical(image: Image.Image) -> np.ndarray:
    pixels = np.array(image)
    if pixels.ndim == 2:
        return pixels[..., None]
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., :1].copy() if grey else pixels
