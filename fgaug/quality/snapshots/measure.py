"""Snapshots measured against the images they learned from.

commands -> [quality] -> gan_worker, fgaug.quality -> metrics.json, metrics.csv
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgaug.core import files, paths
from fgaug.core.progress import Advance
from fgaug.core.version import __version__
from fgaug.errors import SnapshotError, UserError
from fgaug.quality.snapshots import table
from fgaug.quality.snapshots.table import METRICS_VERSION, Row

if TYPE_CHECKING:
    from fgaug.data import Dataset
    from fgaug.quality.features.networks import FeatureNetwork
    from fgaug.quality.floors import Floor
    from gan_worker.files.snapshot import Snapshot
    from gan_worker.training.images import TrainingImages

PSI, K, CUTS = 1.0, 3, 10  # no truncation; neighbour of precision and recall; cuts of the floor
_STEP = 256  # images made at a time; only their features are kept
_PATTERNS = ("network-*.safetensors", "network-*.pkl")  # ours, and the official programs'


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """How snapshots are measured."""

    dataset: Path
    label: str
    images: int = 5000  # fakes: z_seeds 1 to this
    features: str = "lite0"  # see `fgaug.quality.features.networks.load_network`
    noise: str = "seeded"  # each image has its own, as in the official programs' metrics
    split: int | str = "dataset"  # whose training images: as prepared, or the seed of a draw
    drop: Path | None = None  # a drop list: the images that the networks did not learn from
    class_index: int | None = None  # of a conditional network; from its record where None
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reals:
    """What every snapshot is measured against."""

    features: NDArray[np.float32]
    floor: Floor
    size_px: int
    channels: int


def snapshots_of(given: Sequence[Path]) -> list[Path]:
    """Return network files: those named, and the snapshots in folders of trainings.

    Raises:
        SnapshotError: there is nothing; names every such place.
    """
    found: list[Path] = []
    problems = []
    for path in given:
        inside = sorted(each for pattern in _PATTERNS for each in path.glob(pattern))
        if path.is_file():
            found.append(path)
        elif inside:
            found.extend(inside)
        elif path.is_dir():
            problems.append(f"{path} has no {' or '.join(_PATTERNS)}")
        else:
            problems.append(f"{path} does not exist")
    if problems:
        raise SnapshotError(f"{'; '.join(problems)}. Give network files, or folders with some.")
    return list(dict.fromkeys(found))


def measure_snapshots(
    given: Sequence[Path], how: SnapshotOptions, progress: Advance = lambda done, wanted: None
) -> list[Row]:
    """Return a row for each snapshot, kept in the table beside it: `fgaug gan metrics`.

    FID, KID, precision and recall of fakes without truncation against all training images of the
    label (with gan flag, where any image has one), and the same of reals against reals. What the
    table has already, of the same file and measured in the same way, is not measured again; a new
    row is written as soon as it is known.

    Raises:
        SnapshotError: files that are refused, a class that is missing or not the network's.
        DataError: a dataset or a label that cannot be used.
        UserError: a feature network that cannot be used, too few images.
    """
    from fgaug.core.devices import usable_device
    from fgaug.data import open_dataset
    from fgaug.data.drop_list import read_drops
    from fgaug.quality.features.networks import load_network
    from gan_worker.files.snapshot import read_snapshot
    from gan_worker.training.images import training_images

    if how.images <= K:
        raise UserError(f"--images must be above {K}, got {how.images}. The default is 5000.")
    usable_device(how.device)
    files = snapshots_of(given)
    dropped = read_drops(how.drop).images if how.drop else ()
    dataset = open_dataset(how.dataset).with_split(how.split)
    images = training_images(dataset, [how.label], drop=dropped)
    network = load_network(how.features, how.device)
    heads = [_head(file, read_snapshot(file), how, images, network) for file in files]
    known = [_known(file, head) for file, head in zip(files, heads, strict=True)]
    if all(known):
        return [row for row in known if row is not None]
    wanted = len(images) + how.images * sum(row is None for row in known)
    done = len(images)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, wanted)

    reals = _reals(dataset, images, network, how.images, lambda count: progress(count, wanted))
    rows = []
    for file, head, row in zip(files, heads, known, strict=True):
        if row is None:
            row = {**head, **_measured(file, head["class"], how, network, reals, advance)}
            table.add_row(file.parent, row)
        rows.append(row)
    return rows


def _head(
    file: Path,
    snapshot: Snapshot,
    how: SnapshotOptions,
    images: TrainingImages,
    network: FeatureNetwork,
) -> Row:
    """Return the part of a row that says of what, and how, its numbers are."""
    kimg = re.search(r"(\d+)$", file.stem)
    return {
        "snapshot": file.name,
        "kimg": int(kimg[1]) if kimg else None,
        "sha256": snapshot.sha256,
        "label": how.label,
        "class": _class_of(file, snapshot, how),
        "dataset": str(how.dataset),
        "dataset_digest": images.dataset_digest,
        "n_real": len(images),
        "n_dropped": images.dropped,
        "n_fake": how.images,
        "psi": PSI,
        "noise": how.noise,
        "features": network.label,
        "features_described": network.description,
        "k": K,
        "metrics_version": METRICS_VERSION,
    }


def _class_of(file: Path, snapshot: Snapshot, how: SnapshotOptions) -> int | None:
    """Return the class that makes a label's images; None of a network without classes."""
    count, asked = snapshot.labels, how.class_index
    if asked is not None and not 0 <= asked < count:
        classes = f"classes 0 to {count - 1}" if count else "no classes"
        raise SnapshotError(f"{file} has {classes}, --class asks for {asked}.")
    if not count or asked is not None:
        return asked
    record = paths.record_of(file)
    if record.is_file():
        seen = files.read_table(record, SnapshotError)
        labels = sorted(set(seen["label"].to_pylist())) if "label" in seen.column_names else []
        if len(labels) == count and how.label in labels:  # in this order they were trained
            return labels.index(how.label)
    raise SnapshotError(
        f"{file} has {count} classes and no record of training that tells which of them is "
        f"{how.label}. Say it by --class 0 to --class {count - 1}."
    )


def _known(file: Path, head: Row) -> Row | None:
    """Return the row that the table has of this very file, measured in this very way."""
    same = [
        row
        for row in table.read_rows(file.parent)
        if table.key_of(row) == table.key_of(head) and row["sha256"] == head["sha256"]
    ]
    return same[0] if same else None


def _reals(
    dataset: Dataset,
    images: TrainingImages,
    network: FeatureNetwork,
    n_fake: int,
    done: Callable[[int], None],
) -> _Reals:
    """Return the features of the training images and what reals score against reals."""
    from fgaug.quality.features.cache import features_of, of_dataset
    from fgaug.quality.floors import real_floor

    found = features_of(of_dataset(dataset, images.rows), network, done)
    floor = real_floor(found, n_fake, groups=images.table["group"], cuts=CUTS, k=K)
    return _Reals(features=found, floor=floor, size_px=images.size_px, channels=images.channels)


def _measured(
    file: Path,
    class_index: int | None,
    how: SnapshotOptions,
    network: FeatureNetwork,
    reals: _Reals,
    advance: Callable[[int], None],
) -> Row:
    """Return the numbers of one snapshot."""
    from fgaug.quality.floors import beside_floor, measures_of
    from fgaug.quality.kernel import kid_subsets

    started = time.monotonic()
    fakes = _features_of_fakes(file, class_index, how, network, reals, advance)
    subsets = kid_subsets(reals.features, fakes)
    return {
        **measures_of(reals.features, fakes, K),
        "kid_subsets_mean": subsets.mean,
        "kid_subsets_sd": subsets.sd,
        "kid_subset_size": subsets.size,
        **beside_floor(reals.floor, reals.features, fakes),
        "device": how.device,
        "version": __version__,
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - started, 1),
    }


def _features_of_fakes(
    file: Path,
    class_index: int | None,
    how: SnapshotOptions,
    network: FeatureNetwork,
    reals: _Reals,
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return the features of z_seeds 1 to `images`, in the reals' size and channels."""
    import gan_worker
    from fgaug.bank.resize import fit_to_bank

    generator = gan_worker.load_generator(file, noise_mode=how.noise, device=how.device)
    found = []
    for first in range(1, how.images + 1, _STEP):
        z_seeds = range(first, min(first + _STEP, how.images + 1))
        images = generator.generate(z_seeds, PSI, class_index)
        found.append(network.features(fit_to_bank(images, reals.size_px, reals.channels)))
        advance(len(z_seeds))
    return np.concatenate(found)
