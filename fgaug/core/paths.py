"""Where every file of a dataset, a bank and a run lies; files are written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fgaug.core.files import atomic_write
from fgaug.errors import UserError


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
        with atomic_write(record_of(copy)) as temporary:
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
    inside = Path(__file__).parents[1] / "_shipped" / kind
    if inside.is_dir():
        return inside
    clone = Path(__file__).parents[2]
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
