"""Read and write the scores of a bank's fakes: one row per fake, one folder per scorer.

Files are `scores/<name>-<digest>/<label>/psi_<psi>/<first>-<last>.parquet` with the columns label,
psi, z_seed and those of the scorer. Shards are written atomically and describe themselves, so
there is no manifest: fakes in no shard are not scored yet.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug.bank import lock
from fgaug.bank.format import IMAGE_COLUMNS
from fgaug.bank.score_columns import BOOLEAN, COLUMNS, NUMBER, SCORERS, TEXT, columns_of
from fgaug.bank.store import Store
from fgaug.core.paths import BankNames
from fgaug.errors import BankError

_TYPES = {NUMBER: pa.float64(), BOOLEAN: pa.bool_(), TEXT: pa.string()}
_KEYS = {"label": pa.string(), "psi": pa.float64(), "z_seed": pa.int64()}
_DIGEST, _WORDS = b"fgaug.scorer", b"fgaug.scorer.words"  # in a shard's metadata
_FOLDER = re.compile(rf"({'|'.join(SCORERS)})-[0-9a-f]{{12}}")


@dataclass(frozen=True, slots=True)
class Scorer:
    """A scorer of fakes, identified by everything that determines its scores."""

    name: str  # one of SCORERS
    digest: str  # 64 hex digits
    columns: tuple[str, ...]
    words: str = field(default="", compare=False)  # for display: the network, k, ...

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.digest[:12]}"


def write_scores(
    store: Store,
    scorer: Scorer,
    label: str,
    psi: float,
    frame: pd.DataFrame,
    held: lock.Check | None = None,
) -> None:
    """Add one shard of scores to a bank atomically.

    Args:
        store: of the bank.
        scorer: scorer of the frame.
        label: of all rows.
        psi: of all rows.
        frame: z_seed and the scorer's columns, one row per fake; numbers may be infinite, but not
            NaN.
        held: check function of a lock that is already held; None locks the bank for this shard.

    Raises:
        BankError: columns or types are wrong, values are missing, z_seeds are repeated or already
            scored, or another writer has taken over the bank.
    """
    if not len(frame):
        return
    table = _table(scorer, label, psi, frame)
    with lock.held(store) if held is None else contextlib.nullcontext(held) as check:
        z_seeds = frame["z_seed"].to_numpy(np.int64)
        lacking = unscored(store, scorer, label, psi, z_seeds)
        if len(lacking) < len(z_seeds):
            there = np.setdiff1d(z_seeds, lacking)
            raise BankError(
                f"{store.place()} has scores `{scorer.folder}` of label {label}, psi {psi:g}, "
                f"z_seed {there[0]} already. Score only fakes without scores."
            )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, write_page_checksum=True)
        check()
        name = f"{z_seeds[0]}-{z_seeds[-1]}.parquet"  # no other shard has the first one
        store.write(f"{BankNames.scored(scorer.folder, label, psi)}/{name}", sink.getvalue())


def read_scores(
    store: Store, scorer: Scorer, label: str, psi: float, z_seeds: Sequence[int] | np.ndarray
) -> pd.DataFrame:
    """Return the scores of `z_seeds` in the given order: z_seed and the scorer's columns.

    Raises:
        BankError: some are not scored, or a shard is damaged.
    """
    asked = np.asarray(z_seeds, np.int64)
    known = _known(store, scorer, label, psi)
    at = pd.Index(known["z_seed"]).get_indexer(pd.Index(asked))
    if (at < 0).any():
        raise BankError(
            f"{store.place()} lacks scores `{scorer.folder}` of {int((at < 0).sum())} of "
            f"{len(asked)} fakes of label {label}, psi {psi:g} (the first is z_seed "
            f"{asked[at < 0][0]}). Score them with `fgaug bank score {store.place()} "
            f"--dataset DATASET --scorer {scorer.name}`."
        )
    found: pd.DataFrame = known.iloc[at].reset_index(drop=True)
    return found


def unscored(
    store: Store, scorer: Scorer, label: str, psi: float, z_seeds: Sequence[int] | np.ndarray
) -> list[int]:
    """Return those of `z_seeds` without scores, in the given order."""
    asked = np.asarray(z_seeds, np.int64)
    below = BankNames.scored(scorer.folder, label, psi)
    known = _joined(store, scorer, below, ["z_seed"])["z_seed"].to_numpy()
    return [int(z_seed) for z_seed in asked[~np.isin(asked, known)]]


def scorers_of(store: Store) -> list[Scorer]:
    """Return the scorers with scores in a bank, by folder."""
    found = {}
    for name in store.sizes(BankNames.scores):
        folder = name.split("/")[1]
        if folder not in found and _FOLDER.fullmatch(folder):
            schema = _read(store, name).schema
            columns = tuple(each for each in schema.names if each not in IMAGE_COLUMNS)
            digest, words = (_said(schema, key) for key in (_DIGEST, _WORDS))
            found[folder] = Scorer(folder.split("-")[0], digest, columns, words)
    return [found[folder] for folder in sorted(found)]


def all_scores(store: Store, scorer: Scorer) -> pd.DataFrame:
    """Return all scores of a scorer: label, psi, z_seed and its columns."""
    below = f"{BankNames.scores}/{scorer.folder}"
    return _joined(store, scorer, below, [*IMAGE_COLUMNS, *scorer.columns])


def _known(store: Store, scorer: Scorer, label: str, psi: float) -> pd.DataFrame:
    """Return the scores of one label and psi: z_seed and the scorer's columns."""
    below = BankNames.scored(scorer.folder, label, psi)
    return _joined(store, scorer, below, ["z_seed", *scorer.columns])


def _joined(store: Store, scorer: Scorer, below: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of all shards below a folder, in name order."""
    tables = []
    for name in store.sizes(below):
        table = _read(store, name, columns)
        if _said(table.schema, _DIGEST) != scorer.digest or len(columns) > table.num_columns:
            raise BankError(
                f"{store.place(name)} belongs to another scorer than {scorer.folder}. Remove it, "
                "and score the bank again."
            )
        tables.append(table)
    kinds = {**_KEYS, **{name: _TYPES[COLUMNS[name][1]] for name in scorer.columns}}
    empty = pa.schema([(name, kinds[name]) for name in columns]).empty_table()
    frame: pd.DataFrame = pa.concat_tables([empty, *tables]).to_pandas()
    return frame


def _read(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return those of `columns` that a shard has; None returns all."""
    try:
        with (
            store.open(name) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as opened,
        ):
            return opened.read(columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as problem:
        reason = str(problem).splitlines()[0]
        raise BankError(
            f"{store.place(name)} is not a valid Parquet file ({reason}). Remove it, and score "
            "the bank again."
        ) from None


def _said(schema: pa.Schema, key: bytes) -> str:
    return bytes((schema.metadata or {}).get(key, b"")).decode()


def _table(scorer: Scorer, label: str, psi: float, frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a shard, in the scorer's column order; refuse invalid scores."""
    foreign = [name for name in scorer.columns if COLUMNS.get(name, ("",))[0] != scorer.name]
    if foreign or sorted(frame.columns) != sorted(["z_seed", *scorer.columns]):
        raise BankError(
            f"Scores `{scorer.name}` have the columns z_seed, {', '.join(columns_of(scorer.name))}"
            f", got {', '.join(map(str, frame.columns))}."
        )
    repeated = frame["z_seed"].duplicated()
    if repeated.any():
        raise BankError(
            f"Scores must have one row per fake, but z_seed {frame['z_seed'][repeated].iloc[0]} "
            "occurs more than once."
        )
    kinds = {name: COLUMNS[name][1] for name in scorer.columns}
    wrong = [name for name, kind in kinds.items() if not _fits(frame[name], kind)]
    if wrong:
        raise BankError(
            f"Scores `{wrong[0]}` must be of type {kinds[wrong[0]]}, one for each fake; got "
            f"{frame[wrong[0]].dtype} with {int(frame[wrong[0]].isna().sum())} missing."
        )
    columns = {
        "label": pa.array([label] * len(frame), pa.string()),
        "psi": pa.array(np.full(len(frame), float(psi)), pa.float64()),
        "z_seed": pa.array(frame["z_seed"].to_numpy(np.int64)),
    }
    for name, kind in kinds.items():
        columns[name] = pa.array(frame[name].tolist(), _TYPES[kind])
    told = {_DIGEST: scorer.digest.encode(), _WORDS: scorer.words.encode()}
    return pa.table(columns).replace_schema_metadata(told)


def _fits(values: pd.Series, kind: str) -> bool:
    """Return whether all values are present and of type `kind`."""
    if values.isna().any():
        return False
    types = pd.api.types
    if kind == BOOLEAN:
        return bool(types.is_bool_dtype(values))
    if kind == NUMBER:
        return bool(types.is_numeric_dtype(values) and not types.is_bool_dtype(values))
    return all(isinstance(value, str) for value in values)
