"""Ray metrics that a trial's process counts itself, on the node where it runs."""

from __future__ import annotations

from collections import Counter

from ray.util import metrics

from fgaug.core.cache_lookups import lookups


class TrialMetrics:
    """The cache lookups of a trial's process as a counter; see `ray_metrics` for the search's."""

    def __init__(self) -> None:
        self.lookups = metrics.Counter(
            "fgaug_cache_lookups",
            "Lookups in a node's caches by trials: hit, or miss and filled.",
            ("cache", "outcome"),
        )
        self.exported: Counter[tuple[str, str]] = Counter()

    def export(self) -> None:
        """Add what this process has looked up since the last call."""
        now = lookups()
        for (cache, outcome), more in (now - self.exported).items():
            self.lookups.inc(more, {"cache": cache, "outcome": outcome})
        self.exported = now
