"""Identify files that are not readable images."""

from __future__ import annotations

from pathlib import Path

from fgaug.core.first_bytes import identify
from fgaug.core.image_formats import FORMATS

_TO_PNG = "Export it as 8- or 16-bit PNG"
# What to do with a file that is not an image, by the kinds of `fgaug.core.first_bytes`.
_CURES = {
    "dicom": _TO_PNG,
    "psd": _TO_PNG,
    "postscript": _TO_PNG,
    "nifti": "Export its slices as PNG",
    "heic": "Export it as PNG or JPEG",
    "pdf": "Export its images as PNG",
    **dict.fromkeys(("mp4", "avi", "matroska"), "Export its frames as PNG"),
    **dict.fromkeys(("npy", "npz", "hdf5", "mat"), "Save its images as PNG"),
    **dict.fromkeys(("html", "xml"), "Download the image itself"),
}
_DAMAGED = ("png", "jpeg", "gif", "webp", "avif", "jpeg2000")  # supported, so the file is damaged


def what_else(path: Path) -> str:
    """Return what an unreadable file is, judging by its first bytes, and what to do about it."""
    readable = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    kind = identify(path)
    if kind is None:
        return f"not a {readable}"
    if kind.name == "empty":
        return "the file is empty"
    if kind.name == "tiff":
        return "a kind of TIFF that Pillow cannot read; export it as 8- or 16-bit grey or RGB"
    if kind.name in _DAMAGED:
        return f"{kind.what}, damaged or truncated; copy or download it again"
    if kind.name == "text":
        return f"a text file, not a {readable}"
    cure = kind.way_out(_CURES)
    return f"{kind.what}; {cure[0].lower()}{cure[1:]}"
