"""The axis `dataset`: several preparations of one set of patients, such as crops and whole images.

They differ in pixels alone. Each has its own bank, because a network makes images like those it
was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from fgaug.core.paths import without_secrets
from fgaug.grid.generators import Generator
from fgaug.grid.recipe import Frozen

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Preparation(Frozen):
    """A value of the axis `dataset`: a dataset, and the fakes that belong to it."""

    path: Annotated[str, Field(min_length=1)]
    bank: Annotated[str, Field(min_length=1)] | None = None
    generator: Generator | None = None  # None: the grid's


def _entries(value: Any) -> Any:
    """Return the axis with every path written out as `{path: FOLDER}`."""
    if not isinstance(value, Mapping) or len(value) < 2:
        raise ValueError(
            "must map two names or more to datasets, as in `{whole: data/whole, crop: data/crop}`,"
            f" got {value!r}"
        )
    if wrong := [name for name in value if not _NAME.fullmatch(str(name))]:
        raise ValueError(
            f"names hold letters, digits, dots, dashes and underscores, got {wrong[0]!r}"
        )
    return {
        str(name): {"path": entry} if isinstance(entry, str) else entry
        for name, entry in value.items()
    }


def _apart(found: dict[str, Preparation]) -> dict[str, Preparation]:
    for what, used in (
        ("dataset", [each.path for each in found.values()]),
        ("bank", [each.bank for each in found.values() if each.bank is not None]),
    ):
        places = [_normal(place) for place in used]
        if shared := [place for place in used if places.count(_normal(place)) > 1]:
            raise ValueError(
                f"several names share the {what} {without_secrets(shared[0])}. Give each its own"
            )
    return found


def _normal(place: str) -> str:
    return place if "://" in place else str(Path(place).resolve())


Preparations = Annotated[dict[str, Preparation], BeforeValidator(_entries), AfterValidator(_apart)]
