"""The record of measurements of a bank's fakes, stored beside its scores.

The file is `quality/<dataset>-<split>-<network>.json` of the bank (`<network>+<network>` where
precision and recall come from another one). It holds numbers and names
only, no pixels and no features, so that a bank that is passed on contains no image of a patient.
Pairs name the fake by its z_seed and the real by its image_id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fgaug.errors import BankError
from fgaug.quality.features.pair import COLUMNS, with_pair

QUALITY_VERSION = 1  # raised when the same fakes and reals would give other numbers
_SET = ("label", "psi", "filter")
TABLES: Mapping[str, tuple[str, ...]] = {  # the key of a row of each table
    "sets": _SET,  # measures, see `set_measures.RealFeatures`
    "copies": _SET,  # see `copies.Copies`
    "reals": ("label",),  # scores of the reals of a label
    "pairs": (*_SET, "rank"),  # the closest fakes and training images
    "machines": ("stratum",),  # how predictable each stratum of reals is, see `strata.Machines`
    "shares": (*_SET, "stratum", "value"),  # see `strata.Shares`
    "spectrum": _SET,  # fakes against reals by high frequencies, see `two_sample.ToldApart`
    "networks": ("label", "psi", "other"),  # against the fakes of another bank
}
SAME = (
    "version",
    "dataset_digest",
    "split",
    "features",
    "pr_features",
    "images",
)  # of comparable rows
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRecord:
    """The measurements of one bank against one dataset, by one or two feature networks."""

    head: Mapping[str, Any]  # SAME, and descriptions
    tables: Mapping[str, Sequence[Row]]  # by name of TABLES

    @property
    def name(self) -> str:
        """The name of the file in the bank."""
        head = self.head
        networks = dict.fromkeys((head["features"], head["pr_features"]))
        return f"{head['dataset_digest'][:12]}-{head['split']}-{'+'.join(networks)}.json"

    def frame(self, table: str) -> pd.DataFrame:
        """Return a table, with its key columns even if it is empty.

        The table `sets` also names the feature networks of its measures: `features` of FID and
        KID, `pr_features` of the others.
        """
        rows = self.tables.get(table) or []
        found = pd.DataFrame(list(rows), columns=None if rows else list(TABLES[table]))
        if table != "sets":
            return found
        return found.assign(**{name: self.head[name] for name in COLUMNS})

    def with_newer(self, newer: SetRecord) -> SetRecord:
        """Return both merged: newer rows replace older ones with the same key.

        Drops all older rows if they were measured in another way.
        """
        if any(self.head[name] != newer.head[name] for name in SAME):
            return newer
        tables = {}
        for name, key in TABLES.items():
            new = list(newer.tables.get(name) or [])
            sets = {_key(row, _parents(key)) for row in new}
            old = [
                row for row in self.tables.get(name) or [] if _key(row, _parents(key)) not in sets
            ]
            tables[name] = sorted([*old, *new], key=lambda row: _order(row, key))
        return SetRecord(head=newer.head, tables=tables)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        value = {**self.head, **{name: list(rows) for name, rows in self.tables.items()}}
        return (json.dumps(_plain(value), indent=1, allow_nan=False) + "\n").encode()


def read(data: bytes, place: str) -> SetRecord | None:
    """Return the content of a file; None if another version wrote it.

    Raises:
        BankError: the file is not a record of measurements.
    """
    try:
        value = json.loads(data)
        if value["version"] != QUALITY_VERSION:
            return None
        tables = {name: [_numbers(row) for row in value.pop(name)] for name in TABLES}
        value = with_pair(value)
        whole = all({*TABLES[name]} <= row.keys() for name in TABLES for row in tables[name])
        whole = whole and {*SAME} <= value.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BankError(
            f"{place} holds no measurements of fakes. Remove it and run `fgaug bank quality` "
            "again."
        )
    return SetRecord(head=value, tables=tables)


def _parents(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key by which rows are replaced together: a set's pairs, a set's strata."""
    return key[:3]


def _key(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _order(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    """Return the sort key of a row: no filter first, numbers as numbers."""
    values = _key(row, names)
    return tuple((value != "none", isinstance(value, str), value) for value in values)


def _plain(value: Any) -> Any:
    """Return a value for JSON: undefined and infinite numbers become words."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _numbers(row: Row) -> Row:
    """Return a row with words for numbers converted back."""
    words = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    return {
        name: words.get(each, each) if isinstance(each, str) and name not in _NAMES else each
        for name, each in row.items()
    }


_NAMES = {name for key in TABLES.values() for name in key} | {"image_id"}
