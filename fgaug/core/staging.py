"""Copies files of a local folder to a store: only what it lacks, `files.json` last.

folder -> `upload_of` (compares) -> `Upload.run` (sends, checks) -> readers on any node
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fgaug.core import files, listing, store
from fgaug.core.listing import Listed
from fgaug.core.progress import Advance
from fgaug.core.store import Store
from fgaug.errors import UserError

AT_ONCE = 4  # files in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a store lacks of a folder."""

    folder: Path
    to: Store
    files: Mapping[str, Listed]  # every file of the folder that belongs there
    send: tuple[str, ...]  # those that the store lacks or has otherwise
    error: type[UserError]
    listed: bool  # whether `files.json` of the store lists exactly these files
    final: tuple[str, ...] = ()  # files that are sent after all others, one after the other

    @property
    def bytes(self) -> int:
        """The size of what is to be sent."""
        return sum(self.files[name].size for name in self.send)

    @property
    def total(self) -> int:
        """The size of all files."""
        return sum(each.size for each in self.files.values())

    def run(self, progress: Advance = lambda done, wanted: None) -> None:
        """Send what is missing, compare sizes, and write `files.json`.

        A repetition after a failure sends the rest.

        Args:
            progress: called with (bytes sent, bytes to send).

        Raises:
            UserError: `error`; the store cannot be written, or a file has changed meanwhile.
        """
        if self.listed and not self.send:
            return
        sent = 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            first = [name for name in self.send if name not in self.final]
            sending = [(name, threads.submit(self._send, name)) for name in first]
            try:
                for name, done in sending:
                    done.result()
                    sent += self.files[name].size
                    progress(sent, self.bytes)
            finally:
                threads.shutdown(cancel_futures=True)  # after an error, start no more
        for name in self.final:
            if name in self.send:
                self._send(name)
        there = self.to.sizes("")
        for name, each in self.files.items():
            if there.get(name) != each.size:
                raise self.error(
                    f"{self.to.place(name)} has {there.get(name, 0)} bytes after it was written, "
                    f"not {each.size}. Run the same command again; if that does not help, choose "
                    "another address."
                )
        self.to.write(listing.NAME, listing.encoded(self.files))

    def _send(self, name: str) -> None:
        path = self.folder / name
        if path.stat().st_size != self.files[name].size:
            raise self.error(f"{path} changes while it is copied. Run the same command again.")
        self.to.upload(name, path)


def upload_of(
    folder: Path,
    names: Iterable[str],
    to: Store,
    error: type[UserError],
    *,
    final: tuple[str, ...] = (),
    keep: bool = False,
) -> Upload:
    """Return what a store lacks of a folder, by content.

    Files of a store without `files.json`, as after an interrupted copy, are read back to compare
    them.

    Args:
        folder: the local folder.
        names: its files to copy, relative to it.
        to: the store.
        error: raised if the store cannot be reached.
        final: files that are sent after all others, in this order.
        keep: other files that the store lists stay listed.
    """
    own = {name: _listed(folder / name) for name in sorted(names)}
    known, there = listing.read(to, error), to.sizes("")
    others = {n: each for n, each in (known or {}).items() if keep and n not in own and n in there}

    def same(name: str) -> bool:
        if there.get(name) != own[name].size:
            return False
        if known is not None and name in known:
            return known[name] == own[name]
        return listing.sha256_of(store.read(to, name, error)) == own[name].sha256

    send = tuple(name for name in own if not same(name))
    every = dict(sorted({**others, **own}.items()))
    return Upload(
        folder=folder,
        to=to,
        files=every,
        send=send,
        error=error,
        listed=every == known,
        final=final,
    )


def _listed(path: Path) -> Listed:
    return Listed(path.stat().st_size, files.sha256_of(path))


def shown_size(count: float) -> str:
    """Return a number of bytes for people: `1.3 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
