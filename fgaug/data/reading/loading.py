"""Load many image files as blocks of equal squares, with their digests and sizes."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgaug.core.machine import cores
from fgaug.data.problems import counted, listed, refuse, shortened
from fgaug.data.reading import squares
from fgaug.data.reading.samples import FULL, BrokenImageError
from fgaug.data.reading.source_image import SourceImage, read_source

_LOG = logging.getLogger("fgaug")
_BLOCK = 512  # images processed at once: bounds memory for any number of images
_DIM = 48  # of 255; a set whose brightest pixel is darker was probably 12 bits stored in 16
_UNUSED_BITS = 2  # of 16: a file with this many unused bits probably has 10, 12 or 14
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One image to load."""

    name: str  # for messages
    path: Path
    box: squares.Box | None = None  # to crop to; None keeps the whole image
    row: int | None = None  # of the table that the box comes from, for messages


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedImage:
    """Metadata of a loaded image; its pixels are in a temporary file."""

    sha256: str
    width: int  # of the source image, before cropping
    height: int
    brightest: int
    channels: int
    pixels: bytes
    peak: int | None = None  # of files with more than 8 bits; see `SourceImage`
    pictures: int = 1
    beyond: float = 0.0  # px by which its box reached beyond the image, and was clipped


class LoadedImages:
    """The loaded images, in order; skipped ones are False in `kept`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.channels = 1  # becomes 3 at the first colour image
        self.kept: list[bool] = []
        self.sha256: list[str] = []
        self._shapes: list[tuple[int, int]] = []
        self._channels: list[int] = []
        self._brightest = 0
        self._deep = 0  # files with more than 8 bits
        self._dim: list[str] = []  # those with unused bits, and the bits used
        self._several: list[str] = []  # files with more than one image
        self._clipped: list[tuple[float, str]] = []  # boxes: px beyond the image, and its name
        self._spool = tempfile.TemporaryFile(prefix="fgaug-")  # noqa: SIM115 - lives as long as this

    def add(self, image: LoadedImage, name: str = "") -> None:
        self.kept.append(True)
        self.sha256.append(image.sha256)
        self._shapes.append((image.width, image.height))
        self._channels.append(image.channels)
        self.channels = max(self.channels, image.channels)
        self._brightest = max(self._brightest, image.brightest)
        self._deep += image.peak is not None
        if image.peak and image.peak <= FULL >> _UNUSED_BITS:
            self._dim.append(f"{name} ({image.peak.bit_length()} bits)")
        if image.pictures > 1:
            self._several.append(name)
        if image.beyond:
            self._clipped.append((image.beyond, name))
        self._spool.write(image.pixels)

    def blocks(self, stay: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield uint8 [n, size, size, channels], each image once, in order.

        Args:
            stay: bool, one per image; false ones are skipped.
        """
        self._spool.seek(0)
        block = []
        for row, stored in enumerate(self._channels):
            image = self._next(stored)
            if stay is None or stay[row]:
                block.append(image)
            if len(block) == _BLOCK:
                yield np.stack(block)
                block = []
        if block:
            yield np.stack(block)

    def _next(self, stored: int) -> np.ndarray:
        shape = (self.size, self.size, stored)
        flat = np.frombuffer(self._spool.read(int(np.prod(shape))), np.uint8)
        return squares.to_channels(flat.reshape(shape), self.channels)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 [n, size, size, channels] of the images of sorted, distinct rows."""
        stay = np.zeros(len(self._channels), bool)
        stay[rows] = True
        return np.concatenate([*self.blocks(stay), self._none()])

    def _none(self) -> np.ndarray:
        return np.empty((0, self.size, self.size, self.channels), np.uint8)

    def sizes(self, stay: np.ndarray) -> dict[str, Any]:
        """Return minimum, median and maximum width and height of the source images.

        Args:
            stay: bool, one per image: the images to count.
        """
        widths, heights = np.array(self._shapes)[stay].T
        return {"width": _summary(widths), "height": _summary(heights)}

    def close(self) -> None:
        self._spool.close()

    def warn(self) -> None:
        """Warn of unusual files: unused bits, several images in a file, a dark dataset, and of
        boxes that were clipped.
        """
        if self._clipped:
            most, name = max(self._clipped)
            _LOG.warning(
                "Boxes partly outside of their image, clipped to it: %d of %d, at most by %.4g px "
                "(%s): %s. If there are many, check --box-format and --box-units.",
                len(self._clipped),
                len(self.sha256),
                most,
                name,
                listed(name for _, name in self._clipped),
            )
        if self._dim:
            share = len(self._dim) / len(self.sha256)
            _LOG.warning(
                "%s of %d (%.3g%%) use 14 bits or fewer of 16 and are scaled by the full range, "
                "so they become dark: %s. Scale each to the full range (10 bits by 64, 12 bits "
                "by 16) before preparing%s.",
                counted(len(self._dim), "image"),
                len(self.sha256),
                100 * share,
                listed(self._dim),
                "" if share == 1 else ", or brightness alone gives them away",
            )
        elif self._brightest < _DIM:
            _LOG.warning(
                "The brightest pixel of all images is %d of 255. If they are 10 or 12 bits "
                "stored as 16, scale them to the full range before preparing.",
                self._brightest,
            )
        if self._several:
            _LOG.warning(
                "%s more than one image (a camera's preview or second view, MPO); only the "
                "first is read: %s.",
                "1 file contains"
                if len(self._several) == 1
                else f"{len(self._several)} files contain",
                listed(self._several),
            )


def load_images(
    files: Sequence[ImageFile],
    *,
    size: int,
    channels: int | None = None,
    margin: float | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> LoadedImages:
    """Decode, crop and resize every image, or refuse the broken ones by name.

    Args:
        files: the images, in manifest order.
        size: side of the squares in pixels.
        channels: 1 or 3; None takes 1 if every image is grey.
        margin: crop to each file's box with this margin; None keeps whole images.
        skip_broken: skip broken images with a warning instead of refusing them.
        progress: called with (images done, total).
    """
    loaded = LoadedImages(size)
    broken: list[str] = []
    outside: list[str] = []  # not skipped with broken images: the table is wrong, not the file

    def load(file: ImageFile) -> LoadedImage | BrokenImageError | squares.BoxOutsideError:
        try:
            return _load(file, size, channels, margin)
        except (BrokenImageError, squares.BoxOutsideError) as problem:
            return problem

    # Threads: Pillow releases the GIL while it decodes and resizes.
    with contextlib.ExitStack() as on_error, ThreadPoolExecutor(_threads()) as pool:
        on_error.callback(loaded.close)
        for first in range(0, len(files), _BLOCK):
            block = files[first : first + _BLOCK]
            for file, found in zip(block, pool.map(load, block), strict=True):
                if isinstance(found, LoadedImage):
                    loaded.add(found, file.name)
                else:
                    loaded.kept.append(False)
                    if isinstance(found, squares.BoxOutsideError):
                        outside.append(f"row {file.row} ({file.name}): {found}")
                    else:
                        broken.append(f"{file.name}: {found}")
                if progress is not None:
                    progress(len(loaded.kept), len(files))
        _refuse_outside(outside)
        _report_broken(broken, total=len(files), skip=skip_broken)
        on_error.pop_all()
    loaded.channels = channels or loaded.channels
    loaded.warn()
    return loaded


def loaded_from(pixels: np.ndarray, channels: int | None = None) -> LoadedImages:
    """Wrap images in memory, uint8 [N, size, size, C], as if they had been read from files."""
    loaded = LoadedImages(pixels.shape[1])
    for image in pixels:
        square = squares.to_channels(image, channels) if channels is not None else image
        source = SourceImage(pixels=image, peak=None, pictures=1)
        loaded.add(_measured(source, square))
    loaded.channels = channels or loaded.channels
    return loaded


def _load(file: ImageFile, size: int, channels: int | None, margin: float | None) -> LoadedImage:
    source = read_source(file.path)
    square = source.pixels
    beyond = 0.0
    if margin is not None and file.box is not None:
        height, width = square.shape[:2]
        box, beyond = squares.fit_box(file.box, width, height)
        square = squares.crop_square(square, box, margin)
    # Luma before resizing; grey is repeated only on writing, so the temporary file is a third of
    # the size.
    square = squares.to_channels(square, 1) if channels == 1 else square
    return _measured(source, squares.resize_square(square, size), beyond)


def _measured(source: SourceImage, square: np.ndarray, beyond: float = 0.0) -> LoadedImage:
    return LoadedImage(
        sha256=squares.image_sha256(source.pixels),
        width=source.pixels.shape[1],
        height=source.pixels.shape[0],
        brightest=int(square.max()),
        channels=square.shape[-1],
        pixels=square.tobytes(),
        peak=source.peak,
        pictures=source.pictures,
        beyond=beyond,
    )


def _threads() -> int:
    return min(8, cores())


def _refuse_outside(outside: Sequence[str]) -> None:
    if outside:
        refuse(
            "Boxes outside of their images",
            shortened(outside),
            "Correct the rows; or the numbers mean something else: see --box-format, --box-units.",
        )


def _report_broken(broken: Sequence[str], *, total: int, skip: bool) -> None:
    shown = shortened(broken)
    if broken and len(broken) == total:
        refuse("None of the images can be read", shown)
    elif broken and skip:
        _LOG.warning("Skipped %s:\n  - %s", counted(len(broken), "image"), "\n  - ".join(shown))
    elif broken:
        cure = "Restore these files, remove them from the table, or give --skip-broken."
        refuse("Broken images", shown, cure)


def _summary(values: np.ndarray) -> dict[str, float]:
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
