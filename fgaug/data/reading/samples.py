"""Read samples of more than 8 bits, and those that Pillow scales or inverts differently.

One rule for every format, grey and colour: a sample is a fraction of its full range, rounded to
the nearest of 256 levels. Pillow keeps only the high byte of 48-bit colour, so a second decoding
with swapped bytes fetches the low byte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

FULL = 65535  # every deep sample is scaled to 0..FULL
_GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_BITS, _PHOTOMETRIC = 258, 262  # TIFF tags
_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, then the sizes
Reopen = Callable[[], ImageFile.ImageFile]


class BrokenImageError(ValueError):
    """A file cannot be decoded; the message is the reason, without the file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSamples:
    """Samples of an upright image, scaled to 0..FULL, transparency composited over black."""

    values: np.ndarray  # int64 [H, W, 1 or 3]
    peak: int  # the largest sample as stored, of FULL

    def to_8_bit(self) -> np.ndarray:
        """Return uint8 [H, W, 1 or 3], rounded to the nearest of 256 levels."""
        return ((self.values + 128) // 257).astype(np.uint8)


def deep_samples(
    opened: ImageFile.ImageFile, reopen: Reopen, precision: int | None = None
) -> DeepSamples | None:
    """Return the samples of an image of more than 8 bits, or None for one of 8 or fewer.

    Args:
        opened: the image as opened by Pillow, not loaded yet.
        reopen: opens the same file again.
        precision: bits per sample, of JPEG 2000 only.

    Raises:
        BrokenImageError: samples are negative or have more than 16 bits.
    """
    raw = raw_mode(opened)
    if opened.mode in _GREY_MODES:
        return _grey(opened, precision)
    if ";16" not in raw:
        return None
    if raw.startswith("CMYK"):
        raise BrokenImageError("16-bit CMYK; export it as grey or RGB")
    return _colour(opened, reopen, raw)


def raw_mode(opened: ImageFile.ImageFile) -> str:
    """Return Pillow's raw mode of the file; empty if there is none."""
    arguments: Any = opened.tile[0].args if opened.tile else ""
    if isinstance(arguments, tuple):
        arguments = arguments[0] if arguments else ""
    return arguments if isinstance(arguments, str) else ""


def upright(image: Image.Image) -> Image.Image:
    """Return the image with its EXIF orientation applied; the same object if it has none."""
    ImageOps.exif_transpose(image, in_place=True)
    return image


def levels(values: np.ndarray, top: int) -> np.ndarray:
    """Return samples of 0..top scaled to the nearest of 0..FULL, int64."""
    scaled: np.ndarray = (values.astype(np.int64) * FULL + top // 2) // top
    return scaled


def jpeg2000_precision(head: bytes) -> tuple[int, bool] | None:
    """Return the bits per sample of a JPEG 2000 file and whether samples are signed.

    Args:
        head: the first bytes of the file; if they lack the sizes, None is returned.
    """
    start = head.find(_SIZ)
    precision = start + 42  # after marker, length, capabilities, eight sizes, component count
    if start < 0 or len(head) <= precision:
        return None
    return (head[precision] & 0x7F) + 1, bool(head[precision] & 0x80)


def _grey(opened: ImageFile.ImageFile, precision: int | None) -> DeepSamples:
    key = opened.info.get("transparency")
    tags = getattr(opened, "tag_v2", {})
    inverted = tags.get(_PHOTOMETRIC) == 0  # white is 0; Pillow inverts only 8 bits and fewer
    values = np.asarray(upright(opened)).astype(np.int64)
    top = FULL
    if tags.get(_BITS) == (12,):
        top = 4095
    elif precision is not None:  # Pillow shifted them to the top of 16 bits
        top, values = (1 << precision) - 1, values >> (16 - precision)
    if values.size and (values.min() < 0 or values.max() > top):
        raise BrokenImageError(
            f"pixels from {values.min()} to {values.max()}; export them as 0 to {top} (16 bits) "
            "or 0 to 255"
        )
    if top != FULL:
        values = levels(values, top)
    peak = int(values.max(initial=0))
    if inverted:
        values = FULL - values
    if isinstance(key, int):
        values = np.where(values == key, 0, values)
    return DeepSamples(values=values[..., None], peak=peak)


def _colour(opened: ImageFile.ImageFile, reopen: Reopen, raw: str) -> DeepSamples:
    """Return 16-bit colour, or grey with alpha, from two decodings: of high and of low bytes."""
    key = opened.info.get("transparency")
    associated = raw.startswith("RGBa")  # premultiplied alpha
    if raw.startswith("LA;"):  # four bytes per pixel: two of grey, two of alpha
        bytes_ = _decoded(opened, lambda _: "RGBA").astype(np.int64)
        values = bytes_[..., 0::2] * 256 + bytes_[..., 1::2]
    else:
        high = _decoded(opened, lambda mode: mode.replace("RGBa", "RGBA"))
        with reopen() as again:
            low = _decoded(again, _with_other_byte)
        values = high.astype(np.int64) * 256 + low
    peak = int(values[..., : 3 if values.shape[-1] > 2 else 1].max(initial=0))
    if values.shape[-1] in (2, 4):
        alpha, values = values[..., -1:], values[..., :-1]
        values = values if associated else (values * alpha + FULL // 2) // FULL
    if isinstance(key, tuple):
        values = np.where((values == np.array(key)).all(axis=-1, keepdims=True), 0, values)
    return DeepSamples(values=values, peak=peak)


def _with_other_byte(mode: str) -> str:
    """Return the raw mode that keeps the byte `mode` drops: `RGB;16L` for `RGB;16B`."""
    mode = mode.replace("RGBa", "RGBA")
    return mode[:-1] + _OTHER_BYTE[mode[-1]]


def _decoded(opened: ImageFile.ImageFile, packed: Callable[[str], str]) -> np.ndarray:
    """Decode an image with replaced raw modes; return uint8 [H, W, C], upright."""
    tiles = []
    for tile in opened.tile:
        arguments: Any = tile.args
        changed = (
            (packed(arguments[0]), *arguments[1:])
            if isinstance(arguments, tuple)
            else packed(str(arguments))
        )
        tiles.append(tile._replace(args=changed))
    opened.tile = tiles
    return np.asarray(upright(opened))
