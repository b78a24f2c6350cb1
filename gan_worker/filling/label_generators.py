"""Sources: what makes each label's fakes, opened and brought to the bank's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fgaug.bank import BankSpec, Source, Store, open_store, source_digest
from fgaug.bank.import_images import imported_source
from fgaug.bank.resize import fit_to_bank
from fgaug.core.paths import BankNames
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
    """What makes one label's fakes, as a grid or a command line names it."""

    kind: str  # stylegan2 | external | imported | phantom | stub
    file: str | None = None  # of a network; None where the bank's own copy is meant
    class_index: int | None = None  # of a conditional network
    python: str | None = None  # external: what runs the checkout at `repo`
    repo: str | None = None
    program: str | None = None  # external: generate.py or run_generator.py; None: what `repo` has
    prefix: str | None = None  # external: of the file names that generate.py writes

    @property
    def checkout(self) -> Checkout:
        """The checkout of an external program."""
        assert self.python is not None
        assert self.repo is not None
        return Checkout(
            python=self.python, repo=self.repo, program=self.program, prefix=self.prefix
        )


def describe(label: str, source: LabelSource) -> Source:
    """Return a source by content, as a bank's description and a cell's identity want it.

    Raises:
        SnapshotError: the network file does not exist, or is a copy that is refused.
    """
    if source.kind in ("stylegan2", "external"):
        assert source.file is not None
        path = Path(source.file)
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
    """One label's generator, giving images of the bank's size and channels."""

    def __init__(
        self,
        label: str,
        source: LabelSource,
        spec: BankSpec,
        device: str,
        store: Store | None = None,
    ) -> None:
        self.spec = spec
        self.name = f"the snapshot of `{label}`, {source.file}"
        self.inner = _open(label, source, spec, device, store)
        self.class_index = source.class_index
        self.step = _step(source.kind, device)  # images to ask for at once
        self._check_size()
        self._check(label, source)

    def _check_size(self) -> None:
        size = self.inner.size  # 0: an external program's is known after its first batch
        if 0 < size < self.spec.size:
            raise SnapshotError(
                f"{self.name}, makes images of {size} px, the dataset has {self.spec.size} px. "
                f"Prepare the dataset at {size} px or less."
            )

    def _check_content(self, known: str, found: str) -> None:
        if found != known:
            raise SnapshotError(
                f"{self.name}, changed: the bank is made from {known[:12]}, the file is "
                f"{found[:12]}. Give it a bank of its own."
            )

    def _check(self, label: str, source: LabelSource) -> None:
        inner, file = self.inner, source.file
        known = self.spec.sources.get(label)
        if known and isinstance(inner, StyleGan2Generator | ExternalGenerator):
            self._check_content(known.sha256, inner.sha256)
        if inner.labels and self.class_index is None:
            raise SnapshotError(
                f"{self.name}, has {inner.labels} classes. Say which: "
                f"`{label}: {{file: {file}, class: 0}}` in a grid, `{label}={file}:0` here."
            )
        if self.class_index is not None and not inner.labels:
            raise SnapshotError(
                f"{self.name}, has no classes, class {self.class_index} is asked for. "
                "Leave out the class."
            )
        if self.class_index is not None and not 0 <= self.class_index < inner.labels:
            raise SnapshotError(
                f"{self.name}, has {inner.labels} classes, class {self.class_index} is asked "
                f"for. Give 0 to {inner.labels - 1}."
            )

    def generate(self, z_seeds: np.ndarray, psi: float) -> np.ndarray:
        """Return the images of `z_seeds`, uint8 [N, size, size, channels] of the bank."""
        label = self.class_index if self.inner.labels else None
        images = self.inner.generate([int(z_seed) for z_seed in z_seeds], psi, label)
        self._check_size()
        return fit_to_bank(images, self.spec.size, self.spec.channels)


def _step(kind: str, device: str) -> int:
    """Return after how many images progress is told; the images do not depend on it."""
    if kind == "external":
        return 512  # each call starts a program, which reads its network
    return 64 if device == "cpu" else 1024  # several batches: a GPU computes one, sends another


def open_sources(
    sources: Mapping[str, LabelSource], spec: BankSpec, device: str, store: Store | None = None
) -> dict[str, LabelGenerator]:
    """Return the generator of every label, from the copy in `store` or its file, each read once.

    Raises:
        SnapshotError: a file that cannot be read or does not fit; every problem in one message.
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
    """Read every network once and let it go: what is wrong is said before anything starts.

    An external program is not started: only what it needs is looked for.

    Raises:
        SnapshotError: as `open_sources`.
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
            f"the bank lacks images of `{label}` that were imported and cannot be made here. "
            "Add them by `fgaug bank import`, or ask for fewer: z_seeds run from 1 to `pool`."
        )
    if source.kind == "external":
        assert source.file is not None
        return ExternalGenerator(
            label, source.file, source.checkout, class_index=source.class_index
        )
    options = (spec.noise, device, spec.precision, spec.cutoff)
    known = spec.sources.get(label)
    if store is not None and known and store.has(BankNames.snapshot(known.sha256)):
        return _of_bank(store.uri, known.sha256, options)
    if source.file is None:
        raise SnapshotError(
            f"the bank has no copy of the network of `{label}`. Fill it from the network file."
        )
    state = Path(source.file).stat() if Path(source.file).is_file() else None
    changed = (state.st_mtime_ns, state.st_size) if state else None
    return _of_file(source.file, changed, options)


Options = tuple[str, str, str, int | None]  # noise mode, device, precision, cutoff


@lru_cache(maxsize=8)
def _of_file(file: str, changed: tuple[int, int] | None, options: Options) -> StyleGan2Generator:
    """Return a network; labels that share a conditional file share it in memory."""
    del changed  # part of the key: a file that was replaced is read again
    return _generator(read_snapshot(file), options)


@lru_cache(maxsize=8)
def _of_bank(uri: str, sha256: str, options: Options) -> StyleGan2Generator:
    """Return a network from a bank's own copy."""
    return _generator(kept_network(open_store(uri), sha256), options)


def _generator(snapshot: Snapshot, options: Options) -> StyleGan2Generator:
    noise, device, precision, cutoff = options
    return StyleGan2Generator(
        snapshot, noise_mode=noise, device=device, precision=precision, cutoff=cutoff
    )
