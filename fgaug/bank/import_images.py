"""Import images made by other programs into a bank.

Each image is stored with the SHA-256 of its pixels. As there is no network to identify, cells that
use imported fakes are identified by the digest of the images they can draw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from fgaug.bank.format import (
    NOISE_MODES,
    BankSpec,
    Shard,
    Source,
    check_options,
    is_empty,
    read_spec,
    source_digest,
)
from fgaug.bank.reader import Bank, shard_columns
from fgaug.bank.resize import fit_to_bank
from fgaug.bank.seed_files import LabelFolder, SeedFile, find_all
from fgaug.bank.store import Store, open_store
from fgaug.bank.writer import BankWriter
from fgaug.core.machine import cores
from fgaug.core.paths import BankNames
from fgaug.errors import BankError

SHA256 = "sha256"  # the column of an imported shard, hex text
_SHOWN = 10  # problems listed in a message; the rest are counted
Decode = Callable[[Path], np.ndarray]  # file -> uint8 [H, W, 1 or 3]; ValueError has the reason
Progress = Callable[[int, int], None]  # images read, images found


def imported_source(label: str) -> Source:
    """Return the source of a label with imported images."""
    digest = source_digest("imported", {"label": label})
    return Source(kind="imported", sha256=digest, name="imported")


def digests(store: Store, shards: Iterable[Shard], label: str, psi: float) -> pd.DataFrame:
    """Return z_seed and sha256 of the imported images of one label and psi, by z_seed."""
    parts = [pd.DataFrame({"z_seed": np.empty(0, np.int64), SHA256: np.empty(0, object)})]
    for shard in shards:
        if (shard.label, shard.psi) == (label, float(psi)):
            parts.append(shard_columns(store, shard.path, ["z_seed", SHA256]).to_pandas())
    found: pd.DataFrame = pd.concat(parts).sort_values("z_seed", ignore_index=True)
    return found


def pixels_digest(images: pd.DataFrame, pool: int) -> str:
    """Return the SHA-256 that identifies the imported images in a pool.

    Images beyond the pool and other psis do not affect it.

    Args:
        images: z_seed and sha256 of one label and psi; see `digests`.
        pool: fakes are drawn from z_seeds 1..pool.
    """
    inside = images[images["z_seed"].between(1, pool)]
    pairs = sorted(zip(inside["z_seed"].tolist(), inside[SHA256].tolist(), strict=True))
    text = json.dumps([list(pair) for pair in pairs], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path, size: int, channels: int, decode: Decode) -> np.ndarray:
    """Read one image in the bank's format, uint8 [size, size, channels].

    Raises:
        ValueError: it is broken, not square, or too small; the message is the reason, without the
            name.
    """
    image = decode(path)
    height, width = image.shape[:2]
    if height != width:
        raise ValueError(f"images must be square, but it has {width} x {height} px")
    if height < size:
        raise ValueError(f"images must have {size} px or more, but it has {height} px")
    fitted: np.ndarray = fit_to_bank(image[None], size, channels)[0]
    return fitted


def import_folders(
    uri: str | Path | Store,
    folders: Sequence[LabelFolder],
    psi: float,
    decode: Decode,
    *,
    size: int | None = None,
    channels: int | None = None,
    noise: str | None = None,
    progress: Progress = lambda done, wanted: None,
) -> Bank:
    """Add the images of `folders`, all made at `psi`, to the bank at `uri` and return it.

    Images already in the bank are skipped. A refused import adds no images.

    Args:
        decode: reads an image file; `fgaug.data.reading.source_image.read_image`.
        size: px; None takes the bank's, or for a new bank that of the first image.
        channels: 1 or 3; None takes the bank's, or for a new bank those of the first image.
        noise: seeded, const or none, as used by the program; None takes the bank's, or seeded.

    Raises:
        BankError: files are unreadable or ambiguous, or images differ from those in the bank.
    """
    files = find_all(folders)
    store = open_store(uri)
    if store.has(BankNames.spec) and not is_empty(store):
        base = read_spec(store)
    else:
        base = _spec_of(files[0].path, decode)
        if channels is None and base.channels == 1:
            decode = _grey_alone(decode)
    spec = replace(
        base,
        size=base.size if size is None else size,
        channels=base.channels if channels is None else channels,
        noise=base.noise if noise is None else noise,
        sources={each.label: imported_source(each.label) for each in folders},
    )
    check_options(spec.size, spec.channels, spec.noise)
    with BankWriter.opened(store, spec) as writer:
        before = set(writer.shards)
        problems = _add(writer, files, float(psi), decode, progress)
        if problems:
            for name in set(writer.shards) - before:
                writer.drop(name)
                store.remove(name)
            more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
            lines = "\n".join(f"  - {line}" for line in [*problems[:_SHOWN], *more])
            raise BankError(
                f"{len(problems)} of {len(files)} images cannot be imported:\n{lines}\nRestore or "
                "remove these files. No image was imported."
            )
        return writer.commit()


def _spec_of(path: Path, decode: Decode) -> BankSpec:
    """Return the spec of a new bank for images like this one."""
    try:
        image = decode(path)
    except ValueError as error:
        raise BankError(f"{path}: {error}.") from None
    return BankSpec(size=len(image), channels=image.shape[2], noise=NOISE_MODES[0], sources={})


def _grey_alone(decode: Decode) -> Decode:
    """Wrap `decode` to refuse colour, so that colour is never dropped silently."""

    def decoded(path: Path) -> np.ndarray:
        image = decode(path)
        if image.shape[2] > 1:
            raise ValueError("it has colour, but the first image has none; give --channels 1 or 3")
        return image

    return decoded


def _add(
    writer: BankWriter, files: Sequence[SeedFile], psi: float, decode: Decode, progress: Progress
) -> list[str]:
    """Write the missing images; after the first problem, only collect further problems."""
    spec, done = writer.spec, 0
    problems: list[str] = []

    def load(file: SeedFile) -> np.ndarray | str:
        try:
            return read(file.path, spec.size, spec.channels, decode)
        except ValueError as error:
            return str(error)

    # Threads: Pillow releases the GIL while it decodes and resizes.
    with ThreadPoolExecutor(min(8, cores())) as threads:
        for label, piece, held in _pieces(writer, files, psi):
            new: dict[int, np.ndarray] = {}
            for file, image in zip(piece, threads.map(load, piece), strict=True):
                if isinstance(image, str):
                    problems.append(f"{file.path}: {image}")
                elif file.z_seed not in held:
                    new[file.z_seed] = image
                elif held[file.z_seed] != _sha256(image):
                    problems.append(
                        f"{file.path}: the bank has another image as z_seed {file.z_seed} of "
                        f"`{label}` at psi {psi:g}; give these images a separate bank"
                    )
                done += 1
                progress(done, len(files))
            if new and not problems:
                hashes = pa.array([_sha256(image) for image in new.values()], pa.string())
                images = np.stack(list(new.values()))
                writer.write(label, psi, np.array(list(new)), images, {SHA256: hashes})
    return problems


def _pieces(
    writer: BankWriter, files: Sequence[SeedFile], psi: float
) -> Iterator[tuple[str, list[SeedFile], Mapping[int, str]]]:
    """Yield the files of a label in shards, with the images of that label already in the bank."""
    rows = writer.spec.shard_rows
    for label, group in groupby(files, key=lambda file: file.label):
        every = list(group)
        known = digests(writer.store, tuple(writer.shards.values()), label, psi)
        held = dict(zip(known["z_seed"].tolist(), known[SHA256].tolist(), strict=True))
        for start in range(0, len(every), rows):
            yield label, every[start : start + rows], held


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()
