"""Read and write prepared datasets: folders of real images, identified by content.

Pixels are stored in files of about 64 MB.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.core import paths, store
from fgaug.core.files import read_json, read_table, write_json, write_table, write_text
from fgaug.core.pixels import ImageArray, cached_memmap, read_pixels, write_pixels
from fgaug.core.split_names import PREPARED, fold_of
from fgaug.data import remote as remotes
from fgaug.data.folds import HELD_OUT, held_out
from fgaug.data.remote import Remote
from fgaug.data.unlabelled import JoinedPixels, follow
from fgaug.errors import DataError

SCHEMA_VERSION = 1
MANIFEST_COLUMNS = ("image_id", "label", "group", "split", "gan", "sha256", "source")
PART_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """The contents of `dataset.json`."""

    labels: tuple[str, ...]  # alphabetical; the index of a label is its class
    size: int  # pixels; images are square
    channels: int  # 1 or 3
    strata: tuple[str, ...]  # columns of the manifest
    source: dict[str, Any]  # where the images came from
    split: dict[str, Any]  # the rule that made the split
    crop: dict[str, Any] | None  # margin and digest of the boxes
    resize_filter: str
    sizes: dict[str, Any]  # of the source images, before cropping
    digest: str  # 64 hex digits; see `digest_of`
    folds: tuple[int, ...] = ()  # if the manifest has the column `fold`: its values, sorted
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A prepared dataset: its spec, one manifest row per image, and the pixels on demand."""

    root: Path  # its folder; of a dataset on a store, this machine's copy without pixels
    spec: DatasetSpec
    # MANIFEST_COLUMNS, the strata and, if there are folds, `fold`; sorted by image_id
    manifest: pd.DataFrame
    unlabelled: Dataset | None = None  # images without a label; only GANs may see them
    remote: Remote | None = None  # where it lies on a store; None: in a folder

    @property
    def uri(self) -> str:
        """The folder or URI that opens this dataset, also in a process on another machine."""
        return str(self.root.resolve()) if self.remote is None else self.remote.uri

    @property
    def place(self) -> str:
        """The folder or URI for messages, without credentials."""
        return str(self.root) if self.remote is None else self.remote.place

    def __len__(self) -> int:
        return len(self.manifest)

    def pixels(self) -> ImageArray:
        """Return all images in manifest order, uint8 [N, H, W, C], memory-mapped."""
        spec = self.spec
        shape = (spec.size, spec.size, spec.channels)
        return cached_memmap(f"dataset-{self.key}", len(self), shape, self._decode)

    @property
    def key(self) -> str:
        """A name of the content in its order, which the digest ignores, as 33 characters."""
        ordered = "\n".join(self.manifest["image_id"] + "\t" + self.manifest["sha256"])
        order = hashlib.sha256(ordered.encode()).hexdigest()
        return f"{self.spec.digest[:16]}-{order[:16]}"

    def with_split(self, split: int | str) -> Dataset:
        """Return this dataset under another split; its digest and pixels are unchanged.

        Args:
            split: `dataset` for the split it was prepared with, a seed that redraws the
                patients outside the test set (see `fgaug.data.split.redrawn`), or `fold-3` to
                hold out fold 3 (see `fgaug.data.folds.held_out`).

        Raises:
            DataError: the dataset does not have the fold.
        """
        if split == PREPARED:
            return self
        if (fold := fold_of(split)) is not None:
            return self._divided(held_out(self.manifest, fold))
        from fgaug.data.split import redrawn  # scikit-learn takes a second to load

        assert isinstance(split, int)
        return self._divided(redrawn(self.manifest, split))

    def _divided(self, manifest: pd.DataFrame) -> Dataset:
        rest = self.unlabelled
        if rest is not None:
            rest = dataclasses.replace(rest, manifest=follow(rest.manifest, manifest))
        return dataclasses.replace(self, manifest=manifest, unlabelled=rest)

    def everything(self) -> tuple[pd.DataFrame, ImageArray | JoinedPixels]:
        """Return the rows and pixels of all images; the label is missing where there is none."""
        if self.unlabelled is None:
            return self.table, self.pixels()
        return self.table, JoinedPixels(self.pixels(), self.unlabelled.pixels())

    @property
    def table(self) -> pd.DataFrame:
        """The rows of all images; the label is missing where there is none."""
        if self.unlabelled is None:
            return self.manifest
        rest = self.unlabelled.manifest.assign(label=None)
        return pd.concat([self.manifest, rest], ignore_index=True)

    @property
    def evaluated(self) -> str:
        """The value of `split` of the images that score a trial: `valid`, or a held-out fold."""
        return HELD_OUT if (self.manifest["split"] == HELD_OUT).any() else "valid"

    def _decode(self) -> np.ndarray:
        spec, start = self.spec, 0
        images = np.empty((len(self), spec.size, spec.size, spec.channels), np.uint8)
        local = (read_pixels(path, DataError) for path in parts_of(self.root))
        for part in local if self.remote is None else self.remote.parts():
            if part.shape[1:] == images.shape[1:] and start + len(part) <= len(images):
                images[start : start + len(part)] = part
            start += len(part)
        if start != len(images):
            raise DataError(
                f"{self.place} has {len(images)} images in its manifest and {start} in pixels/. "
                "Copy the whole dataset again or prepare it again."
            )
        return images


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """Images without a label, to be written beside a dataset."""

    manifest: pd.DataFrame  # as that of the dataset, sorted by image_id; every label is empty
    images: Iterable[np.ndarray]  # blocks of uint8 [n, H, W, C], in the order of the manifest
    crop: dict[str, Any] | None  # margin and digest of their own boxes


def digest_of(
    manifest: pd.DataFrame,
    *,
    strata: Iterable[str],
    size: int,
    channels: int,
    crop: dict[str, Any] | None,
    resize_filter: str,
    folds: Iterable[int] = (),
) -> str:
    """Return the SHA-256 that identifies a dataset by content, as 64 hex digits.

    It covers the sorted rows (image SHA-256, label, group, strata, split, gan flag), size,
    channels, crop, resize filter and, if there are any, each row's fold. File names, folders and
    row order do not affect it.
    """
    strata = sorted(strata)
    values = zip(*(manifest[name].tolist() for name in strata), strict=True)
    attributes = [dict(zip(strata, row, strict=True)) for row in values] if strata else None
    columns = [manifest[name].tolist() for name in ("sha256", "label", "group", "split", "gan")]
    of_fold = [[fold] for fold in manifest["fold"].tolist()] if [*folds] else [[]] * len(manifest)
    rows = sorted(
        _canonical(
            [
                *(sha, label, group, attributes[index] if attributes else {}, split, bool(gan)),
                *of_fold[index],
            ]
        )
        for index, (sha, label, group, split, gan) in enumerate(zip(*columns, strict=True))
    )
    whole = {
        "rows": rows,
        "size": size,
        "channels": channels,
        "crop": crop,
        "resize_filter": resize_filter,
    }
    return hashlib.sha256(_canonical(whole).encode()).hexdigest()


def open_dataset(path: str | Path) -> Dataset:
    """Open the dataset in a folder or at a `pyarrow.fs` URI, such as `s3://bucket/datasets/breast`.

    Of a dataset on a store, pixels are fetched when they are needed, once per machine.

    Raises:
        DataError: the dataset is missing, unfinished or damaged, has images without a label, or
            its store cannot be reached.
    """
    if store.is_uri(path):
        dataset = _open(*remotes.fetch(str(path)))
    else:
        dataset = _open(store.open_store(path, DataError).folder or Path(path))
    spec, files = dataset.spec, paths.DatasetPaths(dataset.root)
    unknown = ~dataset.manifest["label"].isin(spec.labels)
    if unknown.any():
        raise DataError(
            f"{dataset.place} has {int(unknown.sum())} images without a label, on which no "
            "classifier can be trained. Give the dataset that lies around this folder; there they "
            "serve GANs alone."
        )
    noted = spec.source.get("unlabelled")
    if noted is None:
        return dataset
    if not files.unlabelled.is_dir():
        raise DataError(
            f"{dataset.place} has lost its folder {files.unlabelled.name} with {noted['images']} "
            "images. Copy the whole folder again or prepare it again."
        )
    inside = None if dataset.remote is None else dataset.remote.inside(files.unlabelled.name)
    rest = _open(files.unlabelled, inside)
    if rest.spec.digest != noted["digest"]:
        raise DataError(f"{rest.place} belongs to another dataset. Prepare it again.")
    return dataclasses.replace(dataset, unlabelled=rest)


def _open(root: Path, remote: Remote | None = None) -> Dataset:
    """Open one folder with a manifest, whatever its labels.

    Args:
        root: the folder.
        remote: where it lies on a store, if `root` is a copy without pixels.
    """
    files = paths.DatasetPaths(root)
    if root.is_file():
        raise DataError(
            f"{root} is a file, not a dataset folder. Give a folder written by `fgaug data "
            "prepare`."
        )
    if not root.is_dir():
        raise DataError(
            f"The dataset folder {root} does not exist. Create it with `fgaug data prepare`, or "
            "run the command from the folder that the path is relative to."
        )
    if not files.manifest.is_file():
        raise DataError(
            f"{root} is not a finished dataset: {files.manifest.name} is missing. Run `fgaug data "
            "prepare` again; it starts over."
        )
    spec = _read_spec(files.spec)
    manifest = read_table(files.manifest, DataError).to_pandas()
    lacking = [name for name in _columns(spec) if name not in manifest]
    if lacking:
        raise DataError(
            f"{files.manifest} has no column {', '.join(lacking)}. Prepare the dataset again."
        )
    opened = Dataset(root=root, spec=spec, manifest=manifest, remote=remote)
    if remote is None:
        check_parts(root, rows=len(manifest), size=spec.size)
    found = _digest(spec, manifest)
    if found != spec.digest:
        raise DataError(
            f"{opened.place} was changed after it was prepared: its manifest has digest "
            f"{found[:12]}, dataset.json says {spec.digest[:12]}. Prepare it again from its "
            "source."
        )
    return opened


def write_dataset(
    out: str | Path,
    spec: DatasetSpec,
    manifest: pd.DataFrame,
    images: Iterable[np.ndarray],
    copies: pd.DataFrame | None = None,
    unlabelled: Unlabelled | None = None,
) -> Dataset:
    """Write a dataset, its manifest last, and return it opened.

    Args:
        out: folder to write; if it already holds the same dataset, nothing is written.
        spec: contents of `dataset.json`; the digest is computed here.
        manifest: MANIFEST_COLUMNS and the strata; it must be sorted by image_id.
        images: blocks of uint8 [n, H, W, C], in the order of the manifest.
        copies: the action taken on each near-duplicate pair; stored beside the manifest.
        unlabelled: images without a label; the digest of the dataset does not cover them.
    """
    root = Path(out)
    files = paths.DatasetPaths(root)
    assert manifest["image_id"].is_monotonic_increasing
    manifest = manifest[_columns(spec)].reset_index(drop=True)
    spec = dataclasses.replace(spec, digest=_digest(spec, manifest))
    rest = None
    if unlabelled is not None:
        rest = _unlabelled_spec(spec, unlabelled)
        noted = {"images": len(unlabelled.manifest), "digest": rest.digest}
        spec = dataclasses.replace(spec, source={**spec.source, "unlabelled": noted})
    if files.manifest.exists():
        return _same_or_refused(root, spec)
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, and a dataset is a folder. Choose another --out.")
    for left_over in parts_of(root):
        left_over.unlink()
    files.copies.unlink(missing_ok=True)
    if files.unlabelled.is_dir():
        shutil.rmtree(files.unlabelled)  # of an attempt that did not finish
    if unlabelled is not None and rest is not None:
        _write(paths.DatasetPaths(files.unlabelled), rest, unlabelled.manifest, unlabelled.images)
    if copies is not None:
        write_text(files.copies, copies.to_csv(index=False))
    _write(files, spec, manifest, images)
    return open_dataset(root)


def _unlabelled_spec(spec: DatasetSpec, unlabelled: Unlabelled) -> DatasetSpec:
    """Return the contents of `dataset.json` of the images without a label."""
    rest = dataclasses.replace(spec, labels=(), folds=(), crop=unlabelled.crop)
    return dataclasses.replace(rest, digest=_digest(rest, unlabelled.manifest))


def _write(
    files: paths.DatasetPaths,
    spec: DatasetSpec,
    manifest: pd.DataFrame,
    images: Iterable[np.ndarray],
) -> None:
    manifest = manifest[_columns(spec)].reset_index(drop=True)
    write_parts(files, manifest, images)
    written = dataclasses.asdict(spec)
    if not spec.folds:
        del written["folds"]  # as earlier versions wrote it
    write_json(files.spec, written)
    write_table(files.manifest, pa.Table.from_pandas(manifest, preserve_index=False))


def _columns(spec: DatasetSpec) -> list[str]:
    fold = ["fold"] if spec.folds else []
    return ["image_id", "label", "group", *spec.strata, *fold, "split", "gan", "sha256", "source"]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(spec: DatasetSpec, manifest: pd.DataFrame) -> str:
    return digest_of(
        manifest,
        strata=spec.strata,
        size=spec.size,
        channels=spec.channels,
        crop=spec.crop,
        resize_filter=spec.resize_filter,
        folds=spec.folds,
    )


def _same_or_refused(root: Path, spec: DatasetSpec) -> Dataset:
    found = open_dataset(root)
    name = "unlabelled"
    if found.spec.digest != spec.digest:
        other = (
            f"another dataset (digest {found.spec.digest[:12]}; this one is {spec.digest[:12]})"
        )
    elif found.spec.source.get(name) != spec.source.get(name):
        other = "this dataset with other images without a label"
    else:
        return found
    raise DataError(f"{root} already holds {other}. Remove the folder, or choose another --out.")


def _read_spec(path: Path) -> DatasetSpec:
    raw = read_json(path, DataError)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}; this version of fgaug reads {SCHEMA_VERSION}. "
            "Prepare the dataset again, or use the version that wrote it."
        )
    names = {field.name for field in dataclasses.fields(DatasetSpec)}
    raw = {"folds": [], **raw}
    if set(raw) != names:
        wrong = ", ".join(sorted(set(raw) ^ names))
        raise DataError(f"{path} is damaged ({wrong} missing or unknown). Prepare it again.")
    lists = {name: tuple(raw[name]) for name in ("labels", "strata", "folds")}
    return DatasetSpec(**{**raw, **lists})


def parts_of(root: Path) -> list[Path]:
    """Return the pixel files of a dataset, in the order of its manifest."""
    first = paths.DatasetPaths(root).pixels(0)
    return sorted(first.parent.glob("part-*.parquet"))


def check_parts(root: Path, *, rows: int, size: int) -> None:
    """Refuse pixel files that are unreadable or do not match the manifest's row count."""
    found = 0
    for path in parts_of(root):
        try:
            found += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as problem:
            reason = str(problem).splitlines()[0]
            raise DataError(f"{path} is damaged ({reason}). Prepare the dataset again.") from None
    if found != rows:
        raise DataError(
            f"{root} has {rows} images in its manifest and {found} in pixels/ ({size} px). Files "
            "are missing; copy the whole folder again or prepare it again."
        )


def write_parts(
    files: paths.DatasetPaths, manifest: pd.DataFrame, images: Iterable[np.ndarray]
) -> None:
    """Write the images with their image_id; `images` yields blocks in manifest order."""
    first = 0
    for number, block in enumerate(_in_parts(images)):
        ids = manifest["image_id"].iloc[first : first + len(block)].tolist()
        assert len(ids) == len(block), "more images than rows"
        write_pixels(files.pixels(number), block, {"image_id": pa.array(ids, pa.string())})
        first += len(block)
    assert first == len(manifest), "more rows than images"


def _in_parts(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Regroup blocks of any size into blocks of about 64 MB."""
    held: list[np.ndarray] = []
    for block in images:
        held.append(block)
        if sum(each.nbytes for each in held) >= PART_BYTES:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
