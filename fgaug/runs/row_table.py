"""Rows of JSON values as columns, without loss: the rows of many trials in one Parquet file.

A frame made of a table equals `pd.DataFrame(rows)`, down to the order of columns and the
difference between a null and a missing key. Only columns whose dtype is plain from their Arrow
type are converted directly; pandas infers the others from the values, as it would from the rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.large_string()}
_FORM = "form"  # the column of forms; those of values start with "="
_ABOUT = b"fgaug"  # key of the schema's metadata
_EXACT = 2**53  # whole numbers up to here are exact as double


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of JSON values.

    Args:
        forms: the distinct sequences of keys of the rows.
        form: int32 [N], the place of each row's keys in `forms`.
        columns: by key, an array [N] of one type; null for null and for missing keys.
        as_json: keys whose values are of several types or too large, held as JSON.
    """

    forms: tuple[tuple[str, ...], ...]
    form: np.ndarray
    columns: Mapping[str, pa.Array]
    as_json: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> RowTable:
        """Return a table of rows, whose values are those that JSON has."""
        forms: dict[tuple[str, ...], int] = {}
        form = [forms.setdefault(tuple(row), len(forms)) for row in rows]
        columns: dict[str, pa.Array] = {}
        as_json = set()
        for name in dict.fromkeys(chain.from_iterable(forms)):
            values = [row.get(name) for row in rows]
            array = _typed(values)
            if array is None:
                array = _json(values)
                as_json.add(name)
            columns[name] = array
        return cls(tuple(forms), np.array(form, np.int32), columns, frozenset(as_json))

    def __len__(self) -> int:
        return len(self.form)

    def take(self, places: np.ndarray) -> RowTable:
        """Return the rows at these places, int64 [M], in their order."""
        indices = pa.array(places)
        columns = {name: array.take(indices) for name, array in self.columns.items()}
        return RowTable(self.forms, self.form[places], columns, self.as_json)

    def frame(self) -> pd.DataFrame:
        """Return `pd.DataFrame(rows)`."""
        used, first = np.unique(self.form, return_index=True)
        forms = [self.forms[place] for place in used[np.argsort(first)]]
        names = dict.fromkeys(chain.from_iterable(forms))
        return pd.DataFrame(
            {name: self._column(name) for name in names}, index=pd.RangeIndex(len(self))
        )

    def _column(self, name: str) -> pd.Series[Any]:
        array = self.columns[name]
        if name in self.as_json or array.null_count == len(array):
            return self._inferred(name)
        found: pd.Series[Any] = array.to_pandas()
        if not array.null_count or pa.types.is_float64(array.type):
            return found
        if pa.types.is_int64(array.type):
            ends = pc.min_max(array).as_py()
            exact = ends["min"] >= -_EXACT and ends["max"] <= _EXACT
            return found if exact else self._inferred(name)
        if pa.types.is_large_string(array.type) and found.dtype != object:  # since pandas 3
            return found
        return self._inferred(name)

    def _inferred(self, name: str) -> pd.Series[Any]:
        """Return a column as pandas infers it from rows."""
        present = np.array([name in form for form in self.forms], bool)[self.form]
        pairs = zip(self._values(name), present, strict=True)
        return pd.DataFrame([{name: value} if there else {} for value, there in pairs])[name]

    def _values(self, name: str) -> list[Any]:
        values = self.columns[name].to_pylist()
        if name not in self.as_json:
            return list(values)
        return [None if text is None else json.loads(text) for text in values]


def concatenated(tables: Sequence[RowTable]) -> RowTable:
    """Return the rows of several tables as one; the first is not empty."""
    forms: dict[tuple[str, ...], int] = {}
    parts = []
    for table in tables:
        places = [forms.setdefault(form, len(forms)) for form in table.forms]
        parts.append(np.array(places, np.int32)[table.form])
    columns, as_json = {}, set()
    for name in dict.fromkeys(name for table in tables for name in table.columns):
        arrays = [
            table.columns[name] if name in table.columns else pa.nulls(len(table))
            for table in tables
        ]
        mixed = any(name in table.as_json for table in tables)
        types = {array.type for array in arrays if not pa.types.is_null(array.type)}
        if mixed or len(types) > 1:
            as_json.add(name)
            values = (
                table._values(name) if name in table.columns else [None] * len(table)
                for table in tables
            )
            columns[name] = pa.concat_arrays([_json(part) for part in values])
        else:
            of = types.pop() if types else pa.null()
            columns[name] = pa.concat_arrays([array.cast(of) for array in arrays])
    return RowTable(tuple(forms), np.concatenate(parts), columns, frozenset(as_json))


def to_parquet(table: RowTable) -> bytes:
    """Return a table as a Parquet file."""
    about = {"forms": table.forms, "as_json": sorted(table.as_json)}
    names = [_FORM, *(f"={name}" for name in table.columns)]
    written = pa.table([pa.array(table.form), *table.columns.values()], names=names)
    out = io.BytesIO()
    pq.write_table(written.replace_schema_metadata({_ABOUT: json.dumps(about)}), out)
    return out.getvalue()


def from_parquet(content: bytes) -> RowTable:
    """Return the table in a Parquet file of `to_parquet`.

    Raises:
        ValueError, LookupError, TypeError: it is no such file.
    """
    read = pq.read_table(io.BytesIO(content)).combine_chunks()
    about = json.loads(read.schema.metadata[_ABOUT])
    columns = {
        name.removeprefix("="): _one_array(read.column(name))
        for name in read.column_names
        if name != _FORM
    }
    forms = tuple(tuple(form) for form in about["forms"])
    form = _one_array(read.column(_FORM)).to_numpy()
    return RowTable(forms, form, columns, frozenset(about["as_json"]))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _typed(values: Iterable[Any]) -> pa.Array | None:
    """Return values of one type as an array; None if they have several, or one is too large."""
    values = list(values)
    types = {type(value) for value in values if value is not None}
    if not types:
        return pa.nulls(len(values))
    if len(types) > 1 or (kind := types.pop()) not in _TYPES:
        return None
    try:
        return pa.array(values, _TYPES[kind], from_pandas=False)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def _json(values: Iterable[Any]) -> pa.Array:
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.array(texts, pa.large_string())
