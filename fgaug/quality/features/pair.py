"""The two feature networks behind a row of measures.

FID and KID compare distributions of features; precision, recall, density and coverage compare
nearest neighbours. Published numbers use Inception for the first kind and VGG16 for the second, so
each kind can have its own network. By default one network serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgaug.quality.features.networks import FeatureNetwork

COLUMNS = ("features", "pr_features")  # labels of the two networks, in rows and records


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPair:
    """The network of FID and KID, and that of precision, recall, density and coverage."""

    distance: FeatureNetwork
    neighbour: FeatureNetwork

    @property
    def one(self) -> bool:
        """Whether one network serves both kinds of measures."""
        return self.distance.label == self.neighbour.label

    @property
    def distinct(self) -> tuple[FeatureNetwork, ...]:
        """The networks that have to compute features: one or two."""
        return (self.distance,) if self.one else (self.distance, self.neighbour)

    def columns(self) -> dict[str, str]:
        """Return the labels and descriptions of both networks for a row or a record."""
        return {
            "features": self.distance.label,
            "features_described": self.distance.description,
            "pr_features": self.neighbour.label,
            "pr_features_described": self.neighbour.description,
        }


def load_pair(features: str, pr_features: str | None = None, device: str = "cpu") -> NetworkPair:
    """Return the networks that `--features` and `--pr-features` name.

    Args:
        features: see `fgaug.quality.features.networks.load_network`.
        pr_features: likewise; None for the same network.
        device: cpu, cuda or cuda:1.

    Raises:
        UserError: a network is unknown, or its file is missing or holds something else.
    """
    from fgaug.quality.features import networks

    first = networks.load_network(features, device)
    if pr_features in (None, features):
        return NetworkPair(distance=first, neighbour=first)
    second = networks.load_network(pr_features, device, "--pr-features")
    return NetworkPair(distance=first, neighbour=second)


def with_pair(row: dict[str, Any]) -> dict[str, Any]:
    """Return a stored row that names both networks; older rows name the one that served both."""
    if "pr_features" in row:
        return row
    names = [name for name in ("features", "features_described") if name in row]
    return {**row, **{f"pr_{name}": row[name] for name in names}}
