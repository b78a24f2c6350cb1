"""Measuring snapshots against their training images.

Results are stored in `metrics.json` and `metrics.csv` beside the snapshots.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    from fgaug.quality.features.pair import NetworkPair
    from fgaug.quality.floors import Floor, Measures
    from gan_worker.files.snapshot import Snapshot
    from gan_worker.training.images import TrainingImages

PSI, K, CUTS = 1.0, 3, 10  # no truncation; neighbours of precision and recall; floor cuts
_STEP = 256  # images generated at a time; only their features are kept
_PATTERNS = ("network-*.safetensors", "network-*.pkl")  # ours, and the official programs'


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """Options for measuring snapshots."""

    dataset: str | Path  # a folder or URI
    label: str
    images: int = 5000  # fakes: z_seeds 1 to this
    features: str = "lite0"  # see `fgaug.quality.features.networks.load_network`
    pr_features: str | None = None  # of precision and recall, if another
    noise: str = "seeded"  # separate noise per image, as in the official metrics
    split: int | str = "dataset"  # of the training images: as prepared, or the seed of a draw
    drop: Path | None = None  # drop list of images on which the networks were not trained
    class_index: int | None = None  # of a conditional network; by default from its record
    device: str = "cpu"


ByNetwork = dict[str, NDArray[np.float32]]  # features by the label of their network


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reals:
    """The reference for all snapshots."""

    features: ByNetwork
    floors: dict[str, Floor]  # by the label of their network
    size_px: int
    channels: int


def snapshots_of(given: Sequence[Path]) -> list[Path]:
    """Return network files: those given, and the snapshots in given folders.

    Raises:
        SnapshotError: a path has none; names all such paths.
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
        raise SnapshotError(
            f"{'; '.join(problems)}. Give network files, or folders that contain some."
        )
    return list(dict.fromkeys(found))


def measure_snapshots(
    given: Sequence[Path], how: SnapshotOptions, progress: Advance = lambda done, wanted: None
) -> list[Row]:
    """Return one row per snapshot, stored in the table beside it: `fgaug gan metrics`.

    FID, KID, precision and recall of fakes without truncation against all training images of the
    label (only those with the gan flag, if any image has one), and of reals against reals. Rows
    that exist for the same file and settings are reused; a new row is written as soon as it is
    known.

    Raises:
        SnapshotError: a file is refused, or a class is missing or not the network's.
        DataError: the dataset or the label cannot be used.
        UserError: the feature network cannot be used, or there are too few images.
    """
    from fgaug.core.devices import usable_device
    from fgaug.data import open_dataset
    from fgaug.data.drop_list import read_drops
    from fgaug.quality.features.pair import load_pair
    from gan_worker.files.snapshot import read_snapshot
    from gan_worker.training.images import training_images

    if how.images <= K:
        raise UserError(f"--images must be above {K}, got {how.images}. The default is 5000.")
    usable_device(how.device)
    files = snapshots_of(given)
    dropped = read_drops(how.drop).images if how.drop else ()
    dataset = open_dataset(how.dataset).with_split(how.split)
    images = training_images(dataset, [how.label], drop=dropped)
    pair = load_pair(how.features, how.pr_features, how.device)
    heads = [_head(file, read_snapshot(file), how, images, pair) for file in files]
    known = [_known(file, head) for file, head in zip(files, heads, strict=True)]
    if all(known):
        return [row for row in known if row is not None]
    todo = how.images * sum(row is None for row in known)
    wanted = len(pair.distinct) * (len(images) + todo)
    done = len(pair.distinct) * len(images)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, wanted)

    reals = _reals(dataset, images, pair, how.images, lambda count: progress(count, wanted))
    rows = []
    for file, head, row in zip(files, heads, known, strict=True):
        if row is None:
            row = {**head, **_measured(file, head["class"], how, pair, reals, advance)}
            table.add_row(file.parent, row)
        rows.append(row)
    return rows


def _head(
    file: Path,
    snapshot: Snapshot,
    how: SnapshotOptions,
    images: TrainingImages,
    pair: NetworkPair,
) -> Row:
    """Return the columns of a row that identify the snapshot and the settings."""
    kimg = re.search(r"(\d+)$", file.stem)
    return {
        "snapshot": file.name,
        "kimg": int(kimg[1]) if kimg else None,
        "sha256": snapshot.sha256,
        "label": how.label,
        "class": _class_of(file, snapshot, how),
        "dataset": paths.without_secrets(str(how.dataset)),
        "dataset_digest": images.dataset_digest,
        "n_real": len(images),
        "n_dropped": images.dropped,
        "n_fake": how.images,
        "psi": PSI,
        "noise": how.noise,
        **pair.columns(),
        "k": K,
        "metrics_version": METRICS_VERSION,
    }


def _class_of(file: Path, snapshot: Snapshot, how: SnapshotOptions) -> int | None:
    """Return the class that generates a label's images; None for a network without classes."""
    count, asked = snapshot.labels, how.class_index
    if asked is not None and not 0 <= asked < count:
        classes = f"classes 0 to {count - 1}" if count else "no classes"
        raise SnapshotError(f"{file} has {classes}, but --class is {asked}.")
    if not count or asked is not None:
        return asked
    record = paths.record_of(file)
    if record.is_file():
        seen = files.read_table(record, SnapshotError)
        labels = sorted(set(seen["label"].to_pylist())) if "label" in seen.column_names else []
        if len(labels) == count and how.label in labels:  # in this order they were trained
            return labels.index(how.label)
    raise SnapshotError(
        f"{file} has {count} classes, and no training record says which of them is {how.label}. "
        f"Give --class 0 to --class {count - 1}."
    )


def _known(file: Path, head: Row) -> Row | None:
    """Return the existing row of the same file with the same settings."""
    same = [
        row
        for row in table.read_rows(file.parent)
        if table.key_of(row) == table.key_of(head) and row["sha256"] == head["sha256"]
    ]
    return same[0] if same else None


def _reals(
    dataset: Dataset,
    images: TrainingImages,
    pair: NetworkPair,
    n_fake: int,
    done: Callable[[int], None],
) -> _Reals:
    """Return the features of the training images and the scores of reals against reals."""
    from fgaug.quality.features.cache import features_of, of_dataset
    from fgaug.quality.floors import real_floor

    real = of_dataset(dataset, images.rows)
    found: ByNetwork = {}
    for network in pair.distinct:
        found[network.label] = features_of(real, network, _after(done, len(found) * len(images)))
    floors = {
        label: real_floor(
            found[label], n_fake, groups=images.table["group"], cuts=CUTS, k=K, measuring=measuring
        )
        for label, measuring in _measures_by_network(pair).items()
    }
    return _Reals(features=found, floors=floors, size_px=images.size_px, channels=images.channels)


def _after(done: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda count: done(before + count)


def _measures_by_network(pair: NetworkPair) -> dict[str, Measures]:
    """Return the function that measures with the features of each network, by its label."""
    from fgaug.quality.floors import distances_of, measures_of, neighbours_of

    if pair.one:
        return {pair.distance.label: partial(measures_of, k=K)}
    return {
        pair.distance.label: distances_of,
        pair.neighbour.label: partial(neighbours_of, k=K),
    }


def _measured(
    file: Path,
    class_index: int | None,
    how: SnapshotOptions,
    pair: NetworkPair,
    reals: _Reals,
    advance: Callable[[int], None],
) -> Row:
    """Return the measures of one snapshot."""
    from fgaug.quality.arrays import checked_pair
    from fgaug.quality.floors import beside_floors
    from fgaug.quality.kernel import kid_subsets

    started = time.monotonic()
    fakes = _features_of_fakes(file, class_index, how, pair, reals, advance)
    subsets = kid_subsets(reals.features[pair.distance.label], fakes[pair.distance.label])
    measured: Row = {}
    for label, floor in reals.floors.items():
        measured |= floor.measuring(
            *checked_pair(reals.features[label], fakes[label], ("real", "fake"), K + 1)
        )
    floors = [(f, reals.features[label], fakes[label]) for label, f in reals.floors.items()]
    return {
        **measured,
        "kid_subsets_mean": subsets.mean,
        "kid_subsets_sd": subsets.sd,
        "kid_subset_size": subsets.size,
        **beside_floors(floors),
        "device": how.device,
        "version": __version__,
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - started, 1),
    }


def _features_of_fakes(
    file: Path,
    class_index: int | None,
    how: SnapshotOptions,
    pair: NetworkPair,
    reals: _Reals,
    advance: Callable[[int], None],
) -> ByNetwork:
    """Return the features of z_seeds 1 to `images`, in the reals' size and channels."""
    import gan_worker
    from fgaug.bank.resize import fit_to_bank

    generator = gan_worker.load_generator(file, noise_mode=how.noise, device=how.device)
    found: dict[str, list[NDArray[np.float32]]] = {each.label: [] for each in pair.distinct}
    for first in range(1, how.images + 1, _STEP):
        z_seeds = range(first, min(first + _STEP, how.images + 1))
        images = generator.generate(z_seeds, PSI, class_index)
        fitted = fit_to_bank(images, reals.size_px, reals.channels)
        for network in pair.distinct:
            found[network.label].append(network.features(fitted))
            advance(len(z_seeds))
    return {label: np.concatenate(parts) for label, parts in found.items()}
