"""Nodes that share no folder: what they hide from each other, and Ray across them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from nodes import CODE, PYTHON, Network, need_nodes, refusal, until
from ray_nodes import RayNodes, s3_on, told

LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 9)) as server:
    print("up", flush=True)
    while True:
        server.accept()[0].sendall(b"here")
"""
CALL = """
import socket, sys
with socket.create_connection((sys.argv[1], 9), timeout=2) as connection:
    print(connection.recv(9).decode())
"""
# A task on each node leaves a file in the same folder, then lists what it sees there.
ON_EACH = """
import json, os, ray, socket
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ray.init(address="auto", log_to_driver=False, logging_level="error")

@ray.remote(num_cpus=1)
def look():
    for folder in ("/tmp", "/root", "/dev/shm"):
        open(f"{folder}/seen-on-{socket.gethostname()}", "w").close()
    names = [name for folder in ("/tmp", "/root", "/dev/shm") for name in os.listdir(folder)]
    return [name for name in names if name.startswith("seen-on-")]

tasks = {node["NodeManagerAddress"]: look.options(scheduling_strategy=On(node["NodeID"], False))
         for node in ray.nodes() if node["Alive"]}
found = {address: ray.get(task.remote()) for address, task in tasks.items()}
print("seen:", json.dumps(found))
"""
OBJECTS = """
import sys
from pyarrow import fs
files, path = fs.FileSystem.from_uri(sys.argv[1])
with files.open_output_stream(f"{path}/{sys.argv[2]}") as stream:
    stream.write(b"whole")
print(*sorted(each.base_name for each in files.get_file_info(fs.FileSelector(path))))
"""


@pytest.fixture
def network() -> Iterator[Network]:
    need_nodes()
    with Network() as network:
        yield network


class TestOneNode:
    def test_it_sees_programs_and_code_alone(self, network: Network, tmp_path: Path) -> None:
        node = network.add("a-name")
        (tmp_path / "labels.csv").write_text("here")
        for path in (tmp_path, Path(__file__), Path.cwd() / "README.md"):
            node.run(["ls", str(path)], expect=2)
        assert node.run(["hostname"]) == "a-name\n"
        own = node.run(["find", "/", "-xdev", "-type", "f"])  # not what it is shown
        assert sorted(own.split()) == ["/run/hosts", "/run/resolv.conf"]
        assert node.run(["ls", "-A", "/dev/shm"]) == ""
        found = node.python("import fgaug; print(fgaug.__file__)").strip()
        assert Path(found) == Path(sys.modules["fgaug"].__file__ or "")
        for place in (found, "/usr/new", "/etc/passwd"):
            with pytest.raises(AssertionError, match="Read-only file system"):
                node.python(f"open({place!r}, 'a')")

    def test_files_are_put_there_and_read(self, network: Network, tmp_path: Path) -> None:
        one, two = network.add(), network.add(shown=[tmp_path])
        (tmp_path / "file").write_text("text")
        one.put(tmp_path / "file", "/srv/deep/file")
        one.put(tmp_path, "/srv/folder")
        assert one.run(["cat", "/srv/deep/file", "/srv/folder/file"]) == "texttext"
        assert one.path("/srv/deep/file").read_text() == "text"
        assert two.run(["cat", str(tmp_path / "file")]) == "text"
        two.run(["ls", "/srv"], expect=2)

    def test_its_environment_names_no_folder_of_the_test(
        self, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_TMPDIR", "/elsewhere")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        text = network.add().run(["env"], EXTRA="1")
        assert "HOME=/root\n" in text
        assert "EXTRA=1\n" in text
        assert not {"FGAUG_CACHE", "RAY_TMPDIR", "secret"} & {*text.replace("=", "\n").split()}


class TestNetwork:
    def test_a_link_that_is_cut_and_mended(self, network: Network) -> None:
        one, two = network.add(), network.add()
        with one.start([PYTHON, "-c", LISTEN, one.address]) as server:
            until(lambda: server.output() == "up\n", 10, "it listens")
            assert two.python(CALL, one.address) == "here\n"
            one.cut()
            with pytest.raises(AssertionError, match=r"timed out|No route"):
                two.python(CALL, one.address)
            one.mend()
            assert two.python(CALL, one.address) == "here\n"

    def test_no_way_leads_out(self, network: Network) -> None:
        before = set(os.listdir("/sys/class/net"))
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            node = network.add()
            assert set(os.listdir("/sys/class/net")) == before
            with pytest.raises(AssertionError, match="Connection refused"):
                node.python(CALL.replace("9)", f"{port})"), "127.0.0.1")
        (route,) = node.run(["ip", "route"]).splitlines()
        assert route.startswith("10.77.0.0/24 dev eth0 ")


class TestEnds:
    def test_a_killed_node_takes_its_processes_and_files_along(self, network: Network) -> None:
        one, two = network.add(), network.add()
        with one.start(["sleep", "1000"]) as job, two.start(["sleep", "1000"]) as other:
            until(lambda: len(one.processes()) == 1, 5, "it sleeps")
            (sleeping,) = one.processes()
            one.path("/tmp/kept").touch()
            one.kill()
            assert job.wait(5) == 128 + signal.SIGKILL or job.poll() == -signal.SIGKILL
            assert not sleeping.is_running()
            assert network.nodes == [two]
            assert other.poll() is None
        again = network.add()
        assert again.address not in (one.address, two.address)
        assert set(again.run(["ls", "-A", "/tmp"]).split()) == shown_below("/tmp")

    def test_a_job_is_ended_alone(self, network: Network) -> None:
        node = network.add()
        trap = "trap 'echo told; exit 3' TERM; sleep 1000 & echo up; wait"
        with node.start(["sh", "-c", trap]) as job:
            until(lambda: job.output() == "up\n", 5, "the trap is set")
            job.kill(signal.SIGTERM)
            assert job.wait(5) == 3
            assert job.output() == "up\ntold\n"
        assert [each.name() for each in node.processes()] == ["sleep"]

    def test_a_killed_test_leaves_nothing(self) -> None:
        need_nodes()
        code = (
            "import os, signal, nodes\n"
            "node = nodes.Network().add()\n"
            "job = node.start(['sleep', '1000'])\n"
            "nodes.until(lambda: len(node.processes()) == 1, 5, 'it sleeps')\n"
            "print(node.processes()[0].pid, node._inside.pid, node._network.hub.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        pids = [int(word) for word in done.stdout.split()]
        assert len(pids) == 3, done.stderr
        until(lambda: not any(map(alive, pids)), 10, "the kernel ends all of them")


def shown_below(folder: str) -> set[str]:
    """Return the entries of a folder that a node has because code or Python lie below them."""
    shown = (*CODE, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    found = (path.relative_to(folder) for path in shown if path.is_relative_to(folder))
    return {path.parts[0] for path in found}


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_why_there_are_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.TOOLS", ("sh", "no-such-program"))
    assert refusal.__wrapped__() == "programs that nodes need are missing: no-such-program"
    monkeypatch.setattr("nodes.TOOLS", ())
    monkeypatch.setattr("nodes._HUB", "echo unshare: Operation not permitted >&2; exit 1")
    why = refusal.__wrapped__()
    assert why == "this machine refuses namespaces: unshare: Operation not permitted"


@pytest.mark.ray
def test_ray_and_objects_across_nodes(network: Network) -> None:
    """A task on each node sees its own files alone; nodes die and join; the store stays."""
    store_node, head, one = (network.add(name) for name in ("store", "head", "one"))
    with s3_on(store_node) as store:
        ray = RayNodes(head)
        ray.join(one)
        seen = told(one.python(ON_EACH), "seen:")
        assert seen == {node.address: 3 * [f"seen-on-{node.name}"] for node in (head, one)}
        store.make_bucket("bucket")
        address = store.uri("bucket/run")
        assert head.python(OBJECTS, address, "from-head").split() == ["from-head"]
        assert one.python(OBJECTS, address, "from-one").split() == ["from-head", "from-one"]
        assert store.proxy.counts()["PUT"] >= 2

        one.kill()
        two = network.add("two")
        ray.join(two)
        ray.wait_for(head, two)
        seen = told(two.python(ON_EACH), "seen:")
        assert seen[two.address] == 3 * ["seen-on-two"]
        past = store.uri("bucket/run", direct=True)
        assert past != address
        assert two.python(OBJECTS, past, "a").split() == ["a", "from-head", "from-one"]
