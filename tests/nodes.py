"""Machines that share no folder: namespaces on this one, with a network of their own.

A `Network` is a hub, a network namespace with a bridge, and nodes plugged into it. Each node has
its own files, processes, host name and network interface. It sees the installed programs, the
interpreter and fgaug's code, read-only, and nothing else of this machine or of another node.
Addresses exist inside these namespaces only, and no route leads out.

Every process lives below the hub's first process, which ends when its standard input closes. If a
test is killed, so are its nodes; the kernel then removes interfaces, addresses and files.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
CODE = tuple(REPOSITORY / name for name in ("fgaug", "gan_worker", "search_spaces"))
PYTHON = str(Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name)
SUBNET = "10.77.0"
BRIDGE = "hub0"
TOOLS = ("ip", "mount", "nsenter", "pivot_root", "sh", "unshare")
START_S = 30.0
# Variables that tell where this machine keeps its files and whom it talks to: not for a node.
_OWN = ("AWS_", "FGAUG_", "MPLCONFIGDIR", "PYTEST_", "RAY_", "TMPDIR", "XDG_")

# $1: an empty place to build the node's files in. $2: its host name. Others: paths to show.
_NODE = r"""
set -e
root=$1 name=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 node "$root"
for path in "$@"; do
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
    mount -o remount,bind,ro "$root$path"
done
for link in bin lib lib32 lib64 sbin; do
    if [ -L "/$link" ]; then ln -s "$(readlink "/$link")" "$root/$link"; fi
done
cd "$root"
mkdir -p proc sys dev root run tmp var/tmp old
chmod 1777 tmp var/tmp
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 shm dev/shm
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" > run/hosts
: > run/resolv.conf  # no name is looked up
for file in hosts resolv.conf; do
    if [ -f "etc/$file" ]; then mount --bind "run/$file" "etc/$file"; fi
done
hostname "$name"
pivot_root . old
cd /
umount -l old
rmdir old
ip link set lo up
"""
_HUB = f"""
set -e
ip link add name {BRIDGE} type bridge
ip link set {BRIDGE} up
"""
# The first process of a namespace: its end is the end of all others in there.
_STAY = """
echo ready
trap '' CHLD  # the kernel buries orphans
exec cat > /dev/null
"""


class Job:
    """A command that runs on a node; its output goes to a file without a name."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the job
        self._entered = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the command if it still runs, and forget its output."""
        self.kill()
        self._log.close()

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._entered.poll()

    def wait(self, seconds: float) -> int:
        """Return the exit code as soon as it has ended."""
        return self._entered.wait(seconds)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the command alone a signal; wait for its end if the signal is KILL."""
        while self.poll() is None:
            below = psutil.Process(self._entered.pid).children()
            if below:  # nsenter forks to enter: what it waits for is the command
                below[0].send_signal(number)
                break
            time.sleep(0.01)
        if number == signal.SIGKILL:
            self.wait(START_S)

    def output(self) -> str:
        """Return what it has printed so far, errors included."""
        log = self._log.fileno()  # its position belongs to the command
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")


class Node:
    """One machine of a network."""

    def __init__(self, network: Network, number: int, name: str, shown: Iterable[Path]) -> None:
        self.name, self.address = name, f"{SUBNET}.{number}"
        self._network, self._plug = network, f"port{number}"
        own = [f"--{kind}" for kind in ("mount", "net", "pid", "uts", "ipc")]
        words = ["unshare", *own, "--fork", "--kill-child", *_shell(_NODE)]
        self._inside = network.first_process([*words, _mount_point(shown), name, *map(str, shown)])
        far = ["peer", "name", "eth0", "netns", str(self._inside.pid)]
        network.hub.ip("link", "add", self._plug, "type", "veth", *far)
        network.hub.ip("link", "set", self._plug, "master", BRIDGE, "up")
        self._inside.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self._inside.ip("link", "set", "eth0", "up")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_OWN)}
        self.env = {**kept, "HOME": "/root", "PATH": _path(), "PYTHONPATH": str(REPOSITORY)}

    def path(self, inside: str | PurePosixPath) -> Path:
        """Return the path by which the test reaches a file of the node."""
        return Path(f"/proc/{self._inside.pid}/root{inside}")

    def put(self, source: Path, inside: str) -> None:
        """Copy a file or folder of the test onto the node."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command that runs `words` here, to be started with `env`."""
        return [*self._inside.enter(), *words]

    def start(self, words: Sequence[str], **env: str) -> Job:
        """Start a command here and return at once."""
        return Job(self.command(words), self.env | env)

    def run(
        self, words: Sequence[str], *, seconds: float = 120, expect: int = 0, **env: str
    ) -> str:
        """Run a command here and return what it prints, errors included.

        Raises:
            AssertionError: it ends with another exit code than `expect`, or does not end in time.
        """
        with self.start(words, **env) as job:
            try:
                code: int | str = job.wait(seconds)
            except subprocess.TimeoutExpired:
                code = f"none after {seconds:g} s"
            text = job.output()
        assert code == expect, f"{self.name}: {' '.join(words)}: exit code {code}\n{text}"
        return text

    def python(self, code: str, *arguments: str, seconds: float = 120, **env: str) -> str:
        """Run Python code here and return what it prints."""
        return self.run([PYTHON, "-c", code, *arguments], seconds=seconds, **env)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this node, its first one excepted."""
        here = os.stat(f"/proc/{self._inside.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):  # ended meanwhile
                if os.path.samestat(os.stat(f"/proc/{process.pid}/ns/pid"), here):
                    found.append(process)
        return [each for each in found if each.pid != self._inside.pid]

    def kill(self) -> None:
        """Switch the machine off: all of its processes die at once, and its files are gone."""
        self._inside.kill()
        self._network.nodes.remove(self)

    def cut(self) -> None:
        """Pull the plug of its network: nobody is told, packets are lost."""
        self._network.hub.ip("link", "set", self._plug, "down")

    def mend(self) -> None:
        """Plug it in again."""
        self._network.hub.ip("link", "set", self._plug, "up")


class Network:
    """A hub and the nodes that it connects."""

    def __init__(self) -> None:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        own = [*user, "--mount", "--net", "--pid", "--fork", "--kill-child"]
        self.hub = Inside(["unshare", *own, *_shell(_HUB)])
        self.nodes: list[Node] = []
        self._inside: list[Inside] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        for inside in (self.hub, *self._inside):
            inside.kill()

    def add(self, name: str | None = None, *, shown: Sequence[Path] = ()) -> Node:
        """Switch a new machine on.

        Args:
            name: its host name; `node-N` if None.
            shown: folders of this machine that it sees too, read-only.
        """
        number = next(self._numbers)
        node = Node(self, number, name or f"node-{number}", _shown(shown))
        self.nodes.append(node)
        return node

    def first_process(self, words: Sequence[str]) -> Inside:
        """Start the first process of a node, as one of the hub's."""
        inside = Inside([*self.hub.enter(), *words])
        self._inside.append(inside)
        return inside


class Inside:
    """The first process of some namespaces; they end with it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._outside = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": _path()},
        )
        assert self._outside.stdout is not None
        if self._outside.stdout.readline() != "ready\n":
            _, why = self._outside.communicate(timeout=START_S)
            raise RuntimeError(why.strip() or f"{command[0]} ended at once")
        self.pid = _innermost(self._outside.pid)

    def enter(self) -> list[str]:
        """Return the words before a command that is to run inside."""
        return ["nsenter", f"--target={self.pid}", "--all", "--preserve-credentials"]

    def ip(self, *words: str) -> None:
        """Run `ip` in the network namespace, with the process ids of the test."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        command = ["nsenter", f"--target={self.pid}", "--net", *user, "ip", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env={"PATH": _path()}, timeout=START_S
        )
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def kill(self) -> None:
        """End every process in there and wait until they have ended."""
        if self._outside.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._outside.wait(START_S)
        for pipe in (self._outside.stdin, self._outside.stdout, self._outside.stderr):
            assert pipe is not None
            pipe.close()


@functools.cache
def refusal() -> str | None:
    """Return why this machine cannot have nodes; None if it can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]:
        return f"programs that nodes need are missing: {', '.join(missing)}"
    try:
        with Network() as network:
            network.add()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"this machine refuses namespaces: {error}"
    return None


def need_nodes() -> None:
    """Skip the test, with the reason, where there can be no nodes."""
    if why := refusal():
        pytest.skip(why)


def until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until `done()` is true.

    Raises:
        AssertionError: it is not in time; the message says `what` was waited for.
    """
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def _shown(more: Sequence[Path]) -> list[Path]:
    """Return what a node sees of this machine, no folder below another one."""
    prefixes = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()]
    found = [Path("/etc"), Path("/usr"), *prefixes, *CODE, *(each.resolve() for each in more)]
    return [p for p in dict.fromkeys(found) if not any(q in p.parents for q in found)]


def _mount_point(shown: Iterable[Path]) -> str:
    """Return a folder that exists on every machine and holds nothing that a node sees."""
    for place in map(Path, ("/mnt", "/media", "/srv")):
        if place.is_dir() and not any(place in path.parents for path in shown):
            return str(place)
    raise RuntimeError("neither /mnt, /media nor /srv is a folder to mount over")


def _shell(script: str) -> list[str]:
    return ["sh", "-c", script + _STAY, "sh"]


def _path() -> str:
    """Return PATH with the folders of system programs, which users often lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/bin", "/bin"])


def _innermost(pid: int) -> int:
    """Return the last of a chain of only children."""
    process = psutil.Process(pid)
    while below := process.children():
        (process,) = below
    return process.pid
