"""Read and write drop lists: images that a network must not be trained on, with reasons.

A drop list is a JSON file made for review: delete a line to keep its image. Images are identified
by content, so one list fits the same images prepared at another size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgaug.core import files
from fgaug.errors import DataError

MAX_BYTES = 256 << 20  # a million images
_CURE = "Create it with `fgaug gan filter`."
# a classifier disagrees with the label; a low-density region; readers disagree with it
Reason = Literal["label", "thin", "agreement"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Dropped(BaseModel):
    """An excluded image and the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image_id: str
    sha256: Digest
    label: str
    # depends on the reason: the classifier's probability of the label, the log-density within the
    # label, or the share of the readers' votes for the label
    reasons: Annotated[dict[Reason, float], Field(min_length=1)]


class Drops(BaseModel):
    """The images that a filter excludes, and its rules."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    dataset_digest: Digest
    split: Literal["dataset"] | int  # whose training images were examined
    rules: dict[str, Any]  # each rule with its parameters, and the feature network
    considered: dict[str, int]  # images examined, by label
    images: list[Dropped]

    def counts(self) -> dict[str, int]:
        """Return the number of excluded images of each label."""
        labels = [image.label for image in self.images]
        return {label: labels.count(label) for label in self.considered}


@dataclass(frozen=True, slots=True, kw_only=True)
class DropList:
    """A drop list read from a file."""

    drops: Drops
    sha256: str  # of the file; snapshots record the list they were trained with

    @property
    def images(self) -> frozenset[str]:
        """Return the SHA-256 of every excluded image."""
        return frozenset(image.sha256 for image in self.drops.images)


def write_drops(path: Path, drops: Drops) -> DropList:
    """Write a drop list atomically and return it as read back."""
    files.write_text(path, drops.model_dump_json(indent=1) + "\n")
    return read_drops(path)


def read_drops(path: Path) -> DropList:
    """Read a drop list from a file.

    Raises:
        DataError: the file is missing or not a drop list.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. {_CURE}")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} is too large for a drop list ({MAX_BYTES} bytes). {_CURE}")
    try:
        drops = Drops.model_validate_json(path.read_bytes())
    except (ValidationError, RecursionError) as error:
        raise DataError(f"{path} is not a drop list ({_reason(error)}). {_CURE}") from None
    return DropList(drops=drops, sha256=files.sha256_of(path))


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nesting is too deep"
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
