"""One search over nodes that share no folder: a driver, its nodes, and what came out of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodes import PYTHON, Job, Network, Node
from ray_nodes import S3, RayNodes, s3_on, told
from small_grid import phantom_dataset, write_grid

FGAUG = str(Path(PYTHON).with_name("fgaug"))
CELLS = 24
WORK, RUN = "/root/work", "bucket/runs/x"
_ROWS = """
import json, sys
from fgaug.core.store import open_store
from fgaug.errors import StoreError
names = open_store(sys.argv[1], StoreError).entries("trials")
found = {}
for name in names:
    _, cell, file = name.split("/", 2)
    found.setdefault(cell, []).append(file)
print("files:", json.dumps(found))
"""
_BRING = """
import os, sys
from fgaug.runs import results
os.makedirs(sys.argv[2], exist_ok=True)
for name in ("load_results", "load_curves", "load_predictions"):
    frame = getattr(results, name)(sys.argv[1])
    frame.to_pickle(f"{sys.argv[2]}/{name}.pickle")
"""


def write_inputs(root: Path, seen_as: str | Path, *, max_steps: int) -> Path:
    """Write a dataset and a grid of 24 cells below `root`, and return the grid's path.

    The bank is not there: its fakes are made by the search.

    Args:
        root: an existing folder.
        seen_as: the folder's path where the search runs.
        max_steps: of each cell, a multiple of 5; there is an evaluation every 5 steps.
    """
    phantom_dataset(root)
    return write_grid(
        root,
        dataset=f"{seen_as}/dataset",
        bank=f"{seen_as}/bank",
        axes={
            "mode": ["baseline", "augmentation"],
            "psi": [0.7, 1.0],
            "ratio": [1],
            "seed": [*range(1, 9)],
        },
        budget={"unit": "steps", "max": max_steps, "evaluations": max_steps // 5},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """A store, the head of a Ray cluster, and nodes that come and go."""

    network: Network
    store: S3
    ray: RayNodes

    @property
    def uri(self) -> str:
        """The run's URI, through the proxy."""
        return self.store.uri(RUN)

    def grid_at(self) -> str:
        """Return the URI of the run's own copy of the grid."""
        return self.store.uri(f"{RUN}/space.resolved.yaml")

    def join(self, name: str | None = None) -> Node:
        """Add a node to the network and to Ray's cluster."""
        node = self.network.add(name)
        self.ray.join(node)
        return node

    def search(self, node: Node, grid: str) -> Job:
        """Start the search from a node."""
        words = [FGAUG, "search", grid, "--out", self.uri, "--address", "auto"]
        return node.start([*words, "--no-dashboard", "--retries", "30", "--log", "json"])

    def files(self) -> dict[str, list[str]]:
        """Return the files of each cell that the store has."""
        node = self.store.node
        found: dict[str, list[str]] = told(
            node.python(_ROWS, self.store.uri(RUN, direct=True)), "files:"
        )
        return found

    def finished(self) -> int:
        """Return the number of cells that have a row in the store."""
        return sum("result.json" in files for files in self.files().values())

    def bring(self, node: Node, folder: Path) -> None:
        """Read the run from a node, and copy its pickled frames to a folder of the test."""
        node.python(_BRING, self.uri, "/root/frames")
        folder.mkdir()
        for path in node.path("/root/frames").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


@contextlib.contextmanager
def nodes_with_store() -> Iterator[Nodes]:
    """Yield a store and the head of a cluster, which has no core for trials, on two nodes."""
    with Network() as network:
        store_node, head = network.add("store"), network.add("head")
        with s3_on(store_node) as store:
            store.make_bucket("bucket")
            yield Nodes(network=network, store=store, ray=RayNodes(head, head_cpus=0))
