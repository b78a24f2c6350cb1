"""One search over nodes that share no folder: a driver, its nodes, and what came out of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from nodes import PYTHON, Job, Network, Node
from ray_nodes import PROXY_PORT, S3, RayNodes, s3_on, told
from same_frames import assert_same_frames
from small_grid import phantom_dataset, write_grid

from fgaug.runs.results import load_curves, load_predictions, load_results

FGAUG = str(Path(PYTHON).with_name("fgaug"))
CELLS = 24
LOOK_S = 3.0  # between looks at the store, each of which costs a process
WORK, RUN = "/root/work", "bucket/runs/x"
GRID_OF_RUN = f"s3://{RUN}/space.resolved.yaml"
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


def write_inputs(root: Path, seen_as: str | Path, *, max_steps: int, **axes: Any) -> Path:
    """Write a dataset and a grid of 24 cells below `root`, and return the grid's path.

    The bank is not there: its fakes are made by the search.

    Args:
        root: an existing folder.
        seen_as: the folder's path where the search runs.
        max_steps: of each cell, a multiple of 5; there is an evaluation every 5 steps.
        axes: replace those of the grid.
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
            **axes,
        },
        budget={"unit": "steps", "max": max_steps, "evaluations": max_steps // 5},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """A store, the head of a Ray cluster unless the test starts its own, and other nodes."""

    network: Network
    store: S3
    cluster: RayNodes | None

    @property
    def ray(self) -> RayNodes:
        """The Ray cluster."""
        assert self.cluster is not None
        return self.cluster

    @property
    def access(self) -> dict[str, str]:
        """The store's address, through the proxy, and credentials as users have them."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.store.node.address}:{PROXY_PORT}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def join(self, name: str | None = None) -> Node:
        """Add a node to the network and to Ray's cluster."""
        node = self.network.add(name)
        self.ray.join(node)
        return node

    def join_with(self, work: Path, *names: str) -> list[Node]:
        """Add nodes to both at the same time; the first has the dataset and the grid."""
        found = [self.network.add(name) for name in names]
        self.ray.join(*found)
        found[0].put(work, WORK)
        return found

    def search(self, node: Node, grid: str) -> Job:
        """Start the search from a node, the only one that knows the store's credentials."""
        words = [FGAUG, "search", grid, "--out", f"s3://{RUN}", "--address", "auto"]
        return node.start([*words, "--retries", "30", "--log", "json"], **self.access)

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

    def wait_for_rows(self, rows: int, job: Job, seconds: float) -> None:
        """Wait until the store has so many rows while the search goes on."""
        end = time.monotonic() + seconds
        while self.finished() < rows:
            assert job.poll() is None, job.output()
            assert time.monotonic() < end, f"not {rows} rows in {seconds:.0f} s:\n{job.output()}"
            time.sleep(LOOK_S)

    def bring(self, node: Node, folder: Path) -> None:
        """Read the run from a node, and copy its pickled frames to a folder of the test."""
        node.python(_BRING, f"s3://{RUN}", "/root/frames", **self.access)
        folder.mkdir()
        for path in node.path("/root/frames").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def assert_brought(folder: Path, run: Path) -> None:
    """Compare what `Nodes.bring` has copied with a run in a folder."""
    for load in (load_results, load_curves, load_predictions):
        assert_same_frames(pd.read_pickle(folder / f"{load.__name__}.pickle"), load(run))


@contextlib.contextmanager
def nodes_with_store(*, ray: bool = True) -> Iterator[Nodes]:
    """Yield a store and the head of a cluster, which has no core for trials, on two nodes.

    Args:
        ray: false for the store alone.
    """
    with Network() as network, s3_on(network.add("store")) as store:
        store.make_bucket("bucket")
        cluster = RayNodes(network.add("head"), head_cpus=0) if ray else None
        yield Nodes(network=network, store=store, cluster=cluster)
