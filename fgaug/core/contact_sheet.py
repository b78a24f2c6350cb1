"""Draw contact sheets of images with captions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgaug.core import files
from fgaug.errors import UserError

MIN_TILE = 64  # px per side on the sheet: captions of smaller images would overlap
MAX_PIXELS = 80_000_000  # Pillow warns of a decompression bomb above 89 million
MAX_COLUMNS = 16  # images side by side before the next block starts a new line
_TEXT, _LINE = 14, 20  # px: size and line height of the captions
_GAP, _MARGIN = 2, 16  # px: between images, and around blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows of images under one heading; images are read only when the block is drawn."""

    heading: str
    rows: tuple[str, ...]  # captions left of the rows; may be empty
    columns: tuple[str, ...]  # captions above the columns; may be empty
    images: Callable[[], Sequence[np.ndarray]]  # uint8 [<= columns, H, W, C] for each row


def draw(lines: Sequence[Sequence[Block]], size: int, channels: int, fewer: str) -> Image.Image:
    """Draw lines of blocks, black on white, in mode L or RGB.

    Images smaller than MIN_TILE are enlarged by a whole factor without interpolation.

    Args:
        lines: from top to bottom; blocks of a line are drawn side by side.
        size: side of every image in pixels.
        channels: 1 (the sheet is grey) or 3.
        fewer: options that make the sheet smaller, for the error message.

    Raises:
        UserError: the sheet would have more than MAX_PIXELS; raised before any image is read.
    """
    layout = _Layout(lines, size)
    width, height = layout.size
    if width * height > MAX_PIXELS:
        raise UserError(
            f"A sheet can have at most {MAX_PIXELS // 10**6} million pixels, but this one would "
            f"have {width} x {height} ({width * height / 1e6:.0f} million). Show less with "
            f"{fewer}."
        )
    sheet = Image.new("L" if channels == 1 else "RGB", (width, height), color="white")
    for block, left, top in layout.places():
        layout.draw(sheet, block, left, top)
    return sheet


def wrapped(blocks: Sequence[Block]) -> list[list[Block]]:
    """Arrange blocks in lines, in order, of at most MAX_COLUMNS columns if possible."""
    lines: list[list[Block]] = []
    for block in blocks:
        if not lines or sum(len(b.columns) for b in [*lines[-1], block]) > MAX_COLUMNS:
            lines.append([])
        lines[-1].append(block)
    return lines


def save(sheet: Image.Image, out: Path) -> None:
    """Write a sheet as PNG atomically; equal sheets give equal bytes."""
    # encode in memory: Pillow's error for a full disk does not say so
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    with files.atomic_write(out) as temporary:
        temporary.write_bytes(encoded.getvalue())


def check_out(out: Path) -> None:
    """Refuse a path where no sheet can be written."""
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must end in .png, got {out}. Sheets are PNG files.")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder. Give the name of a PNG file.")


class _Layout:
    """The position of every block, computed before any image is read."""

    def __init__(self, lines: Sequence[Sequence[Block]], size: int) -> None:
        blocks = [block for line in lines for block in line]
        self.font = _font([text for b in blocks for text in (b.heading, *b.rows, *b.columns)])
        self.factor = -(-MIN_TILE // size)
        self.tile = size * self.factor
        self.lines = lines

    @property
    def size(self) -> tuple[int, int]:
        widths, heights = [], []
        for line in self.lines:
            extents = [self._extent(block) for block in line]
            widths.append(sum(width + _MARGIN for width, _ in extents))
            heights.append(max(height for _, height in extents) + _MARGIN)
        return max(widths) + _MARGIN, sum(heights) + _MARGIN

    def places(self) -> Iterator[tuple[Block, int, int]]:
        """Yield each block with the left and top pixel of its heading."""
        top = _MARGIN
        for line in self.lines:
            left = _MARGIN
            for block in line:
                yield block, left, top
                left += self._extent(block)[0] + _MARGIN
            top += max(self._extent(block)[1] for block in line) + _MARGIN

    def draw(self, sheet: Image.Image, block: Block, left: int, top: int) -> None:
        pen = ImageDraw.Draw(sheet)
        pen.text((left, top), block.heading, fill="black", font=self.font)
        first_x, first_y = left + self._indent(block), top + self._head(block)
        pitch = self._pitch(block)
        for column, caption in enumerate(block.columns):
            at = (first_x + column * pitch, first_y - _LINE)
            pen.text(at, caption, fill="black", font=self.font)
        for row, (caption, images) in enumerate(zip(block.rows, block.images(), strict=True)):
            y = first_y + row * (self.tile + _GAP)
            middle = y + (self.tile - _LINE) // 2
            pen.text((left, middle), caption, fill="black", font=self.font)
            for column, image in enumerate(images):
                sheet.paste(self._enlarged(image), (first_x + column * pitch, y))

    def _enlarged(self, image: np.ndarray) -> Image.Image:
        large = image.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        return Image.fromarray(large[:, :, 0] if large.shape[2] == 1 else large)

    def _extent(self, block: Block) -> tuple[int, int]:
        """Return width and height of a block in pixels."""
        images = self._indent(block) + len(block.columns) * self._pitch(block) - _GAP
        height = self._head(block) + len(block.rows) * (self.tile + _GAP) - _GAP
        return max(images, self._widest([block.heading])), height

    def _indent(self, block: Block) -> int:
        widest = self._widest(block.rows)
        return widest + _TEXT // 2 if widest else 0

    def _pitch(self, block: Block) -> int:
        """Return the distance between columns in pixels."""
        widest = self._widest(block.columns)
        return max(self.tile + _GAP, widest + _TEXT // 2 if widest else 0)

    def _head(self, block: Block) -> int:
        return _LINE * (2 if any(block.columns) else 1)

    def _widest(self, texts: Sequence[str]) -> int:
        return max(-int(-self.font.getlength(text) // 1) for text in texts)


def _font(texts: Sequence[str]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's font, or one with more characters if a caption is not ASCII."""
    if all(text.isascii() for text in texts):
        return ImageFont.load_default(_TEXT)
    import matplotlib  # includes DejaVu Sans: accents, Greek, Cyrillic

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", _TEXT, ImageFont.Layout.BASIC)
