"""`fgaug stage`: copies a dataset, a bank or networks to a store that every node can reach."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rich.console import Console

from fgaug.bank import open_bank
from fgaug.bank import open_store as open_bank_store
from fgaug.bank.stage import upload_of_bank
from fgaug.core import paths, store
from fgaug.core.paths import BankNames, DatasetPaths
from fgaug.core.progress import Advance, progress_of
from fgaug.core.staging import shown_size, upload_of
from fgaug.core.store import Store
from fgaug.data.stage import upload_of_dataset
from fgaug.errors import UserError

NETWORKS = (".pkl", ".safetensors", ".pth", ".pt", ".bin", ".h5", ".hdf5", ".keras")
COMPANIONS = (paths.TRAINED_ON, ".json")  # endings of files that belong to a network


class Copy(Protocol):
    """What a store lacks of something, and how to send it."""

    @property
    def to(self) -> Store:
        """Where it goes."""
        ...

    @property
    def bytes(self) -> int:
        """The size of what is to be sent."""
        ...

    @property
    def total(self) -> int:
        """The size of everything."""
        ...

    def run(self, progress: Advance) -> None:
        """Send it."""
        ...


def stage(source: Path, uri: str, console: Console) -> None:
    """Copy a prepared dataset, a bank, a folder of networks or one network file to a store.

    Only what is missing there or differs is sent. Readers find nothing half-copied: the file that
    makes the copy valid is written last.

    Args:
        source: the folder or file.
        uri: the folder of the copy, such as `s3://bucket/datasets/breast`.
        console: prints sizes and progress.

    Raises:
        UserError: the source is none of these, the address holds something else, or the store
            cannot be written.
    """
    send(copy_of(source, uri), console)


def copy_of(source: Path, uri: str) -> Copy:
    """Return what a store lacks of a dataset, a bank or networks; see `stage`."""
    if DatasetPaths(source).spec.is_file():
        return upload_of_dataset(source, store.open_store(uri, UserError))
    if (source / BankNames.spec).is_file():
        return upload_of_bank(open_bank(source), open_bank_store(uri))
    if not source.exists():
        raise UserError(f"{source} does not exist. Give a dataset, a bank or networks.")
    folder = source if source.is_dir() else source.parent
    beside = [source] if source.is_file() else sorted(folder.iterdir())
    networks = [path for path in beside if path.is_file() and path.suffix in NETWORKS]
    names = dict.fromkeys(name for path in networks for name in names_of(path))
    if not names:
        raise UserError(
            f"{source} is no prepared dataset ({DatasetPaths(source).spec.name}), no bank "
            f"({BankNames.spec}) and holds no networks ({', '.join(NETWORKS)}). Give one of them."
        )
    return upload_of(folder, names, store.open_store(uri, UserError), UserError, keep=True)


def names_of(path: Path) -> list[str]:
    """Return the names of a network file and of the files that belong to it."""
    beside = (path.with_suffix(ending) for ending in COMPANIONS)
    return [path.name, *(each.name for each in beside if each.is_file())]


def send(copy: Copy, console: Console) -> None:
    """Print the size of a copy, and send what is missing."""
    place = copy.to.place()
    if not copy.bytes:
        console.print(f"{place}: complete, {shown_size(copy.total)}", highlight=False)
    else:
        sizes = f"{shown_size(copy.bytes)} of {shown_size(copy.total)}"
        console.print(f"{place}: sending {sizes}", highlight=False)
    with progress_of(f"sending to {place}", console, "MB") as progress:
        copy.run(lambda done, wanted: progress(done // 10**6, wanted // 10**6))
