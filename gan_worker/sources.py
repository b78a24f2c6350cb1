"""Sources: what makes each label's fakes, opened and brought to the bank's size.

grid or command line -> [sources] -> generator -> fill
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from fgaug.bank import BankSpec, Source, source_digest
from fgaug.data.phantom import DEFAULTS
from fgaug.errors import SnapshotError
from gan_worker.generator import Generator, StubGenerator, StyleGan2Generator, load_generator
from gan_worker.phantom import PhantomGenerator
from gan_worker.snapshot import identity_of

LUMA = (299, 587, 114)  # thousandths of red, green, blue (ITU-R BT.601)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
    """What makes one label's fakes, as a grid or a command line names it."""

    kind: str  # stylegan2 | phantom | stub
    file: str | None = None  # of a network
    class_index: int | None = None  # of a conditional network


def describe(label: str, source: LabelSource) -> Source:
    """Return a source by content, as a bank's description and a cell's identity want it.

    Raises:
        SnapshotError: the network file does not exist, or is a copy that is refused.
    """
    if source.kind == "stylegan2":
        assert source.file is not None
        path = Path(source.file)
        if not path.is_file():
            raise SnapshotError(f"the snapshot of `{label}`, {path}, is not a file")
        return Source(
            kind=source.kind,
            sha256=identity_of(path),
            name=path.name,
            class_index=source.class_index,
        )
    parameters = DEFAULTS.as_dict() if source.kind == "phantom" else {"version": 1}
    return Source(
        kind=source.kind,
        sha256=source_digest(source.kind, {"label": label, **parameters}),
        name=source.kind,
    )


class LabelGenerator:
    """One label's generator, giving images of the bank's size and channels."""

    def __init__(self, label: str, source: LabelSource, spec: BankSpec, device: str) -> None:
        self.spec = spec
        self.inner = _open(label, source, spec, device)
        self.class_index = source.class_index
        self._check(label, source)

    def _check(self, label: str, source: LabelSource) -> None:
        inner, file = self.inner, source.file
        if inner.size < self.spec.size:
            raise SnapshotError(
                f"the snapshot of `{label}`, {file}, makes images of {inner.size} px, the dataset "
                f"has {self.spec.size} px. Prepare the dataset at {inner.size} px or less."
            )
        known = self.spec.sources.get(label)
        if isinstance(inner, StyleGan2Generator) and known and inner.sha256 != known.sha256:
            raise SnapshotError(
                f"the snapshot of `{label}`, {file}, changed: the bank is made from "
                f"{known.sha256[:12]}, the file is {inner.sha256[:12]}. Give it a bank of its own."
            )
        if inner.labels and self.class_index is None:
            raise SnapshotError(
                f"the snapshot of `{label}`, {file}, has {inner.labels} classes. Say which: "
                f"`{label}: {{file: {file}, class: 0}}` in a grid, `{label}={file}:0` here."
            )
        if self.class_index is not None and not inner.labels:
            raise SnapshotError(
                f"the snapshot of `{label}`, {file}, has no classes, class {self.class_index} is "
                "asked for. Leave out the class."
            )
        if self.class_index is not None and not 0 <= self.class_index < inner.labels:
            raise SnapshotError(
                f"the snapshot of `{label}`, {file}, has {inner.labels} classes, class "
                f"{self.class_index} is asked for. Give 0 to {inner.labels - 1}."
            )

    def generate(self, z_seeds: np.ndarray, psi: float) -> np.ndarray:
        """Return the images of `z_seeds`, uint8 [N, size, size, channels] of the bank."""
        label = self.class_index if self.inner.labels else None
        images = self.inner.generate([int(z_seed) for z_seed in z_seeds], psi, label)
        return fit_to_bank(images, self.spec.size, self.spec.channels)


def fit_to_bank(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Return uint8 [N, H, W, C] images with the bank's channels (luma) and size (Lanczos)."""
    if images.shape[3] == 3 and channels == 1:
        weighted = images.astype(np.uint32) @ np.array(LUMA, np.uint32)
        images = ((weighted + 500) // 1000).astype(np.uint8)[..., None]
    elif images.shape[3] == 1 and channels == 3:
        images = np.repeat(images, 3, axis=3)
    if images.shape[1] == size:
        return images
    return (
        np.stack([_resized(image, size) for image in images])
        if len(images)
        else np.empty((0, size, size, channels), np.uint8)
    )


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """Return one image resized by Pillow's Lanczos filter, antialiased."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    small = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
    return small[..., None] if small.ndim == 2 else small


def open_sources(
    sources: Mapping[str, LabelSource], spec: BankSpec, device: str
) -> dict[str, LabelGenerator]:
    """Return the generator of every label, each network file read once.

    Raises:
        SnapshotError: a file that cannot be read or does not fit; every problem in one message.
    """
    opened, problems = {}, []
    for label, source in sources.items():
        try:
            opened[label] = LabelGenerator(label, source, spec, device)
        except SnapshotError as error:
            problems.append(str(error))
    if problems:
        raise SnapshotError("\n".join(problems))
    return opened


def check_sources(sources: Mapping[str, LabelSource], spec: BankSpec) -> None:
    """Read every network once and let it go: what is wrong is said before anything starts.

    Raises:
        SnapshotError: as `open_sources`.
    """
    try:
        open_sources(sources, spec, "cpu")
    finally:
        _network.cache_clear()


def _open(label: str, source: LabelSource, spec: BankSpec, device: str) -> Generator:
    if source.kind == "phantom":
        return PhantomGenerator(label, spec.size)
    if source.kind == "stub":
        return StubGenerator(spec.size, spec.channels)
    assert source.file is not None
    state = Path(source.file).stat() if Path(source.file).is_file() else None
    changed = (state.st_mtime_ns, state.st_size) if state else None
    return _network(source.file, changed, spec.noise, device)


@lru_cache(maxsize=8)
def _network(
    file: str, changed: tuple[int, int] | None, noise: str, device: str
) -> StyleGan2Generator:
    """Return a network; labels that share a conditional file share it in memory."""
    del changed  # part of the key: a file that was replaced is read again
    return load_generator(file, noise_mode=noise, device=device)
