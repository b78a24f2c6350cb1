"""The table of measured snapshots, and the rules that select one of its rows.

It is stored as `metrics.json` and `metrics.csv` beside the snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fgaug.core import files
from fgaug.errors import SnapshotError
from fgaug.quality.features.pair import COLUMNS, with_pair

METRICS_VERSION = 1  # raised when the same snapshot would give other numbers
JSON, CSV = "metrics.json", "metrics.csv"
# columns in which comparable rows are equal
SAME = (
    "label",
    "class",
    "dataset_digest",
    "n_real",
    "n_fake",
    "psi",
    "noise",
    "features",
    "pr_features",
    "k",
    "metrics_version",
)
BY = {"fid": "features", "kid": "features", "precision": "pr_features", "recall": "pr_features"}
_WHOLE = ("kimg", "class", "n_real", "n_fake", "floor_n_reference", "floor_n_sample")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A selection rule: the best in `column` among the `among` snapshots of lowest FID."""

    column: str
    highest: bool
    among: int | None = None  # None: all

    def words(self, among: int | None) -> str:
        """Return the rule in words, for the foot of a table."""
        best = f"the {'highest' if self.highest else 'lowest'} {self.column.upper()}"
        if self.column in ("precision", "recall"):
            best = best.lower()
        return best if among is None else f"of the {among} of lowest FID, {best}"


RULES = {
    "thesis": Rule("precision", highest=True, among=4),  # it considered the three or four best
    "breast": Rule("fid", highest=False),
    "fid": Rule("fid", highest=False),
    "lowest-fid": Rule("fid", highest=False),
    "lowest-kid": Rule("kid", highest=False),
    "highest-precision": Rule("precision", highest=True),
    "highest-recall": Rule("recall", highest=True),
}

THESIS_NETWORKS = ("inception", "vgg16")  # of its FID; of its precision and recall


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a folder's table; none if there is no table yet.

    Raises:
        SnapshotError: the table cannot be read.
    """
    path = folder / JSON
    if not path.is_file():
        return []
    value = files.read_json(path, SnapshotError)
    stored = value.get("rows") if isinstance(value, dict) else None
    rows = _as_rows(stored)
    whole = rows is not None and all(
        {*SAME, "snapshot", "sha256", "fid"} <= row.keys() for row in rows
    )
    if not whole:
        raise SnapshotError(f"{path} is not a table of snapshots. Move it away and measure again.")
    assert rows is not None
    return rows


def _as_rows(value: Any) -> list[Row] | None:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return [with_pair(row) for row in value]
    return None


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key of a row: a new row replaces that of the same file and settings."""
    return (row["snapshot"], *(row[name] for name in SAME))


def add_row(folder: Path, row: Row) -> None:
    """Add a row to a folder's table, replacing one of the same file and settings."""
    rows = [each for each in read_rows(folder) if key_of(each) != key_of(row)]
    rows = sorted([*rows, row], key=_place)
    files.write_json(folder / JSON, {"metrics_version": METRICS_VERSION, "rows": rows})
    with files.atomic_write(folder / CSV) as temporary:
        frame_of(rows).to_csv(temporary, index=False)


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a frame; integer columns stay integers if values are missing."""
    frame = pd.DataFrame(rows)
    return frame.astype({name: "Int64" for name in _WHOLE if name in frame})


def comparable(rows: Sequence[Row], place: Path, **asked: object) -> list[Row]:
    """Return the matching rows, which must share all settings.

    Args:
        rows: rows of a table.
        place: location of the table, for messages.
        asked: values of `label`, `class`, `n_fake`, `noise`, and prefixes of `features` and
            `pr_features`; None matches any.

    Raises:
        SnapshotError: no row matches, or the matching rows have different settings.
    """
    wanted = {name: value for name, value in asked.items() if value is not None}
    found = [
        row
        for row in rows
        if all(
            str(row[name]).startswith(str(value)) if name in COLUMNS else row[name] == value
            for name, value in wanted.items()
        )
    ]
    if not found:
        told = ", ".join(f"{name} {value}" for name, value in wanted.items())
        raise SnapshotError(
            f"{place} has no measured snapshot{f' with {told}' if told else ''}. Measure them: "
            f"`fgaug gan metrics {place} --dataset DATASET --label "
            f"{wanted.get('label') or 'LABEL'}`."
        )
    differing = [name for name in SAME if len({row[name] for row in found}) > 1]
    if differing:
        told = "; ".join(
            f"{name}: {', '.join(sorted({str(row[name]) for row in found}))}" for name in differing
        )
        raise SnapshotError(
            f"{place} has snapshots measured with different settings, whose values are not "
            f"comparable ({told}). Choose by --label, --class, --features, --pr-features, "
            "--images or --noise."
        )
    return found


def chosen(rows: Sequence[Row], rule: str, among: int | None = None) -> tuple[Row, str]:
    """Return the row that a rule selects from comparable ones, and the rule in words.

    Ties go to the lower FID, then to the first row of the table.

    Args:
        rows: comparable rows, at least one.
        rule: a name of RULES.
        among: number of snapshots of lowest FID to choose from, instead of the rule's own.

    Raises:
        SnapshotError: there is no such rule, or no candidate is left.
    """
    if rule not in RULES:
        raise SnapshotError(f"--rule must be one of {', '.join(RULES)}, got {rule}.")
    if among is not None and among < 1:
        raise SnapshotError(f"--among must be at least 1, got {among}. The thesis used 3 or 4.")
    known, kept = RULES[rule], among or RULES[rule].among
    best = sorted(rows, key=lambda row: row["fid"])[:kept]
    sign = -1 if known.highest else 1
    return min(best, key=lambda row: sign * row[known.column]), known.words(kept)


def rule_note(rule: str, row: Row) -> str:
    """Return how a table's networks differ from those of the rule's study; empty if they do not.

    Args:
        rule: a name of RULES.
        row: any of the comparable rows.
    """
    if rule != "thesis":
        return ""
    names = [str(row[column]).partition("-")[0] for column in COLUMNS]
    if names == list(THESIS_NETWORKS):
        return ""
    return (
        f"the thesis took FID from {THESIS_NETWORKS[0]} and precision from {THESIS_NETWORKS[1]}; "
        f"here they come from {names[0]} and {names[1]}, so its choice may differ. Measure with "
        "--features inception:FILE --pr-features vgg16:FILE"
    )


def _place(row: Row) -> tuple[str, ...]:
    return (*(str(row[name]) for name in SAME), row["snapshot"])
