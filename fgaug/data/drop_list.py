"""Drop lists: which images a network shall not learn from, and why.

A JSON file to be looked through: a line taken out
by hand keeps its image. Images are named by content, so that a list serves the same images
prepared at another size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgaug.core import files
from fgaug.errors import DataError

MAX_BYTES = 256 << 20  # a million images
_CURE = "Make it by `fgaug gan filter`."
Reason = Literal["label", "thin"]  # a classifier disagrees with its label; in a thin region
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Dropped(BaseModel):
    """An image that is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image_id: str
    sha256: Digest
    label: str
    # by reason: the probability a classifier gives its label; its log-density among its label's
    reasons: Annotated[dict[Reason, float], Field(min_length=1)]


class Drops(BaseModel):
    """What a filter found, and by which rules."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    dataset_digest: Digest
    split: Literal["dataset"] | int  # whose training images were looked at
    rules: dict[str, Any]  # each rule with its numbers, and the network of the features
    considered: dict[str, int]  # by label: how many images were looked at
    images: list[Dropped]

    def counts(self) -> dict[str, int]:
        """Return how many images each label loses."""
        labels = [image.label for image in self.images]
        return {label: labels.count(label) for label in self.considered}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropList:
    """Drops as read from a file."""

    drops: Drops
    sha256: str  # of the file: what a snapshot says of the list it was trained by

    @property
    def images(self) -> frozenset[str]:
        """Return the SHA-256 of every image that is left out."""
        return frozenset(image.sha256 for image in self.drops.images)


def write_drops(path: Path, drops: Drops) -> DropList:
    """Write a drop list, whole or not at all, and return it as it is read."""
    files.write_text(path, drops.model_dump_json(indent=1) + "\n")
    return read_drops(path)


def read_drops(path: Path) -> DropList:
    """Return the drop list in a file.

    Raises:
        DataError: it is missing, or no drop list.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. {_CURE}")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} is larger than a drop list ({MAX_BYTES} bytes). {_CURE}")
    try:
        drops = Drops.model_validate_json(path.read_bytes())
    except (ValidationError, RecursionError) as error:
        raise DataError(f"{path} is not a drop list ({_reason(error)}). {_CURE}") from None
    return DropList(drops=drops, sha256=files.sha256_of(path))


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deeply"
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
