"""Open the generator of each label, and convert its images to the bank's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fgaug.bank import BankSpec, Source, Store, open_store, source_digest
from fgaug.bank.import_images import imported_source
from fgaug.bank.resize import fit_to_bank
from fgaug.core.node_cache import local_file
from fgaug.core.paths import TRAINED_ON, BankNames, without_secrets
from fgaug.data.phantom import DEFAULTS
from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import Snapshot, identity_of, read_snapshot
from gan_worker.filling.networks import kept_network
from gan_worker.generators.external import Checkout, ExternalGenerator, external_digest
from gan_worker.generators.phantom import PhantomGenerator
from gan_worker.generators.stub import StubGenerator
from gan_worker.generators.stylegan2 import Generator, StyleGan2Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
    """The generator of one label's fakes, as given in a grid or on the command line."""

    kind: str  # stylegan2 | external | imported | phantom | stub
    file: str | None = None  # network file; None means the bank's copy
    class_index: int | None = None  # of a conditional network
    python: str | None = None  # external: Python that runs the checkout at `repo`
    repo: str | None = None
    program: str | None = None  # external: generate.py or run_generator.py; None detects it
    prefix: str | None = None  # external: of the file names written by generate.py

    @property
    def checkout(self) -> Checkout:
        """The checkout of an external program."""
        assert self.python is not None
        assert self.repo is not None
        return Checkout(
            python=self.python, repo=self.repo, program=self.program, prefix=self.prefix
        )


def network_file(place: str) -> Path:
    """Return the path of a network file; one given by URI is fetched with its record.

    Raises:
        SnapshotError: the file at the URI is missing or damaged, or its store is unreachable.
    """
    return local_file(place, SnapshotError, (TRAINED_ON,))


def describe(label: str, source: LabelSource) -> Source:
    """Return the content-based source for a bank's spec and a cell's identity.

    Raises:
        SnapshotError: the network file does not exist, or is an invalid copy.
    """
    if source.kind in ("stylegan2", "external"):
        assert source.file is not None
        path = network_file(source.file)
        if not path.is_file():
            raise SnapshotError(f"the snapshot of `{label}`, {path}, is not a file")
        return Source(
            kind=source.kind,
            sha256=_identity(label, source, path),
            name=path.name,
            class_index=source.class_index,
        )
    if source.kind == "imported":
        return imported_source(label)
    parameters = DEFAULTS.as_dict() if source.kind == "phantom" else {"version": 1}
    return Source(
        kind=source.kind,
        sha256=source_digest(source.kind, {"label": label, **parameters}),
        name=source.kind,
    )


def _identity(label: str, source: LabelSource, path: Path) -> str:
    if source.kind == "stylegan2":
        return identity_of(path)
    form = source.checkout.form()
    if form is None:
        problems = "; ".join(source.checkout.problems(source.class_index))
        raise SnapshotError(f"the external program of `{label}` cannot run: {problems}.")
    return external_digest(path, source.class_index, form)


class LabelGenerator:
    """One label's generator, with images in the bank's size and channels."""

    def __init__(
        self,
        label: str,
        source: LabelSource,
        spec: BankSpec,
        device: str,
        store: Store | None = None,
    ) -> None:
        self.spec = spec
        self.name = f"the snapshot of `{label}`, {without_secrets(source.file or 'none')}"
        self.inner = _open(label, source, spec, device, store)
        self.class_index = source.class_index
        self.step = _step(source.kind, device)  # images per request
        self._check_size()
        self._check(label, source)

    def _check_size(self) -> None:
        size = self.inner.size  # 0 for an external program before its first batch
        if 0 < size < self.spec.size:
            raise SnapshotError(
                f"{self.name}, makes images of {size} px, but the dataset has {self.spec.size} "
                f"px. Prepare the dataset at {size} px or less."
            )

    def _check_content(self, known: str, found: str) -> None:
        if found != known:
            raise SnapshotError(
                f"{self.name}, has changed: the bank was made from {known[:12]}, the file is "
                f"{found[:12]}. Use a separate bank."
            )

    def _check(self, label: str, source: LabelSource) -> None:
        inner, file = self.inner, source.file
        known = self.spec.sources.get(label)
        if known and isinstance(inner, StyleGan2Generator | ExternalGenerator):
            self._check_content(known.sha256, inner.sha256)
        if inner.labels and self.class_index is None:
            raise SnapshotError(
                f"{self.name}, has {inner.labels} classes. Choose one: `{label}: {{file: {file}, "
                f"class: 0}}` in a grid, `{label}={file}:0` here."
            )
        if self.class_index is not None and not inner.labels:
            raise SnapshotError(
                f"{self.name}, has no classes, class {self.class_index} is requested. Omit the "
                "class."
            )
        if self.class_index is not None and not 0 <= self.class_index < inner.labels:
            raise SnapshotError(
                f"{self.name}, has {inner.labels} classes, class {self.class_index} is requested. "
                f"Give 0 to {inner.labels - 1}."
            )

    def generate(self, z_seeds: np.ndarray, psi: float) -> np.ndarray:
        """Return the images of `z_seeds` in the bank's format, uint8 [N, size, size, channels]."""
        label = self.class_index if self.inner.labels else None
        images = self.inner.generate([int(z_seed) for z_seed in z_seeds], psi, label)
        self._check_size()
        return fit_to_bank(images, self.spec.size, self.spec.channels)


def _step(kind: str, device: str) -> int:
    """Return the number of images per progress report; it does not affect the images."""
    if kind == "external":
        return 512  # each call starts a program that loads its network
    return 64 if device == "cpu" else 1024  # several batches, to overlap computing and copying


def open_sources(
    sources: Mapping[str, LabelSource], spec: BankSpec, device: str, store: Store | None = None
) -> dict[str, LabelGenerator]:
    """Open the generator of every label from the copy in `store` or its file, each read once.

    Raises:
        SnapshotError: a file cannot be read or does not fit; lists every problem.
    """
    opened, problems = {}, []
    for label, source in sources.items():
        try:
            opened[label] = LabelGenerator(label, source, spec, device, store)
        except SnapshotError as error:
            problems.append(str(error))
    if problems:
        raise SnapshotError("\n".join(problems))
    return opened


def check_sources(
    sources: Mapping[str, LabelSource], spec: BankSpec, store: Store | None = None
) -> None:
    """Read every network once, to report problems before anything starts.

    External programs are not started; only their files are checked.

    Raises:
        SnapshotError: as in `open_sources`.
    """
    try:
        open_sources(sources, spec, "cpu", store)
    finally:
        _of_file.cache_clear()
        _of_bank.cache_clear()


def _open(
    label: str, source: LabelSource, spec: BankSpec, device: str, store: Store | None
) -> Generator:
    if source.kind == "phantom":
        return PhantomGenerator(label, spec.size)
    if source.kind == "stub":
        return StubGenerator(spec.size, spec.channels)
    if source.kind == "imported":
        raise SnapshotError(
            f"the bank lacks imported images of `{label}`, which cannot be generated. Add them "
            "with `fgaug bank import`, or use a smaller `pool`: z_seeds run from 1 to `pool`."
        )
    if source.kind == "external":
        assert source.file is not None
        return ExternalGenerator(
            label, str(network_file(source.file)), source.checkout, class_index=source.class_index
        )
    options = (spec.noise, device, spec.precision, spec.cutoff)
    known = spec.sources.get(label)
    if store is not None and known and store.has(BankNames.snapshot(known.sha256)):
        return _of_bank(store.uri, known.sha256, options)
    if source.file is None:
        raise SnapshotError(
            f"the bank has no copy of the network of `{label}`. Fill it from the network file."
        )
    path = network_file(source.file)
    state = path.stat() if path.is_file() else None
    changed = (state.st_mtime_ns, state.st_size) if state else None
    return _of_file(str(path), changed, options)


Options = tuple[str, str, str, int | None]  # noise mode, device, precision, cutoff


@lru_cache(maxsize=8)
def _of_file(file: str, changed: tuple[int, int] | None, options: Options) -> StyleGan2Generator:
    """Load a network; labels with the same conditional file share it in memory."""
    del changed  # part of the cache key: a replaced file is read again
    return _generator(read_snapshot(file), options)


@lru_cache(maxsize=8)
def _of_bank(uri: str, sha256: str, options: Options) -> StyleGan2Generator:
    """Load a network from a bank's copy."""
    return _generator(kept_network(open_store(uri), sha256), options)


def _generator(snapshot: Snapshot, options: Options) -> StyleGan2Generator:
    noise, device, precision, cutoff = options
    return StyleGan2Generator(
        snapshot, noise_mode=noise, device=device, precision=precision, cutoff=cutoff
    )
