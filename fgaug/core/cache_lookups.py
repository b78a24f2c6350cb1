"""How often this process found what it needed in a cache of its machine: caches -> metrics."""

from __future__ import annotations

from collections import Counter

_lookups: Counter[tuple[str, str]] = Counter()


def count_lookup(cache: str, hit: bool) -> None:
    """Count a lookup in the cache of this name, such as `decoded`."""
    _lookups[cache, "hit" if hit else "miss"] += 1


def lookups() -> Counter[tuple[str, str]]:
    """Return the lookups of this process so far by cache and outcome (`hit` or `miss`)."""
    return _lookups.copy()
