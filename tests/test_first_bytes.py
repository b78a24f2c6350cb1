"""Well-known files under a wrong name: each is named by its first bytes, with the way out."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

from fgaug.core.first_bytes import identify
from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import read_snapshot

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 381673535\n"
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # closes the index of a checkpoint


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a/b"), io.BytesIO())
    return stream.getvalue()


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("empty", b"", "empty file. Copy it or download it again"),
    "zeros": ("zeros", b"\0" * 5000, "file of zeros"),
    "page": ("html", b"\n <HTML lang='en'><head></head></html>", "an HTML page, which a server"),
    "page with title": (
        "html",
        b"\xef\xbb\xbf<!DOCTYPE html><TITLE>\nSign in</TITLE>",
        "'Sign in'",
    ),
    "body": ("html", b"<head><title>404</title>", "titled '404'"),
    "xml": ("xml", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an XML file"),
    "json": ("json", json.dumps({"message": "Not Found"}, indent=1).encode(), "a JSON file"),
    "json list": ("json", b'[{"a": 1}]', "a JSON file"),
    "text": ("text", b"see the readme\n", "it is a text file. Open it"),
    "lfs": ("git-lfs", LFS, "git lfs pull"),
    "annex": ("git-annex", b"/annex/objects/SHA256E-s3--ab.pkl\n", "git annex get"),
    "gzip": ("gzip", gzip.compress(b"x", mtime=0), "gunzip"),
    "bzip2": ("bzip2", bz2.compress(b"x"), "bunzip2"),
    "xz": ("xz", lzma.compress(b"x"), "unxz"),
    "zip": ("zip", zipped(net__x=b"x"), "Unpack it and give the file in it"),
    "empty zip": ("zip", zipped(), "a zip archive"),
    "cut zip": ("zip-cut", zipped(a=b"x" * 99)[:50], "damaged or truncated"),
    "npz": ("npz", saved(lambda f: np.savez(f, a=[1])), "fgaug bank import"),
    "npy": ("npy", saved(lambda f: np.save(f, [1])), "fgaug bank import"),
    "tar": ("tar", tarred(), "tar xf"),
    "hdf5": ("hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "Keras networks are not supported"),
    "keras": ("keras", zipped(**{"model.weights.h5": b"", "config.json": b"{}"}), "Keras"),
    "safetensors": ("safetensors", save_safetensors({"a": torch.zeros(2)}), "Rename it to"),
    "torch": ("torch", saved(lambda f: torch.save({"g_ema": {}}, f)), "stylegan2-pytorch"),
    "onnx": ("onnx", b"\x08\x07\x12\x07pytorch\x1a\x032.1:\x80", "that it was exported from"),
    "saved model": ("saved-model", b"\x08\x01\x12\xf3\x0a\x05serve\x80", "TensorFlow SavedModel"),
    "checkpoint": ("tf-checkpoint", b"\x00\x80\xff" * 20 + MAGIC, "TensorFlow checkpoint"),
    "cut pickle": ("pickle-cut", pickle.dumps(list(range(99)))[:50], "a truncated pickle"),
    "dicom": ("dicom", bytes(128) + b"DICM" + bytes(60), "a DICOM file"),
    "workbook": ("xlsx", zipped(**{"xl/workbook.xml": b""}), "an Excel workbook"),
    "mat": ("mat", b"MATLAB 5.0 MAT-file" + b" " * 120, "a MATLAB file"),
    "parquet": ("parquet", b"PAR1\x15\x04\x15", "a Parquet file"),
    "video": ("mp4", bytes(4) + b"ftypisom" + bytes(20), "a video"),
    "image": ("png", b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
}


@pytest.mark.parametrize("name", FILES)
def test_each_kind_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    kind, content, words = FILES[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    found = identify(path)
    assert found is not None
    assert found.name == kind
    with pytest.raises(SnapshotError, match=r"x\.pkl was refused: it is ") as raised:
        read_snapshot(path)
    assert words in str(raised.value)


def test_a_torchscript_program_is_told_from_a_file_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"")
        archive.writestr("x/constants.pkl", b"")
    found = identify(path)
    assert found is not None
    assert found.name == "torchscript"


def test_what_is_not_well_known_has_no_name(tmp_path: Path) -> None:
    for content in (b"\x01\x02\x03\xff\xfe", b"\xff" * 100):
        (tmp_path / "x").write_bytes(content)
        assert identify(tmp_path / "x") is None
    assert identify(tmp_path / "missing") is None
    assert identify(tmp_path) is None


def test_a_wrong_suffix_is_named_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for content, words in [
        (pickle.dumps({"G_ema": None}), r"a pickle\. Rename it to \*\.pkl"),
        (LFS, "git lfs pull"),
        (gzip.compress(b"x", mtime=0), "gunzip"),
    ]:
        path.write_bytes(content)
        with pytest.raises(SnapshotError, match=words):
            read_snapshot(path)
