"""Reads the file of an offline W&B run: records in blocks of 32 KB, like a LevelDB log."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as proto

BLOCK, HEADER = 32 * 1024, 7  # bytes; the file starts with as many of its own
LAST_PARTS = (1, 4)  # a record whole, or its last part


@dataclass
class OfflineRun:
    """One segment of a W&B run."""

    id: str = ""
    name: str = ""
    group: str = ""
    kind: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, set[str]] = field(default_factory=dict)  # names of files by artifact
    finished: bool = False


def runs_in(root: Path) -> list[OfflineRun]:
    """Return the segments of all offline runs below a run's folder, in the order they began."""
    return [_read(path) for path in sorted((root / "wandb").glob("offline-run-*/*.wandb"))]


def _read(path: Path) -> OfflineRun:
    run = OfflineRun()
    for raw in _records(path.read_bytes()):
        record = proto.Record.FromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            own = record.run
            run.id, run.name, run.group = own.run_id, own.display_name, own.run_group
            run.kind, run.project = own.job_type, own.project
            run.config |= {each.key: json.loads(each.value_json) for each in own.config.update}
        elif kind == "summary":
            run.summary |= {
                _key(each): json.loads(each.value_json) for each in record.summary.update
            }
        elif kind == "history":
            run.history.append({_key(i): json.loads(i.value_json) for i in record.history.item})
        elif kind == "artifact":
            names = {entry.path for entry in record.artifact.manifest.contents}
            run.artifacts[record.artifact.name] = names
        elif kind == "exit":
            run.finished = record.exit.exit_code == 0
    return run


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _records(raw: bytes) -> Iterator[bytes]:
    at, whole = HEADER, b""
    while at + HEADER <= len(raw):
        if BLOCK - at % BLOCK < HEADER:  # too little room for a header: padding
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, at)
        whole += raw[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in LAST_PARTS:
            yield whole
            whole = b""
