"""The folder of a training: options, snapshots, sheets, log and resumable state."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fgaug.core import files
from fgaug.errors import SnapshotError, UserError
from gan_worker.files.snapshot import Snapshot
from gan_worker.training.options import TrainingOptions

KIND = "fgaug"  # kind of the snapshots
# options that may change on resuming: length and snapshot interval
_FREE = ("kimg", "snapshot_kimg")


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The paths in the folder of one network's training."""

    root: Path

    @property
    def options(self) -> Path:
        return self.root / "options.json"

    @property
    def state(self) -> Path:
        return self.root / "state.safetensors"

    @property
    def log(self) -> Path:
        return self.root / "progress.jsonl"

    @property
    def events(self) -> Path:
        return self.root / "tensorboard"

    @property
    def reals(self) -> Path:
        return self.root / "reals.png"

    def snapshot(self, kimg: int) -> Path:
        return self.root / f"network-{kimg:06d}.safetensors"

    def sheet(self, kimg: int) -> Path:
        return self.root / f"sheet-{kimg:06d}.png"

    def snapshots(self) -> list[Path]:
        """Return the snapshots so far, oldest first."""
        return sorted(self.root.glob("network-*.safetensors"))


def write_options(
    folder: TrainingFolder, options: TrainingOptions, facts: Mapping[str, Any]
) -> None:
    """Write all options and facts of a training before it starts."""
    value = {"options": dataclasses.asdict(options), **facts}
    files.write_json(folder.options, value)


def check_same(folder: TrainingFolder, options: TrainingOptions, facts: Mapping[str, Any]) -> None:
    """Refuse to resume in the folder of another training.

    Raises:
        UserError: names every option and fact that differs.
    """
    kept = files.read_json(folder.options, SnapshotError)
    before = {**kept.pop("options", {}), **kept}
    now = json.loads(json.dumps({**dataclasses.asdict(options), **facts}))
    told = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if name not in _FREE and before.get(name) != now.get(name)
    ]
    if told:
        raise UserError(
            f"{folder.root} contains another training: {'; '.join(told)}. Give the same options "
            "to resume it, or another --out."
        )


def save_state(folder: TrainingFolder, tensors: Mapping[str, Tensor], iteration: int) -> None:
    """Write the state for resuming a training, atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"iteration": str(iteration), "digest": _digest(on_cpu)}
    with files.atomic_write(folder.state) as temporary:
        safetensors.torch.save_file(on_cpu, temporary, metadata=metadata)


def load_state(folder: TrainingFolder) -> tuple[dict[str, Tensor], int]:
    """Return a saved state and its number of iterations.

    Raises:
        SnapshotError: the file is truncated or not a saved state.
    """
    try:
        with safetensors.safe_open(folder.state, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())  # it is not a dictionary
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, safetensors.SafetensorError) as error:
        raise _torn(folder, str(error)) from None
    if metadata.get("digest") != _digest(tensors) or not metadata.get("iteration", "").isdigit():
        raise _torn(folder, "its contents do not match its digest")
    return tensors, int(metadata["iteration"])


def _torn(folder: TrainingFolder, why: str) -> SnapshotError:
    return SnapshotError(
        f"{folder.state} cannot be resumed ({why}). Train again with another --out, optionally "
        "from the last snapshot with --from."
    )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def snapshot_of(options: TrainingOptions, state: Mapping[str, Tensor]) -> Snapshot:
    """Return the averaged generator as a snapshot, identified by the digest of its future file."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}
    return Snapshot(sha256="", kind=KIND, config=options.generator(), tensors=tensors, source="")


def append(folder: TrainingFolder, entry: Mapping[str, Any]) -> None:
    """Append a line to the log."""
    with folder.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(entry)) + "\n")


def entries(folder: TrainingFolder, until: float) -> Iterator[dict[str, Any]]:
    """Yield the log up to `until` kimg, without later lines of a killed process."""
    if not folder.log.is_file():
        return
    for line in folder.log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the truncated last line of a killed process
            continue
        if entry.get("kimg", 0) <= until:
            yield entry
