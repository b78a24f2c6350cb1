"""Decode one image file to its source pixels; the only module that opens images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from fgaug.core.image_formats import formats_of
from fgaug.data.reading.other_files import what_else
from fgaug.data.reading.samples import (
    BrokenImageError,
    deep_samples,
    jpeg2000_precision,
    raw_mode,
    upright,
)
from fgaug.data.reading.tiff_tags import check_tiff

MAX_PIXELS = 80_000_000  # more is a whole-slide scan or a decompression bomb, not a training image


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """A decoded image file."""

    pixels: np.ndarray  # uint8 [H, W, 1] or [H, W, 3]
    peak: int | None  # of files with more than 8 bits: the largest stored sample, of 65535
    pictures: int  # images in the file; more than 1 only in camera files (MPO)


def read_image(path: Path) -> np.ndarray:
    """Return the source pixels of an image file; see `read_source`."""
    return read_source(path).pixels


def read_source(path: Path) -> SourceImage:
    """Return the source pixels of an image file of any kind in `fgaug.core.image_formats`.

    Applies the stored orientation, resolves palettes, scales more than 8 bits by the full range,
    and composites transparency over black, the background of ultrasound images. CMYK becomes RGB
    with the file's own profile if it has one, else with Pillow's formula.

    The pixels are uint8 [H, W, 1] if the image is grey (or is colour with equal channels), else
    [H, W, 3].

    Raises:
        BrokenImageError: the file is truncated, too large, has many frames, or is not an image.
    """
    try:
        with path.open("rb") as file:
            return _read(file, formats_of(path.suffix))
    except BrokenImageError:
        raise
    except FileNotFoundError:
        raise BrokenImageError("no such file") from None
    except IsADirectoryError:
        raise BrokenImageError("a folder, not an image file") from None
    except UnidentifiedImageError:
        raise BrokenImageError(what_else(path)) from None
    except Exception as problem:  # on hostile bytes, decoders raise all kinds of exceptions
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise BrokenImageError(reason) from None


def _read(file: BinaryIO, formats: tuple[str, ...]) -> SourceImage:
    def opened_again() -> ImageFile.ImageFile:
        file.seek(0)
        return Image.open(file, formats=formats)

    # Open a file object, as Pillow memory-maps files that it opens by name: it maps an
    # uncompressed TIFF of orientation 5 to 8 with swapped sides, which scrambles it.
    with opened_again() as opened:
        pictures = _check(opened)
        precision = _check_jpeg2000(opened, file) if opened.format == "JPEG2000" else None
        deep = deep_samples(opened, opened_again, precision)
        if deep is not None:
            return SourceImage(
                pixels=_grey_alone(deep.to_8_bit()), peak=deep.peak, pictures=pictures
            )
        wide_ppm = opened.format == "PPM" and _largest_of_ppm(opened) > 255
        flat = _to_8_bit(opened)
        if opened.format == "WEBP" and not _is_lossless(file):
            flat = _without_tint(flat)
        pixels = _grey_alone(np.asarray(flat))
    peak = max(0, int(pixels.max(initial=0)) * 257 - 128) if wide_ppm else None  # at least
    return SourceImage(pixels=pixels, peak=peak, pictures=pictures)


def _check(opened: ImageFile.ImageFile) -> int:
    """Return the number of images in the file; refuse one that is too large or animated."""
    if opened.width * opened.height > MAX_PIXELS:
        raise BrokenImageError(
            f"{opened.width} x {opened.height} pixels, more than {MAX_PIXELS:,}; export it smaller"
        )
    if opened.format == "TIFF":
        check_tiff(opened)
    frames = int(getattr(opened, "n_frames", 1)) if getattr(opened, "is_animated", False) else 1
    if frames > 1 and opened.format != "MPO":
        raise BrokenImageError(f"{frames} frames; export each frame to its own file")
    return frames


def _check_jpeg2000(opened: ImageFile.ImageFile, file: BinaryIO) -> int | None:
    """Return the bits per sample of a grey image if not 8; refuse other such images."""
    file.seek(0)
    found = jpeg2000_precision(file.read())
    file.seek(0)
    if found is None:
        return None
    bits, signed = found
    if signed:
        raise BrokenImageError("JPEG 2000 with signed samples; export it as 8- or 16-bit PNG")
    if bits > 16 or (bits != 8 and opened.mode not in ("I;16", "1")):
        # Pillow shifts colour to 8 bits, and fewer than 8 bits to the top bits, without scaling
        raise BrokenImageError(
            f"JPEG 2000 with {bits}-bit {opened.mode}; export it as PNG or TIFF"
        )
    return bits if bits > 8 else None


def _largest_of_ppm(opened: ImageFile.ImageFile) -> int:
    """Return the largest sample that a PPM header declares; Pillow scales by it."""
    arguments = opened.tile[0].args if opened.tile else ""
    last = arguments[-1] if isinstance(arguments, tuple) else 255
    return last if isinstance(last, int) else 255


def _to_8_bit(opened: ImageFile.ImageFile) -> Image.Image:
    """Convert an image of 8 bits or fewer to mode L or RGB, upright."""
    packed = raw_mode(opened)
    image: Image.Image = upright(opened)
    if image.mode == "F":
        raise BrokenImageError("pixels are floating-point numbers; export it with 8 or 16 bits")
    if image.mode == "LAB":
        raise BrokenImageError("colours are CIE Lab; export it as grey or RGB")
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        over = image.convert("RGBA")
        black = Image.new("RGBA", over.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, over).convert("RGB")
    transparent = image.info.get("transparency")
    if image.mode == "1":
        image = image.convert("L")
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    return image if transparent is None else _without_key(image, transparent, packed)


def _without_key(image: Image.Image, key: object, packed: str) -> Image.Image:
    """Make the grey level or colour that a file declares transparent black."""
    pixels = np.array(image)
    if isinstance(key, tuple):
        wanted = (pixels == np.array([level & 0xFF for level in key])).all(axis=-1)
    elif isinstance(key, int):
        scale = {"L;2": 85, "L;4": 17}.get(packed, 1)  # Pillow scales pixels, but not the key
        wanted = pixels == (key & 0xFF) * scale
    else:
        return image
    pixels[wanted] = 0
    return Image.fromarray(pixels)


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as problem:
        raise BrokenImageError(
            f"CMYK with an unsuitable colour profile ({problem}); export it as grey or RGB"
        ) from None
    assert converted is not None  # only in-place conversions return None
    return converted


def _is_lossless(file: BinaryIO) -> bool:
    file.seek(12)
    return file.read(4) == b"VP8L"


def _without_tint(image: Image.Image) -> Image.Image:
    """Return grey if channels differ by at most 1: lossy WebP has no grey mode, and rounds."""
    if image.mode != "RGB":
        return image
    pixels = np.asarray(image)
    return image.convert("L") if (np.ptp(pixels, axis=2) <= 1).all() else image


def _grey_alone(pixels: np.ndarray) -> np.ndarray:
    """Return [H, W, C], reduced to one channel if all are equal."""
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.shape[-1] == 1:
        return pixels
    first, second, third = (pixels[..., channel] for channel in range(3))
    # a few rows usually reveal colour without comparing them all
    few = slice(None, None, max(1, len(pixels) // 8))
    grey = bool((first[few] == second[few]).all()) and np.array_equal(first, second)
    return pixels[..., :1].copy() if grey and np.array_equal(first, third) else pixels
