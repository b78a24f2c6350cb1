"""Find the images of a dataset that lists and tables of users name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import PurePosixPath


class ImageNames:
    """Finds rows by image_id, by the path of the source file, or by its last part where unique."""

    def __init__(self, ids: Sequence[str], sources: Sequence[str]) -> None:
        self._ids, self._sources = ids, sources
        self._known: dict[str, set[int]] = {}
        for row, (image_id, source) in enumerate(zip(ids, sources, strict=True)):
            for name in {image_id, source}:
                self._known.setdefault(name, set()).add(row)
            for name in {PurePosixPath(source).name, PurePosixPath(source).stem}:
                self._known.setdefault(f"/{name}", set()).add(row)  # by file name alone

    def find(self, name: str) -> set[int]:
        """Return the rows that a name fits; several only if it is a bare file name."""
        plain = name.replace("\\", "/")
        return self._known.get(plain) or self._known.get(f"/{plain}") or set()

    def is_exact(self, name: str) -> bool:
        """Return whether the name is an image_id or the path of a source."""
        return name.replace("\\", "/") in self._known

    def problem(self, name: str) -> str:
        """Return why a name fits no image, or several."""
        found = self.find(name)
        if found:
            several = ", ".join(sorted(self._sources[row] for row in found)[:5])
            return f'"{name}" fits several images: {several}. Include the folder'
        plain = name.replace("\\", "/")
        close = difflib.get_close_matches(plain, [*self._ids, *self._sources], n=1, cutoff=0.6)
        hint = f', did you mean "{close[0]}"?' if close else ""
        return f'there is no image "{name}"{hint}'
