"""Start a Ray cluster on loopback for one command, or join an existing one.

A watchdog ends a command whose cluster has died, as it would otherwise wait forever.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from fgaug.core import grafana
from fgaug.core.machine import cores, memory_bytes, ray_folder, ray_token, settle
from fgaug.core.store_access import StoreAccess
from fgaug.core.version import __version__
from fgaug.errors import ClusterError, UserError

Item = TypeVar("Item")
Found = TypeVar("Found")
LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 128 << 20  # Ray carries z_seeds and rows, never pixels
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths stay valid in workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a CPU task sees no GPU
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our files are the record
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",  # about a package that we do not use
    "RAY_AIR_NEW_OUTPUT": "0",  # we print our own table
}
# Ray's switch against clusters of several nodes: all of its processes then listen on loopback,
# where `_node_ip_address` would be "made reachable".
_ONE_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
SIGNAL = signal.SIGUSR2
LOOK_S = 1.0
NODE_ANSWERS_S = 60.0  # with the version of its fgaug
AGAIN_S = 10.0  # what it comes up in may swallow it, or wait for the dead once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The cluster that a command runs on."""

    cpus: float
    gpus: float
    dashboard: str | None  # URL, if one was started


@contextlib.contextmanager
def started(
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    dashboard: bool = True,
    address: str | None = None,
) -> Iterator[Cluster]:
    """Yield the connected cluster, else start one on loopback for this block.

    Args:
        cpus: logical cores; None takes those that this process may use.
        gpus: logical GPUs; None takes those visible to this process.
        dashboard: also start Ray's dashboard.
        address: join this running cluster instead; `auto` finds the one started on this machine.

    Raises:
        UserError: Ray does not start, or there is no such cluster.
    """
    with starting(cpus=cpus, gpus=gpus, dashboard=dashboard, address=address) as ready:
        yield ready()


@contextlib.contextmanager
def starting(
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    dashboard: bool = True,
    address: str | None = None,
) -> Iterator[Callable[[], Cluster]]:
    """Start the cluster in the background; yield a function that waits for it. See `started`."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.setdefault(_ONE_NODE, "0")
    import ray

    if ray.is_initialized():
        yield lambda: _described(ray, None)
        return
    settle()
    folder = None
    if address is None:
        ray_token()
        folder = ray_folder()
    # Ray's processes end with the thread that started them, so it lives as long as this block.
    with _temporary_files_in(folder), ThreadPoolExecutor(1, "fgaug-ray") as thread:
        if address is None:
            coming = thread.submit(_init, ray, cpus, gpus, dashboard, folder)
        else:
            coming = thread.submit(_join, ray, address)
        try:
            with watched(lambda: _dead(ray) if address is None and coming.done() else ()):
                yield lambda: _described(ray, _url(coming.result()))
        finally:
            if coming.exception() is None:
                ray.shutdown()


@contextlib.contextmanager
def _temporary_files_in(folder: Path | None) -> Iterator[None]:
    """Make Ray's processes, including its dashboard, create their sockets beside a folder."""
    before = os.environ.get("TMPDIR")
    if folder is not None:
        os.environ["TMPDIR"] = str(folder.parent)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("TMPDIR", None)
            os.environ |= {} if before is None else {"TMPDIR": before}


def _init(
    ray: Any, cpus: int | None, gpus: int | None, dashboard: bool, folder: Path | None
) -> Any:
    from ray._private import ray_constants

    if os.environ.get(_ONE_NODE) == "0":  # also if ray was imported before it was set
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        context = ray.init(
            address="local",  # start our own, regardless of RAY_ADDRESS
            num_cpus=cores() if cpus is None else cpus,
            num_gpus=gpus,
            _memory=_memory(),
            _temp_dir=None if folder is None else str(folder),
            include_dashboard=dashboard,
            dashboard_host=LOOPBACK,
            _node_ip_address=LOOPBACK,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"Ray did not start: {reason}. See {folder or '/tmp/ray'}/session_latest/logs; a full "
            "disk, a full /dev/shm or a leftover cluster (`ray stop`) are usual causes."
        ) from error
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file():
        token.chmod(0o600)  # Ray makes it readable for all users of the machine
    if _url(context):
        with contextlib.suppress(OSError, UserError):  # a search needs no Grafana
            grafana.provide(grafana.provisioned(Path(context.address_info["session_dir"])))
    return context


def _memory() -> int | None:
    """Return the memory for tasks if a control group limits it; None leaves the count to Ray."""
    limit = memory_bytes()
    if limit >= psutil.virtual_memory().total:
        return None
    return max(1 << 20, limit - OBJECT_STORE_BYTES)


def _join(ray: Any, address: str) -> Any:
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal():  # Ray itself would retry for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        return ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": dict(_SETTINGS)},
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"No Ray cluster could be joined at {address}: {reason}. Start one with `ray start "
            "--head`, or omit --address to use only this machine."
        ) from error


def _dead(ray: Any) -> list[str]:
    """Return those of the cluster's two essential processes that have ended."""
    node = ray._private.worker._global_node
    ended = [name for name, _ in node.dead_processes()] if node is not None else []
    return [name for name in ended if name in ("raylet", "gcs_server")]


def _url(context: Any) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None


def check_nodes() -> None:
    """Check that every node of the cluster has this version of fgaug.

    Raises:
        UserError: some have another one, or none; the message names each node.
    """
    import ray

    wrong = []
    for reference, node in _on_each_node(_version):
        address = node["NodeManagerAddress"]
        try:
            found = ray.get(reference, timeout=NODE_ANSWERS_S)
        except ray.exceptions.RayTaskError as error:
            found = f"none that can be imported ({str(error).strip().splitlines()[-1]})"
        except (ray.exceptions.RayError, TimeoutError):
            continue  # it has just left
        if found != __version__:
            wrong.append(f"{address} has {found}")
    if wrong:
        raise UserError(
            f"Every node of the cluster needs fgaug {__version__}, but "
            f"{', '.join(sorted(wrong))}. Install the same version on all nodes."
        )


def _version(gpus: bool) -> str:
    del gpus
    return __version__


def on_training_nodes(
    function: Callable[[bool], Found], *, cores_only: bool = False
) -> list[Found]:
    """Return what a function returns on each node that trials may run on, in a process of its own.

    These are the nodes with GPUs; without any, or with `cores_only`, those with cores.

    Args:
        function: must be picklable; called with whether trials use the node's GPUs, which it then
            sees.
        cores_only: trials use no GPU.

    Raises:
        UserError: it raised an error on some node, or the node left.
    """
    import ray

    found = []
    for reference, node in _on_each_node(function, training=True, cores_only=cores_only):
        try:
            found.append(ray.get(reference))
        except ray.exceptions.RayError as error:
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            raise UserError(
                f"The node {node['NodeManagerAddress']} of the cluster did not answer: {reason}. "
                "Start it again, or remove it from the cluster."
            ) from None
    return found


def _on_each_node(
    function: Callable[[bool], Found], *, training: bool = False, cores_only: bool = True
) -> list[tuple[Any, dict[str, Any]]]:
    """Start a function on each node, or each that trials may run on; return their references."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # ray's
    with_gpus = [] if cores_only else [n for n in nodes if n["Resources"].get("GPU", 0) >= 1]
    with_cores = [n for n in nodes if n["Resources"].get("CPU", 0) >= 1]
    chosen = (with_gpus or with_cores) if training else nodes

    def alone(gpus: bool) -> Found:
        if gpus:  # Ray hides them from a task that requests none
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        return function(gpus)

    remote: Any = ray.remote(max_calls=1)(alone)
    started = []
    for node in chosen:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=here)
        started.append((task.remote(bool(with_gpus)), node))
    return started


def resources() -> dict[str, float]:
    """Return the cluster's resources by name: CPU, GPU and custom ones."""
    import ray

    held: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray's
    return held


def _described(ray: Any, dashboard: str | None) -> Cluster:
    held = ray.cluster_resources()
    return Cluster(cpus=held.get("CPU", 0), gpus=held.get("GPU", 0), dashboard=dashboard)


def map_tasks(
    function: Callable[[Item], Found],
    items: Sequence[Item],
    *,
    cpus: float = 1,
    gpus: float = 0,
    waiting: Callable[[], None] = lambda: None,
    look_s: float = 5.0,
) -> list[Found]:
    """Return function(item) for each item, run in parallel as far as the cluster allows.

    Args:
        function: must be picklable, like its items; not retried if its process dies.
        items: one task per item.
        cpus: cores per task.
        gpus: GPUs per task.
        waiting: called every `look_s` seconds until all are done.
        look_s: interval in seconds.
    """
    import ray

    access = StoreAccess.of_this_process()

    @functools.wraps(function)
    def with_access(item: Item) -> Found:
        access.use()
        return function(item)

    remote: Any = ray.remote(with_access)
    task = remote.options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
    running = [task.remote(item) for item in items]
    left = running
    while left:
        done, left = ray.wait(left, num_returns=len(left), timeout=look_s)
        waiting()
        ray.get(done)  # the first failure ends the others with the cluster
    return list(ray.get(running))


@contextlib.contextmanager
def watched(dead: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Raise ClusterError in the block as soon as `dead` names a process that has ended.

    Ray's calls wait in C++ and return only for a KeyboardInterrupt, so the watchdog sends one.
    Only the main thread receives signals; in other threads nothing is watched.

    Raises:
        ClusterError: the cluster died.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    ended, gone = threading.Event(), list[str]()

    def interrupt(number: int, frame: Any) -> None:
        if gone and not ended.is_set():
            raise KeyboardInterrupt

    def look() -> None:
        while not ended.wait(AGAIN_S if gone else LOOK_S):
            gone[:] = dead()
            if gone and main.ident is not None:
                signal.pthread_kill(main.ident, SIGNAL)

    before = signal.signal(SIGNAL, interrupt)
    thread = threading.Thread(target=look, name="fgaug-watchdog", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if gone and not isinstance(error, ClusterError):
            raise ClusterError(
                f"Ray died: {', '.join(gone)} ended (killed, or out of memory?). Finished work is "
                "kept; run the same command again to resume."
            ) from error
        raise
    finally:
        ended.set()
        thread.join()
        signal.signal(SIGNAL, before)
