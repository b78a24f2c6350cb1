"""One of the measured snapshots chosen by a stated rule."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fgaug.core import files, paths
from fgaug.errors import SnapshotError
from fgaug.quality.snapshots import table
from fgaug.quality.snapshots.table import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedSnapshot:
    """What a rule chose, and of what."""

    rows: list[Row]  # all that compare, in the table's order
    row: Row
    words: str  # the rule
    file: Path  # the chosen snapshot, or its copy


def select_snapshot(
    folder: Path,
    rule: str,
    *,
    among: int | None = None,
    out: Path | None = None,
    label: str | None = None,
    class_index: int | None = None,
    features: str | None = None,
    images: int | None = None,
    noise: str | None = None,
) -> SelectedSnapshot:
    """Return the snapshot that a rule chooses of a folder's table: `fgaug gan select`.

    Args:
        folder: of snapshots that were measured.
        rule: see `fgaug.quality.snapshots.table.chosen`.
        among: see there.
        out: where a copy goes, with the record of its training images; none where None.
        label: with the following: which of the table's rows, where they do not all compare.
        class_index: of a conditional network.
        features: the beginning of the feature network's label.
        images: fakes measured.
        noise: const, none or seeded.

    Raises:
        SnapshotError: no such rule or row; the file is gone, or was replaced since; `out` is
            there, or has another suffix.
    """
    rows = table.comparable(
        table.read_rows(folder),
        folder,
        label=label,
        features=features,
        n_fake=images,
        noise=noise,
        **{"class": class_index},
    )
    row, words = table.chosen(rows, rule, among)
    file = folder / row["snapshot"]
    _check_same(file, row)
    if out is not None:
        file = _copied(file, out)
    return SelectedSnapshot(rows=rows, row=row, words=words, file=file)


def _check_same(file: Path, row: Row) -> None:
    from gan_worker.files.snapshot import identity_of

    cure = "Measure it again by `fgaug gan metrics`"
    if not file.is_file():
        raise SnapshotError(f"{file} was chosen and is gone. Restore it, or choose another rule.")
    found = identity_of(file)
    if found != row["sha256"]:
        raise SnapshotError(
            f"{file} was measured as network {row['sha256'][:12]} and is {found[:12]} now. {cure}."
        )


def _copied(file: Path, out: Path) -> Path:
    """Copy a network file, its record first: where a network is, its record is too."""
    if out.suffix != file.suffix:
        raise SnapshotError(f"--out must end in {file.suffix} as {file.name} does, got {out}.")
    there = [path for path in (out, paths.record_of(out)) if path.exists()]
    if there:
        raise SnapshotError(f"{there[0]} exists. Choose another --out, or remove it first.")
    paths.carry_record(file, out)
    with files.atomic_write(out) as temporary:
        shutil.copyfile(file, temporary)
    return out
