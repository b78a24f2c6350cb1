"""Which image files are read, by the ends of their names and by Pillow's names of formats.

The one list for datasets, banks, `predict` and whoever else looks for images in a folder.
"""

from __future__ import annotations

# Formats of one raster picture that are known by their first bytes; whatever the name's end, a
# file is tried as each of these. No format that draws by commands (EPS, PDF, WMF), none of layers
# (PSD), none that is told apart by guesswork.
_BY_CONTENT = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
}
# First bytes that other files have too: tried only where the name's end says so.
_BY_NAME = {"TGA": (".tga",), "PCX": (".pcx",), "DIB": (".dib",)}
FORMATS = tuple(_BY_CONTENT)  # Pillow's names
EXTENSIONS = tuple(
    dict.fromkeys(end for ends in (*_BY_CONTENT.values(), *_BY_NAME.values()) for end in ends)
)


def formats_of(suffix: str) -> tuple[str, ...]:
    """Return the formats to try for a file whose name ends in `suffix`, whatever its case."""
    extra = tuple(name for name, ends in _BY_NAME.items() if suffix.lower() in ends)
    return FORMATS + extra
