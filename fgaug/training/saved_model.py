"""Save and load trained classifiers: a safetensors file and a small card.

The card describes the tensors and contains their SHA-256, so the two files cannot be mixed up.
Loading never runs code from either file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fgaug.core import files, write_through
from fgaug.core.node_cache import local_file
from fgaug.core.paths import TrialPaths
from fgaug.core.store import is_uri
from fgaug.errors import UserError

if TYPE_CHECKING:
    from fgaug.data import DatasetSpec

SUFFIX = ".safetensors"
MAX_CARD_BYTES = 1 << 20
_DTYPES = (np.dtype("float32"), np.dtype("int64"))  # weights; counters of norm layers
_DAMAGED = "Give the model.safetensors of a trial with its model.json beside it."
Label = Annotated[str, Field(min_length=1, max_length=100)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Card(BaseModel):
    """The metadata of a model: the meaning and origin of its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    labels: Annotated[list[Label], Field(min_length=2, max_length=10_000)]  # in output order
    size: Annotated[int, Field(ge=8, le=2048)]  # px; images are squashed to squares
    channels: Literal[1, 3]
    resize_filter: Literal["lanczos"]
    crop_margin: Number | None  # margin of the boxes that images were cropped to
    # of the model's inputs, which are pixels / 255; also part of the tensors. Keras models scale
    # inputs as their recipe says, and have 0 and 1 here
    mean: Annotated[list[Number], Field(min_length=3, max_length=3)]
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    recipe: dict[str, Any]  # weights by identity, not by path
    cell: str  # in words
    cell_id: Digest
    dataset_digest: Digest
    # whose training set was used: the prepared split, the seed of a redrawn one, or `fold-3`
    split: (
        Annotated[str, Field(pattern=r"^(dataset|fold-\d{1,4})$")] | Annotated[int, Field(ge=0)]
    ) = "dataset"
    recipe_digest: Digest
    metrics: dict[str, Number | None]  # of the validation set, None where undefined
    version: str  # of fgaug
    sha256: Digest  # of the tensor file

    @model_validator(mode="after")
    def _usable_labels(self) -> Self:
        if not all(label.isprintable() for label in self.labels):
            raise ValueError("a label has unprintable characters")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have the same name")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """A trained classifier in memory: the bytes of its tensor file, and its card."""

    card: Card
    data: bytes

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the tensors by name.

        Raises:
            UserError: the bytes are not a safetensors file of finite float32 and int64 values.
        """
        from safetensors.numpy import load

        try:
            found = dict(load(self.data))
        except Exception as error:  # the library documents no set of errors for hostile bytes
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"The model is not a valid safetensors file ({reason}).") from None
        for name, value in found.items():
            if value.dtype not in _DTYPES:
                raise UserError(
                    f"The model's {shown(name)} is {value.dtype}; only float32 and int64 are "
                    "supported."
                )
            if not np.isfinite(value).all():
                raise UserError(f"The model's {shown(name)} contains NaN or infinite values.")
        return found


def taken(
    state: Mapping[str, np.ndarray],
    spec: DatasetSpec,
    recipe: dict[str, Any],
    row: Mapping[str, Any],
    described: str,
    split: int | str = "dataset",
) -> SavedModel:
    """Return a trained classifier in its saved form.

    Args:
        state: the classifier's weights; see `Learner.weights`.
        spec: spec of the training dataset.
        recipe: recipe with the identity of its weights; see `cells.recipe_identity`.
        row: result row of its trial.
        described: its cell in words.
        split: split of that dataset.
    """
    from safetensors.numpy import save

    # row-major copies, as convolutions are stored channels-last in memory
    tensors = {name: np.array(value, order="C") for name, value in state.items()}
    data = save(tensors)
    card = Card(
        labels=list(spec.labels),
        size=spec.size,
        channels=1 if spec.channels == 1 else 3,
        resize_filter="lanczos",
        crop_margin=spec.crop["margin"] if spec.crop is not None else None,
        mean=tensors["mean"].ravel().tolist() if "mean" in tensors else [0.0] * 3,
        std=tensors["std"].ravel().tolist() if "std" in tensors else [1.0] * 3,
        recipe=json.loads(json.dumps(recipe)),
        cell=described,
        split=split,
        **{name: row[name] for name in ("cell_id", "dataset_digest", "recipe_digest", "version")},
        metrics={
            name: value if math.isfinite(value) else None
            for name, value in row.items()
            if name.startswith("valid_")
        },
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return SavedModel(card=card, data=data)


def write(trial: TrialPaths, model: SavedModel) -> None:
    """Write a model to its trial's folder, the card last."""
    with files.atomic_write(trial.model) as temporary:
        temporary.write_bytes(model.data)
    files.write_json(trial.model_card, model.card.model_dump())


def read(path: str | Path) -> SavedModel:
    """Read a model from a `.safetensors` file, given by path or URI, and its card.

    Raises:
        UserError: a file is missing or damaged, the two do not match, or the card has another
            version.
    """
    if is_uri(path):
        path = local_file(str(path), UserError, (".json",))
    path = write_through.fetched(Path(path))
    if path.suffix != SUFFIX or not path.is_file():
        what = "is not a file" if path.suffix == SUFFIX else f"is not a {SUFFIX} file"
        raise UserError(f"{path} {what}. {_DAMAGED}")
    beside = path.with_suffix(".json")
    if beside.is_file() and beside.stat().st_size > MAX_CARD_BYTES:
        raise UserError(f"{beside} is too large for a card ({MAX_CARD_BYTES} bytes). {_DAMAGED}")
    try:
        card = Card.model_validate(files.read_json(beside, UserError))
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{beside} is not a model's card: {_reason(error)}. {_DAMAGED}") from None
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise UserError(
            f"{beside} describes tensors with SHA-256 {card.sha256[:12]}, {path.name} has "
            f"{digest[:12]}. {_DAMAGED}"
        )
    return SavedModel(card=card, data=data)


def shown(text: str) -> str:
    """Return text of a file for messages: its start, without control characters."""
    return "".join(each if each.isprintable() else "?" for each in text[:100])


def keep_best(trials: Iterable[TrialPaths]) -> None:
    """Remove all models of an arm's finished trials except the best.

    The best has the highest valid_auc; ties are broken by the lowest valid_loss. Several processes
    may call this at once, each after writing its row: a model is removed only if a better one with
    a row is on disk, so the best is never removed, and the last caller sees all rows.

    Args:
        trials: the trials of one arm.
    """
    found = [(rank, trial) for trial in trials if (rank := _rank(trial)) is not None]
    for _, trial in sorted(found, key=lambda each: each[0])[1:]:
        files.remove(trial.model_card)
        files.remove(trial.model)


def _rank(trial: TrialPaths) -> tuple[float, float, str] | None:
    """Return a sort key for a finished trial's model, lowest best; None without one."""
    if not trial.model.is_file() or not trial.result.is_file():
        return None
    try:
        row = files.read_json(trial.result, UserError)["rows"][-1]
        if row["status"] != "ok":
            return None
        auc, loss = (row[name] for name in ("valid_auc", "valid_loss"))
    except (UserError, LookupError, TypeError):
        return None  # a trial with a damaged row is trained again, and writes its model again
    auc_or_worst = math.inf if auc is None else -float(auc)
    return auc_or_worst, math.inf if loss is None else float(loss), trial.root.name


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors()[0]
    where = shown(".".join(str(part) for part in first["loc"]))
    return f"`{where}`: {first['msg'].splitlines()[0]}" if where else first["msg"]
