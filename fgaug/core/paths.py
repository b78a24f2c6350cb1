"""The paths of all files of datasets, banks and runs."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from fgaug.core.files import atomic_write
from fgaug.errors import UserError


@dataclass(frozen=True, slots=True)
class DatasetPaths:
    """Files of a prepared dataset; `manifest` exists only if preparation finished."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "dataset.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def copies(self) -> Path:
        """The action taken on each near-duplicate pair; exists only if a rule was given."""
        return self.root / "copies.csv"

    @property
    def unlabelled(self) -> Path:
        """A dataset of its own: the images without a label, if there are any."""
        return self.root / "unlabelled"

    def pixels(self, part: int) -> Path:
        return self.root / "pixels" / f"part-{part:05d}.parquet"


TRAINED_ON = ".trained_on.parquet"  # records the images and patients a network was trained on


def record_of(network: Path) -> Path:
    """Return the path of the record of a network's training images, beside its file."""
    return network.with_suffix(TRAINED_ON)


def carry_record(network: Path, copy: Path) -> None:
    """Copy a network's record, if it has one, beside a copy of the network."""
    if record_of(network).is_file():
        with atomic_write(record_of(copy)) as temporary:
            shutil.copyfile(record_of(network), temporary)


class BankNames:
    """Names of a bank's files relative to its folder or prefix; `manifest` is written last."""

    spec = "bank.json"
    index = "index.parquet"
    manifest = "manifest.json"
    lock = "bank.lock"
    shards = "shards"
    scores = "scores"
    quality = "quality"

    @staticmethod
    def of_fakes(label: str, psi: float) -> str:
        exact = repr(float(psi)).removesuffix(".0")  # `:g` would merge the folders of close psis
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
        """The traceback of an unexpected error; removed when the cell is retried."""
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
        """The best weights, if the grid keeps models."""
        return self.root / "model.safetensors"

    @property
    def model_card(self) -> Path:
        return self.root / "model.json"

    @property
    def paused(self) -> Path:
        """The current row of a cell that is paused at a rung."""
        return self.root / "paused.json"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint for resuming; exists only while unfinished or pruned."""
        return self.root / "checkpoint"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Files of one search, in its folder or in this machine's mirror of its URI."""

    root: Path
    # with its secrets; None for a folder
    uri: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The run's location for messages."""
        return str(self.root) if self.uri is None else shown_uri(self.uri)

    @property
    def name(self) -> str:
        """The last part of the run's location."""
        return Path(self.place.rstrip("/")).resolve().name

    @property
    def space(self) -> Path:
        return self.root / "space.resolved.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def plan(self) -> Path:
        """The analysis plan, frozen when the first trial starts."""
        return self.root / "plan.json"

    @property
    def precision(self) -> Path:
        """What `precision: auto` stands for in this run."""
        return self.root / "precision.json"

    @property
    def looks(self) -> Path:
        """Every look at the sealed test set: time, arms and purpose."""
        return self.root / "looks.json"

    @property
    def stages(self) -> Path:
        """The second stages: arms, fresh seeds and results."""
        return self.root / "confirmation.json"

    @property
    def trials(self) -> Path:
        return self.root / "trials"

    def trial(self, cell_id: str) -> TrialPaths:
        return TrialPaths(self.trials / cell_id)

    @property
    def lock(self) -> Path:
        return self.root / "search.lock"

    def shard_lock(self, part: str) -> Path:
        """The lock of one shard, such as `3-of-16`."""
        return self.lock.with_name(f"search.{part}.lock")

    def stop(self, search: str) -> Path:
        """Exists while an interrupted search waits for running trials."""
        return self.root / f".stop-{search}"

    @property
    def results(self) -> Path:
        return self.root / "results.parquet"

    @property
    def row_cache(self) -> Path:
        """The rows of all trials in one file; see `fgaug.runs.row_cache`."""
        return self.root / ".rows.cache"

    @property
    def tensorboard(self) -> Path:
        """A folder of events per cell, if the grid requests them."""
        return self.root / "tensorboard"

    @property
    def mlflow(self) -> Path:
        """MLflow's file store, if the grid requests MLflow and no server is given."""
        return self.root / "mlflow"

    @property
    def wandb(self) -> Path:
        """W&B's offline runs, if the grid requests them."""
        return self.root / "wandb"

    @property
    def report(self) -> Path:
        return self.root / "report" / "index.html"


def shipped(kind: str) -> Path:
    """Return a folder of files shipped with the package: `search_spaces` or `published`."""
    inside = Path(__file__).parents[1] / "_shipped" / kind
    if inside.is_dir():
        return inside
    clone = Path(__file__).parents[2]
    return clone / ("reports/published" if kind == "published" else kind)


def without_secrets(uri: str) -> str:
    """Return a path or URI, without the credentials in `s3://key:secret@bucket/...`."""
    return re.sub(r"^([^:/?#]+://)[^/?#]*@", r"\1", uri)


def shown_uri(uri: str) -> str:
    """Return a URI for messages: without credentials and without its options."""
    return without_secrets(uri).partition("?")[0]


def within(place: str, name: str) -> str:
    """Return the place of a file or folder below a folder or URI, whose options stay behind."""
    where, mark, options = _parts(place)
    return f"{where.rstrip('/')}/{name}{mark}{options}"


def parent(place: str) -> str:
    """Return the folder that a folder or URI lies in, with the URI's options."""
    where, mark, options = _parts(place)
    return f"{where.rstrip('/').rpartition('/')[0]}{mark}{options}"


def name_of(place: str) -> str:
    """Return the last part of a path or URI, without the URI's options."""
    return _parts(place)[0].rstrip("/").rpartition("/")[2]


def _parts(place: str) -> tuple[str, str, str]:
    return place.partition("?") if "://" in place else (place, "", "")


def cache_root() -> Path:
    """Return the folder of this machine's cache (`FGAUG_CACHE`, else the user's cache)."""
    chosen = os.environ.get("FGAUG_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "fgaug"


def usable_cache() -> Path:
    """Return `cache_root`, created if missing; raise if that is impossible."""
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{root} cannot be used as the cache of {platform.node()} ({error.strerror}). Set "
            "FGAUG_CACHE to a writable folder."
        ) from None
    return root
