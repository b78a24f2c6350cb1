"""What a file is by its first bytes, whatever its name says.  file -> [first_bytes] -> messages

For files that cannot be read as what they were given for: naming them says what went wrong.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEAD, _TAIL = 4096, 8
_AGAIN = "download it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A well-known kind of file."""

    name: str  # such as html
    what: str  # in words, such as "an HTML page"
    cure: str  # what to do, without a full stop


def _kind(name: str, what: str, cure: str) -> FileKind:
    return FileKind(name=name, what=what, cure=cure)


_EMPTY = _kind("empty", "an empty file", f"Copy it or {_AGAIN}")
_ZEROS = _kind("zeros", "a file of zeros, as a copy that broke off leaves it", f"Copy or {_AGAIN}")
_LFS = _kind(
    "git-lfs",
    "a Git LFS pointer, a few lines of text in place of the file",
    "Run `git lfs pull` in its repository, or download the file itself from its page",
)
_ANNEX = _kind("git-annex", "a git-annex pointer", "Run `git annex get FILE` in its repository")
_XML = _kind(
    "xml",
    "an XML text, such as the error message of a storage service",
    "Look into it with a text editor, then download the file itself",
)
_JSON = _kind("json", "a JSON text", "Look into it with a text editor; give the file it is about")
_TAR = _kind("tar", "a tar archive", "Unpack it (`tar xf FILE`) and give the file in it")
_SAFETENSORS = _kind(
    "safetensors", "a safetensors file under another name", "Rename it to *.safetensors"
)
_TORCH_OLD = _kind(
    "torch-legacy",
    "a file of torch.save before PyTorch 1.6",
    "Load it with torch and save what it holds in the format that is asked for",
)
_PICKLE = _kind("pickle", "a pickle", "Rename it to *.pkl")
_PICKLE_CUT = _kind(
    "pickle-cut", "a pickle that is cut off", f"Copy it or {_AGAIN}: it is not whole"
)
_ONNX = _kind("onnx", "an ONNX model", "Give the file that it was exported from")
_SAVED_MODEL = _kind(
    "saved-model", "a TensorFlow SavedModel or graph", "Give the file that it was exported from"
)
_CHECKPOINT = _kind(
    "tf-checkpoint",
    "the index of a TensorFlow checkpoint",
    "Load the checkpoint in the program that wrote it and save the model",
)
_OPENINGS: tuple[tuple[bytes, FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec", _LFS),
    (b"/annex/objects/", _ANNEX),
    (b"<?xml", _XML),
    (b"\x1f\x8b", _kind("gzip", "a gzip archive", "Unpack it (`gunzip FILE`) first")),
    (b"BZh", _kind("bzip2", "a bzip2 archive", "Unpack it (`bunzip2 FILE`) first")),
    (b"\xfd7zXZ\x00", _kind("xz", "an xz archive", "Unpack it (`unxz FILE`) first")),
    (b"\x28\xb5\x2f\xfd", _kind("zstd", "a Zstandard archive", "Unpack it (`unzstd FILE`) first")),
    (b"7z\xbc\xaf\x27\x1c", _kind("7z", "a 7z archive", "Unpack it and give the file in it")),
    (b"Rar!\x1a\x07", _kind("rar", "a RAR archive", "Unpack it and give the file in it")),
    (b"\x89HDF\r\n\x1a\n", _kind("hdf5", "an HDF5 file, as Keras writes", "Give another file")),
    (b"\x93NUMPY", _kind("npy", "a NumPy array (.npy)", "Give another file")),
    (b"GGUF", _kind("gguf", "a GGUF file of a language model", "Give another file")),
    (b"%PDF", _kind("pdf", "a PDF document", "Give another file")),
    (b"\x89PNG\r\n\x1a\n", _kind("png", "a PNG image", "Give another file")),
    (b"\xff\xd8\xff", _kind("jpeg", "a JPEG image", "Give another file")),
)
# of any pickle protocol: the number that old files of torch.save start with, by itself or framed
_TORCH_OLD_OPENING = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)
_ZIPS = {
    "torch": _kind(
        "torch",
        "a file of torch.save",
        "Load it with torch and save what it holds in the format that is asked for",
    ),
    "torchscript": _kind(
        "torchscript",
        "a TorchScript program",
        "Load it with torch.jit.load and save its state_dict() with torch.save",
    ),
    "keras": _kind("keras", "a .keras model", "Name it *.keras"),
    "npz": _kind("npz", "an archive of NumPy arrays (.npz)", "Give another file"),
    "zip": _kind("zip", "a zip archive", "Unpack it and give the file in it"),
}


def identify(path: Path) -> FileKind | None:
    """Return what a file is, None where it is nothing well known or cannot be opened."""
    try:
        with path.open("rb") as file:
            return identify_stream(file)
    except OSError:
        return None


def identify_stream(file: BinaryIO) -> FileKind | None:
    """Return what an open file is, see `identify`."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if not size:
        return _EMPTY
    if not head.strip(b"\0"):
        return _ZEROS
    for opening, kind in _OPENINGS:
        if head.startswith(opening):
            return kind
    if _TORCH_OLD_OPENING.match(head):
        return _TORCH_OLD
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _of_zip(file)
    if head[257:262] == b"ustar":
        return _TAR
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return _SAFETENSORS
    if re.match(rb"\x80[\x02-\x05]", head):
        return _PICKLE if tail.endswith(b".") else _PICKLE_CUT
    return _of_text(head) or _of_tensorflow(head, tail)


def _of_zip(file: BinaryIO) -> FileKind:
    """Return which kind of zip archive a file is, by the names in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return _kind("zip-cut", "a zip archive that is damaged or cut off", f"Copy or {_AGAIN}")
    if any(name.endswith("/constants.pkl") for name in names):
        return _ZIPS["torchscript"]
    if any(name.endswith("/data.pkl") for name in names):
        return _ZIPS["torch"]
    if "model.weights.h5" in names:
        return _ZIPS["keras"]
    if names and all(name.endswith(".npy") for name in names):
        return _ZIPS["npz"]
    return _ZIPS["zip"]


def _of_text(head: bytes) -> FileKind | None:
    """Return which kind of text a file is, if it is one."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<(!doctype\s+html|html|head|body)\b", start, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,100})", start, re.IGNORECASE)
        words = "" if title is None else title[1].decode("utf-8", "replace").strip()
        said = f" titled {words!r}" if words.isprintable() and words else ""
        return _kind(
            "html",
            f"an HTML page{said}, which a server sent in place of the file",
            "Open the link in a browser (a login, a licence or a download limit may stand before "
            "it) and download the file itself",
        )
    if re.match(rb"[\[{]\s*[\"\[{\]}]", start):
        return _JSON
    try:
        text = head.decode("utf-8") if len(head) < _HEAD else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return None
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return _kind("text", "a text", "Look into it with a text editor, and give another file")
    return None


def _of_tensorflow(head: bytes, tail: bytes) -> FileKind | None:
    """Return which kind of protocol buffer or checkpoint a file is."""
    if tail == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":  # closes a table of keys and values
        return _CHECKPOINT
    if re.match(rb"\x08[\x01-\x20]\x12", head):
        producers = (b"onnx", b"pytorch", b"keras2", b"skl2", b"mxnet", b"paddle")
        if any(word in head[:200].lower() for word in producers):
            return _ONNX
        return _SAVED_MODEL
    return None
