"""Shards taken out of a bank, with their decoded copies.  study -> [dropping] -> writer

The manifest forgets them before their files go: a kill between the two leaves files that the next
writer adopts again, never a manifest that names what is gone.
"""

from __future__ import annotations

from collections.abc import Collection

from fgaug import pixels
from fgaug.bank.format import BankSpec
from fgaug.bank.reader import pixels_key
from fgaug.bank.store import Store
from fgaug.bank.writer import BankWriter


def drop_shards(store: Store, spec: BankSpec, names: Collection[str]) -> int:
    """Remove shards by their paths, and this machine's decoded copies; return their bytes."""
    if not names:
        return 0
    with BankWriter.opened(store, spec) as writer:
        gone = [shard for name, shard in writer.shards.items() if name in names]
        for shard in gone:
            writer.drop(shard.path)
        writer.commit()
        for shard in gone:
            store.remove(shard.path)
            pixels.forget(pixels_key(shard))
    return sum(shard.bytes for shard in gone)
