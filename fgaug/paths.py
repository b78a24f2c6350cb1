"""Where every file of a dataset, a bank and a run lies; files are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgaug.errors import DiskFullError, UserError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class DatasetPaths:
    """Files of a prepared dataset; `manifest` exists only after a clean end."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "dataset.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def copies(self) -> Path:
        """What was done about images that look alike; only where a rule was given."""
        return self.root / "copies.csv"

    def pixels(self, part: int) -> Path:
        return self.root / "pixels" / f"part-{part:05d}.parquet"


TRAINED_ON = ".trained_on.parquet"  # the record of which images and patients a network has seen


def record_of(network: Path) -> Path:
    """Return where the record of a network's training images lies: beside its file."""
    return network.with_suffix(TRAINED_ON)


def carry_record(network: Path, copy: Path) -> None:
    """Copy a network's record, where it has one, to beside a copy of the network."""
    if record_of(network).is_file():
        with whole(record_of(copy)) as temporary:
            shutil.copyfile(record_of(network), temporary)


class BankNames:
    """Names of a bank's files below its folder or its prefix; `manifest` is written last."""

    spec = "bank.json"
    index = "index.parquet"
    manifest = "manifest.json"
    lock = "bank.lock"
    shards = "shards"
    scores = "scores"
    quality = "quality"

    @staticmethod
    def of_fakes(label: str, psi: float) -> str:
        exact = repr(float(psi)).removesuffix(".0")  # `:g` would give near psis one folder
        return f"{label}/psi_{exact}"

    @classmethod
    def shard(cls, label: str, psi: float, first: int, last: int) -> str:
        return f"{cls.shards}/{cls.of_fakes(label, psi)}/{first}-{last}.parquet"

    @classmethod
    def scored(cls, scorer: str, label: str, psi: float) -> str:
        """Return the folder of one scorer's shards."""
        return f"{cls.scores}/{scorer}/{cls.of_fakes(label, psi)}"

    @staticmethod
    def snapshot(sha256: str) -> str:
        return f"snapshots/{sha256[:12]}.safetensors"

    @staticmethod
    def trained_on(sha256: str) -> str:
        return f"snapshots/{sha256[:12]}{TRAINED_ON}"


@dataclass(frozen=True, slots=True)
class TrialPaths:
    """Files of one cell; `result` is written last, so a cell with a result is finished."""

    root: Path

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def traceback(self) -> Path:
        """The traceback of an unexpected error; until the cell is tried again."""
        return self.root / "traceback.txt"

    @property
    def curve(self) -> Path:
        return self.root / "curve.parquet"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.parquet"

    @property
    def sealed(self) -> Path:
        return self.root / "sealed.parquet"

    @property
    def model(self) -> Path:
        """The best weights, where the grid keeps models."""
        return self.root / "model.safetensors"

    @property
    def model_card(self) -> Path:
        return self.root / "model.json"

    @property
    def paused(self) -> Path:
        """The row so far of a cell that waits at a rung."""
        return self.root / "paused.json"

    @property
    def checkpoint(self) -> Path:
        """What the rest of the training depends on; only while unfinished or pruned."""
        return self.root / "checkpoint"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Files of one search."""

    root: Path

    @property
    def space(self) -> Path:
        return self.root / "space.resolved.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def plan(self) -> Path:
        """What the grid set out to show when its first trial started."""
        return self.root / "plan.json"

    @property
    def looks(self) -> Path:
        """Each look at the sealed test set: when, at which arms, what for."""
        return self.root / "looks.json"

    @property
    def stages(self) -> Path:
        """The second stages: which arms, on which fresh seeds, what was found."""
        return self.root / "confirmation.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    def trial(self, cell_id: str) -> TrialPaths:
        return TrialPaths(self.trials / cell_id)

    @property
    def lock(self) -> Path:
        return self.root / "search.lock"

    def stop(self, search: str) -> Path:
        """There while a search that was interrupted waits for what trains."""
        return self.root / f".stop-{search}"

    @property
    def results(self) -> Path:
        return self.root / "results.parquet"

    @property
    def tensorboard(self) -> Path:
        """A folder of events for each cell, where the grid asks for them."""
        return self.root / "tensorboard"

    @property
    def mlflow(self) -> Path:
        """MLflow's store of files, where the grid asks for it and the user names no server."""
        return self.root / "mlflow"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"


def shipped(kind: str) -> Path:
    """Return the folder of files that ship with the package: `search_spaces` or `published`."""
    inside = Path(__file__).parent / "_shipped" / kind
    if inside.is_dir():
        return inside
    clone = Path(__file__).parent.parent
    return clone / ("reports/published" if kind == "published" else kind)


def without_secrets(uri: str) -> str:
    """Return a path or URI without the key and secret of `s3://key:secret@bucket/...`."""
    return re.sub(r"^([^:/?#]+://)[^/?#]*@", r"\1", uri)


def cache_root() -> Path:
    """Return this machine's folder for decoded pixels (`FGAUG_CACHE`, else the user's cache)."""
    chosen = os.environ.get("FGAUG_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "fgaug"


def usable_cache() -> Path:
    """Return `cache_root`, made if need be, or say that it cannot be a folder."""
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{root} cannot hold decoded pixels ({error.strerror}). "
            "Set FGAUG_CACHE to a folder that can be written."
        ) from None
    return root


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk met while writing `path` into one clear message."""
    try:
        yield
    except OSError as error:
        if error.errno in DiskFullError.ERRNOS:
            raise DiskFullError(
                f"No space left while writing {path}. What was finished before is valid; "
                "free some space and run the same command again."
            ) from error
        raise


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; flush and rename it on a clean end, else remove it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path, error: type[UserError]) -> Any:
    """Return the JSON value in `path`, or raise `error` with the path and the cure."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing.") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read as JSON ({problem}). Restore or remove it.") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet table to `path`, whole or not at all."""
    import pyarrow.parquet as pq  # late: `fgaug status` knows paths but reads no table

    with whole(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path, error: type[UserError], columns: list[str] | None = None) -> pa.Table:
    """Return the Parquet table in `path`, or raise `error` with the path and the cure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise error(f"{path} is missing.") from None
    except (OSError, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0]
        raise error(
            f"{path} is not a whole Parquet file ({reason}). Restore it, or make it anew."
        ) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
