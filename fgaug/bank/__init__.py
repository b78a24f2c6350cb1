"""The fake bank: stores generated images with their scores, and reads, writes and checks them.

A demand minus the index gives the missing fakes; the writer stores them as shards, then commits
the manifest; the reader serves them to training.
"""

from fgaug.bank.demand import Demand, PoolUnion
from fgaug.bank.format import (
    RESIZE_FILTER,
    BankSpec,
    Shard,
    Source,
    check_new,
    is_empty,
    read_manifest,
    read_spec,
    source_digest,
)
from fgaug.bank.reader import Bank, open_bank
from fgaug.bank.scores import Scorer, read_scores, unscored, write_scores
from fgaug.bank.store import Store, open_store
from fgaug.bank.writer import BankWriter, drop_shards, write_shard

__all__ = [
    "RESIZE_FILTER",
    "Bank",
    "BankSpec",
    "BankWriter",
    "Demand",
    "PoolUnion",
    "Scorer",
    "Shard",
    "Source",
    "Store",
    "check_new",
    "drop_shards",
    "is_empty",
    "open_bank",
    "open_store",
    "read_manifest",
    "read_scores",
    "read_spec",
    "source_digest",
    "unscored",
    "write_scores",
    "write_shard",
]
