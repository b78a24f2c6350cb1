"""Nodes that cannot take part in a search: it ends with one message, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nodes import REPOSITORY, Job, Node, need_nodes
from nodes_search import WORK, Nodes, nodes_with_store, write_inputs

from fgaug.core.version import __version__

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
SEARCH_S = 300.0
CELLS = 8
OTHER = "0.0.9"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A store and a head without a core for trials, which has the dataset and the grid."""
    need_nodes()
    work = tmp_path_factory.mktemp("work")
    write_inputs(work, WORK, max_steps=300, mode=["baseline"], seed=[*range(1, CELLS + 1)])
    with nodes_with_store() as found:
        found.ray.head.put(work, WORK)
        yield found


def search(nodes: Nodes) -> Job:
    return nodes.search(nodes.ray.head, f"{WORK}/grid.yaml")


def refused(nodes: Nodes) -> str:
    """Return what a search says that ends because of its input."""
    with search(nodes) as job:
        assert job.wait(SEARCH_S) == 2, job.output()
        return job.output()


def with_another_version(nodes: Nodes, name: str) -> Node:
    """Add a node whose fgaug calls itself another version."""
    node = nodes.network.add(name)
    node.put(REPOSITORY / "fgaug", "/root/other/fgaug")
    version = node.path("/root/other/fgaug/core/version.py")
    version.write_text(version.read_text().replace(__version__, OTHER))
    node.env["PYTHONPATH"] = f"/root/other:{REPOSITORY}"
    nodes.ray.join(node)
    return node


def without(nodes: Nodes, gone: Node) -> None:
    gone.kill()
    nodes.ray.wait_for(*[each for each in nodes.network.nodes if each is not nodes.store.node])


def test_a_node_with_another_version(nodes: Nodes) -> None:
    node = with_another_version(nodes, "other")
    said = refused(nodes)
    assert f"needs fgaug {__version__}, but {node.address} has {OTHER}" in said
    assert "Install the same version on all nodes" in said
    assert not nodes.files()
    without(nodes, node)


def test_a_node_whose_cache_is_full(nodes: Nodes) -> None:
    """The message names the node and the folder."""
    node, cache = nodes.network.add("full"), "/root/.cache/fgaug"
    node.run(["mkdir", "-p", cache])
    node.run(["mount", "-t", "tmpfs", "-o", "size=64k", "cache", cache])
    nodes.ray.join(node)
    said = refused(nodes)
    assert f"No space left in the cache {cache} of full" in said
    assert "set FGAUG_CACHE" in said
    assert not nodes.finished()
    without(nodes, node)


def test_one_with_another_version_joins_late(nodes: Nodes) -> None:
    """It ends the search; the same command without that node trains what is missing."""
    good = nodes.join("good")
    with search(nodes) as job:
        nodes.wait_for_rows(1, job, SEARCH_S)
        late = with_another_version(nodes, "late")
        assert job.wait(SEARCH_S) == 2, job.output()
        assert f"needs fgaug {__version__}, but late has {OTHER}" in job.output()
    finished = nodes.finished()
    assert 0 < finished < CELLS
    without(nodes, late)
    with search(nodes) as job:
        assert job.wait(SEARCH_S) == 0, job.output()
    assert nodes.finished() == CELLS
    assert good in nodes.network.nodes
