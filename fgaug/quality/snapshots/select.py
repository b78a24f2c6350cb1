"""Selecting one of the measured snapshots by a stated rule."""

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
    """The snapshot selected by a rule, and its candidates."""

    rows: list[Row]  # all comparable rows, in table order
    row: Row
    words: str  # the rule
    note: str  # on feature networks other than those of the rule's study; empty if there are none
    file: Path  # the selected snapshot, or its copy


def select_snapshot(
    folder: Path,
    rule: str,
    *,
    among: int | None = None,
    out: Path | None = None,
    label: str | None = None,
    class_index: int | None = None,
    features: str | None = None,
    pr_features: str | None = None,
    images: int | None = None,
    noise: str | None = None,
) -> SelectedSnapshot:
    """Return the snapshot that a rule selects from a folder's table: `fgaug gan select`.

    Args:
        folder: folder of measured snapshots.
        rule: see `fgaug.quality.snapshots.table.chosen`.
        among: see there.
        out: path for a copy with the record of its training images; None for no copy.
        label: this and the following arguments select rows if not all are comparable.
        class_index: class of a conditional network.
        features: prefix of the label of the feature network of FID and KID.
        pr_features: likewise of precision and recall.
        images: number of measured fakes.
        noise: const, none or seeded.

    Raises:
        SnapshotError: there is no such rule or row; the file is missing or was replaced; `out`
            exists or has another suffix.
    """
    rows = table.comparable(
        table.read_rows(folder),
        folder,
        label=label,
        features=features,
        pr_features=pr_features,
        n_fake=images,
        noise=noise,
        **{"class": class_index},
    )
    row, words = table.chosen(rows, rule, among)
    file = folder / row["snapshot"]
    _check_same(file, row)
    if out is not None:
        file = _copied(file, out)
    note = table.rule_note(rule, row)
    return SelectedSnapshot(rows=rows, row=row, words=words, note=note, file=file)


def _check_same(file: Path, row: Row) -> None:
    from gan_worker.files.snapshot import identity_of

    cure = "Measure it again with `fgaug gan metrics`"
    if not file.is_file():
        raise SnapshotError(
            f"{file} was selected but no longer exists. Restore it, or choose another rule."
        )
    found = identity_of(file)
    if found != row["sha256"]:
        raise SnapshotError(
            f"{file} was measured as network {row['sha256'][:12]} but is now {found[:12]}. {cure}."
        )


def _copied(file: Path, out: Path) -> Path:
    """Copy a network file after its record, so that no network is without its record."""
    if out.suffix != file.suffix:
        raise SnapshotError(f"--out must end in {file.suffix} as {file.name} does, got {out}.")
    there = [path for path in (out, paths.record_of(out)) if path.exists()]
    if there:
        raise SnapshotError(f"{there[0]} exists. Choose another --out, or remove it first.")
    paths.carry_record(file, out)
    with files.atomic_write(out) as temporary:
        shutil.copyfile(file, temporary)
    return out
