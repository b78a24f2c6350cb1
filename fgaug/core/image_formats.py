"""The supported image formats, by file suffix and by Pillow's format names.

This is the one list for datasets, banks, `predict` and all other searches for images.
"""

from __future__ import annotations

# Formats of single raster images with a signature; a file of any suffix is tried as each of these.
# They exclude vector formats (EPS, PDF, WMF), layered ones (PSD) and those recognised only by
# guessing.
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
# The signature is ambiguous: tried only for the right suffix.
_BY_NAME = {"TGA": (".tga",), "PCX": (".pcx",), "DIB": (".dib",)}
FORMATS = tuple(_BY_CONTENT)  # Pillow's names
EXTENSIONS = tuple(
    dict.fromkeys(end for ends in (*_BY_CONTENT.values(), *_BY_NAME.values()) for end in ends)
)


def formats_of(suffix: str) -> tuple[str, ...]:
    """Return the formats to try for a file with this suffix, ignoring case."""
    extra = tuple(name for name, ends in _BY_NAME.items() if suffix.lower() in ends)
    return FORMATS + extra
