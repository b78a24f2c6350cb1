"""Other files: what a file is that no image format fits.  reader -> [other_files]"""

from __future__ import annotations

from pathlib import Path

from fgaug.image_kinds import FORMATS

_HEAD = 512  # bytes that are looked at
# first bytes, what they are of, what to do
_KNOWN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image", "fetch it by `git lfs pull`"),
    (b"II*\0", "a TIFF of a kind that Pillow does not read", "export 8- or 16-bit grey or RGB"),
    (b"MM\0*", "a TIFF of a kind that Pillow does not read", "export 8- or 16-bit grey or RGB"),
    (b"\x89PNG", "a damaged PNG", "restore it"),
    (b"\xff\xd8\xff", "a damaged JPEG", "restore it"),
    (b"<", "a page of text (HTML or XML), not the image", "download the image itself"),
    (b"%PDF", "a PDF", "export its pictures"),
    (b"8BPS", "a Photoshop file", "export it as PNG"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (b"\x89HDF", "an HDF5 file", "export its images as PNG"),
)


def what_else(path: Path) -> str:
    """Return what a file is, by its first bytes, and what to do; it is no image that is read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "the file is empty"
    if head[128:132] == b"DICM":
        return "a DICOM file; export it as 8- or 16-bit PNG"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "a HEIC photograph; export it as PNG or JPEG"
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "a NIfTI volume; export its slices as PNG"
    for start, what, cure in _KNOWN:
        if head.lstrip().startswith(start):
            return f"{what}; {cure}"
    return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
