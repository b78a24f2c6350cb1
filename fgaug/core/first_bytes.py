"""Identify a file by its first bytes, regardless of its name.

This is the one table of kinds for networks, weights, label tables and images. Readers use it to
name files that they cannot read. The cure depends on the purpose, so each reader adds its own to
the general ones here.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEAD, _TAIL = 4096, 8
_AGAIN = "download it again"
_OTHER = "Give another file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A well-known kind of file."""

    name: str  # such as html
    what: str  # a noun, such as "an HTML page"
    cure: str  # what to do, for any purpose; without a full stop

    def way_out(self, cures: Mapping[str, str]) -> str:
        """Return the reader's cure for this kind if there is one, else the general one."""
        return cures.get(self.name, self.cure)


def _kind(name: str, what: str, cure: str = _OTHER) -> FileKind:
    return FileKind(name=name, what=what, cure=cure)


_EMPTY = _kind("empty", "an empty file", f"Copy it or {_AGAIN}")
_ZEROS = _kind("zeros", "a file of zeros, as left by an interrupted copy", f"Copy or {_AGAIN}")
_XML = _kind(
    "xml",
    "an XML file, such as the error message of a storage service",
    "Open it with a text editor, then download the file itself",
)
_JSON = _kind("json", "a JSON file", "Open it with a text editor; give the file that it describes")
_TEXT = _kind("text", "a text file", "Open it with a text editor, and give another file")
_SAFETENSORS = _kind("safetensors", "a safetensors file with another suffix")
_LOAD = "Load it with torch and save its contents in the required format"
_TORCH_OLD = _kind("torch-legacy", "a file of torch.save before PyTorch 1.6", _LOAD)
_PICKLE = _kind("pickle", "a pickle")
_PICKLE_CUT = _kind(
    "pickle-cut", "a truncated pickle", f"Copy it or {_AGAIN}, as it is incomplete"
)
_EXPORTED = "Give the file that it was exported from"
_ONNX = _kind("onnx", "an ONNX model", _EXPORTED)
_SAVED_MODEL = _kind("saved-model", "a TensorFlow SavedModel or graph", _EXPORTED)
_CHECKPOINT = _kind(
    "tf-checkpoint",
    "the index of a TensorFlow checkpoint",
    "Load the checkpoint with the program that wrote it, and save the model",
)
_BZIP2 = _kind("bzip2", "a bzip2 archive", "Unpack it (`bunzip2 FILE`) first")
_TAR = _kind("tar", "a tar archive", "Unpack it (`tar xf FILE`) and give the file in it")
_GGUF = _kind("gguf", "a GGUF file of a language model")
_PARQUET = _kind("parquet", "a Parquet file")
_MAT = _kind("mat", "a MATLAB file (.mat)")
_GIF = _kind("gif", "a GIF image")
_MP4 = _kind("mp4", "a video (MP4 or QuickTime)")
_RDATA = _kind("rdata", "an R data file (.RData)")
_HEIC = _kind("heic", "a HEIC photograph")
_TIFF = _kind("tiff", "a TIFF image")
_NIFTI = _kind("nifti", "a NIfTI volume")
_STATA = _kind("stata", "a Stata file")
_SPSS = _kind("spss", "an SPSS file")
_ZIP_CUT = _kind("zip-cut", "a damaged or truncated zip archive", f"Copy or {_AGAIN}")

# Offset, bytes and kind. A label table may begin with a short word such as PAR1 or BM, so
# signatures of printable characters are as long as the format allows.
_SIGNATURES: tuple[tuple[int, bytes, FileKind], ...] = (
    (
        0,
        b"version https://git-lfs",
        _kind(
            "git-lfs",
            "a Git LFS pointer instead of the file",
            "Run `git lfs pull` in its repository, or download the file itself from its page",
        ),
    ),
    (
        0,
        b"/annex/objects/",
        _kind("git-annex", "a git-annex pointer", "Run `git annex get FILE` in its repository"),
    ),
    # archives
    (0, b"\x1f\x8b", _kind("gzip", "a gzip archive", "Unpack it (`gunzip FILE`) first")),
    *((0, b"BZh%d1AY&SY" % level, _BZIP2) for level in range(1, 10)),
    (0, b"\xfd7zXZ\x00", _kind("xz", "an xz archive", "Unpack it (`unxz FILE`) first")),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        _kind("zstd", "a Zstandard archive", "Unpack it (`unzstd FILE`) first"),
    ),
    (0, b"7z\xbc\xaf\x27\x1c", _kind("7z", "a 7z archive", "Unpack it and give the file in it")),
    (0, b"Rar!\x1a\x07", _kind("rar", "a RAR archive", "Unpack it and give the file in it")),
    (257, b"ustar\0", _TAR),
    (257, b"ustar  \0", _TAR),
    # arrays, tables and documents
    (0, b"\x89HDF\r\n\x1a\n", _kind("hdf5", "an HDF5 file")),
    (0, b"MATLAB 5.0 MAT-file", _MAT),
    (0, b"MATLAB 7.3 MAT-file", _MAT),
    (0, b"\x93NUMPY", _kind("npy", "a NumPy array (.npy)")),
    (0, b"GGUF\x02\0", _GGUF),
    (0, b"GGUF\x03\0", _GGUF),
    (0, b"PAR1\x15", _PARQUET),
    (0, b"PAR1\0", _PARQUET),
    (0, b"ARROW1\0\0", _kind("arrow", "an Arrow or Feather file")),
    (0, b"SQLite format 3\0", _kind("sqlite", "an SQLite database")),
    (0, b"$FL2@(#)", _SPSS),
    (0, b"$FL3@(#)", _SPSS),
    (0, b"<stata_dta>", _STATA),
    (0, b"RDX2\n", _RDATA),
    (0, b"RDX3\n", _RDATA),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1",
        _kind("xls", "an old Office document (.xls, .doc), or one with a password"),
    ),
    (0, b"{\\rtf", _kind("rtf", "a text document (RTF)")),
    (0, b"%PDF-", _kind("pdf", "a PDF document")),
    (0, b"%!PS", _kind("postscript", "a PostScript drawing")),
    # images
    (0, b"\x89PNG\r\n\x1a\n", _kind("png", "a PNG image")),
    (0, b"\xff\xd8\xff", _kind("jpeg", "a JPEG image")),
    (0, b"GIF87a", _GIF),
    (0, b"GIF89a", _GIF),
    (0, b"II*\0", _TIFF),
    (0, b"MM\0*", _TIFF),
    (0, b"II+\0", _TIFF),
    (0, b"MM\0+", _TIFF),
    (0, b"\0\0\0\x0cjP  \r\n", _kind("jpeg2000", "a JPEG 2000 image")),
    (0, b"8BPS\0", _kind("psd", "a Photoshop file")),
    (0, b"\x1a\x45\xdf\xa3", _kind("matroska", "a video (Matroska or WebM)")),
    (4, b"ftypheic", _HEIC),
    (4, b"ftypheix", _HEIC),
    (4, b"ftypmif1", _HEIC),
    (4, b"ftypmsf1", _HEIC),
    (4, b"ftypavif", _kind("avif", "an AVIF image")),
    (4, b"ftypisom", _MP4),
    (4, b"ftypmp4", _MP4),
    (4, b"ftypqt", _MP4),
    (8, b"WEBPVP8", _kind("webp", "a WebP image")),
    (8, b"AVI LIST", _kind("avi", "a video (AVI)")),
    (128, b"DICM", _kind("dicom", "a DICOM file")),
    (344, b"n+1\0", _NIFTI),
    (344, b"ni1\0", _NIFTI),
)

# for any pickle protocol: the number at the start of old torch.save files, bare or framed
_TORCH_OLD_OPENING = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)
_UNPACK = "Unpack it and give the file in it"

# kinds of zip archives by a member's name; the first match decides
_ZIPS: tuple[tuple[re.Pattern[str], FileKind], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (
            r".*/constants\.pkl",
            _kind(
                "torchscript",
                "a TorchScript program",
                "Load it with torch.jit.load and save its state_dict() with torch.save",
            ),
        ),
        (r".*/data\.pkl", _kind("torch", "a file of torch.save", _LOAD)),
        (r"model\.weights\.h5", _kind("keras", "a .keras model")),
        (r"xl/workbook\.xml", _kind("xlsx", "an Excel workbook")),
        (r"xl/workbook\.bin", _kind("xlsb", "a binary Excel workbook (.xlsb)")),
        (r"word/document\.xml", _kind("docx", "a Word document")),
        (r"ppt/presentation\.xml", _kind("pptx", "a PowerPoint document")),
        (r"content\.xml", _kind("odf", "an OpenDocument file (.ods, .odt)")),
        (r"Index/.*\.iwa", _kind("numbers", "a Numbers or Pages document")),
    )
)
_NPZ = _kind("npz", "an archive of NumPy arrays (.npz)")
_ZIP = _kind("zip", "a zip archive", _UNPACK)


def identify(path: Path) -> FileKind | None:
    """Return the kind of a file; None if it is unknown or cannot be opened."""
    try:
        with path.open("rb") as file:
            return identify_stream(file)
    except OSError:
        return None


def identify_stream(file: BinaryIO) -> FileKind | None:
    """Return the kind of an open file; see `identify`."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if not size:
        return _EMPTY
    if not head.strip(b"\0"):
        return _ZEROS
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if _TORCH_OLD_OPENING.match(head):
        return _TORCH_OLD
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_zip(file)
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return _SAFETENSORS
    if re.match(rb"\x80[\x02-\x05]", head):
        return _PICKLE if tail.endswith(b".") else _PICKLE_CUT
    return _of_text(head) or _of_tensorflow(head, tail)


def _of_zip(file: BinaryIO) -> FileKind:
    """Return the kind of a zip archive by the names of its members."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return _ZIP_CUT
    for pattern, kind in _ZIPS:
        if any(pattern.fullmatch(name) for name in names):
            return kind
    if names and all(name.endswith(".npy") for name in names):
        return _NPZ
    return _ZIP


def _of_text(head: bytes) -> FileKind | None:
    """Return the kind of a text file, or None if it is not text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<(!doctype\s+html|html|head|body)\b", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,100})", start, re.IGNORECASE)
        words = "" if title is None else title[1].decode("utf-8", "replace").strip()
        said = f" titled {words!r}" if words.isprintable() and words else ""
        return _kind(
            "html",
            f"an HTML page{said}, which a server sent instead of the file",
            "Open the link in a browser (it may need a login, a licence or a download quota) "
            "and download the file itself",
        )
    if re.match(rb"<(\?xml|svg|!--)\b|<[A-Za-z][^<>]*>\s*<[^<>]*>.*</", start, re.DOTALL):
        return _XML
    if re.match(rb"[\[{]\s*[\"\[{\]}]", start):
        return _JSON
    try:
        text = head.decode("utf-8") if len(head) < _HEAD else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return None
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return _TEXT
    return None


def _of_tensorflow(head: bytes, tail: bytes) -> FileKind | None:
    """Return the kind of a TensorFlow protocol buffer or checkpoint."""
    if tail == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":  # end of a key-value table
        return _CHECKPOINT
    if re.match(rb"\x08[\x01-\x20]\x12", head):
        producers = (b"onnx", b"pytorch", b"keras2", b"skl2", b"mxnet", b"paddle")
        if any(word in head[:200].lower() for word in producers):
            return _ONNX
        return _SAVED_MODEL
    return None
