"""Fetches files from stores into this machine's cache: once, checked, named by content.

What is here is whole: a file gets its name only after its digest was compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fgaug.core import cache, files, listing, paths, store
from fgaug.core.cache_lookups import count_lookup
from fgaug.core.listing import Listed
from fgaug.core.store import Store
from fgaug.errors import UserError


def may_exist(place: str) -> bool:
    """Return whether there is a file or folder at a path; a URI counts as existing unasked."""
    return store.is_uri(place) or Path(place).exists()


def local_file(place: str, error: type[UserError], companions: tuple[str, ...] = ()) -> Path:
    """Return the path of a file given by path or URI; one on a store is fetched if it is not here.

    Args:
        place: a path, or the URI of a file, such as `s3://bucket/nets/benign.pkl`.
        error: raised if the file is damaged or the store cannot be reached.
        companions: endings of files that lie beside it, such as `.json` of `model.json` beside
            `model.safetensors`; those that exist are fetched too.

    Returns:
        The path; a file that does not exist has one too, for the caller to report.
    """
    if not store.is_uri(place):
        return Path(place)
    folder, name = store.open_store(paths.parent(place), error), paths.name_of(place)
    names = [name, *(Path(name).with_suffix(ending).name for ending in companions)]
    staged = listing.read(folder, error)
    if staged is not None:
        wanted = {each: staged[each] for each in names if each in staged}
        version = ""
    else:
        found = {each: entry for each in names if (entry := folder.entry(each)) is not None}
        wanted = {each: Listed(entry.size) for each, entry in found.items()}
        version = f"{folder.place()} {[entry.mtime_ns for entry in found.values()]}"
    if name not in wanted:
        raise error(
            f"{folder.place(name)} does not exist. Correct the address, or put the file there: "
            "`fgaug stage FOLDER URI`."
        )
    return fetched(folder, wanted, error, version) / name


def fetched(of: Store, wanted: Mapping[str, Listed], error: type[UserError], version: str) -> Path:
    """Return the folder of this machine that holds these files of a store, fetched if necessary.

    Args:
        of: the store.
        wanted: size and digest of each file, by its name in the store.
        error: raised if a file is missing, damaged or cannot be reached.
        version: tells files apart whose digests are unknown; else empty.
    """
    key = hashlib.sha256(f"{version}{listing.digest(wanted)}".encode()).hexdigest()
    folder = cache.fetched(key)
    for name, listed in wanted.items():
        path = folder / name
        count_lookup("fetched", hit=path.is_file())
        if not path.is_file():
            with cache.making(path, listed.size):
                if not path.is_file():  # another process may have fetched it meanwhile
                    _fetch(of, name, listed, path, error)
    cache.used(folder)
    return folder


def _fetch(of: Store, name: str, listed: Listed, path: Path, error: type[UserError]) -> None:
    unchecked = path.with_name(f".{path.name}.fetched")
    try:
        of.download(name, unchecked)
        listing.check(unchecked, listed, of.place(name), error)
        with files.disk_errors(path):
            unchecked.replace(path)
    except FileNotFoundError:
        raise error(
            f"{of.place(name)} is missing. Stage the folder again: `fgaug stage FOLDER URI`."
        ) from None
    finally:
        unchecked.unlink(missing_ok=True)
