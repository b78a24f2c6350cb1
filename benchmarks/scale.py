"""A grid of 100,000 cells: its plan, the driver's rate, a store with latency and faults, results.

    python benchmarks/scale.py                        # all parts, about 20 minutes
    python benchmarks/scale.py --part plan
    python benchmarks/scale.py --cells 2000 --trials 200 --stored 100     # does it run?

- plan: `planner.plan` in a process of its own, its CPU seconds and peak resident size.
- trials: fgaug's driver runs `--trials` trials that train nothing, on `--actors` processes. Each
  writes the files of a real one and reports once. Beside it in the same run: trials of plain Ray
  Tune that do nothing at all. A driver that ends R trials a second keeps 1,000 workers busy if a
  trial takes 1,000 / R seconds or more; so few processes stand for 1,000.
- store: `--stored` such trials whose run is in a bucket of moto's S3 server, behind a proxy that
  adds 50 ms to each request and fails 1%. Requests a trial, before and after the packs; cost by
  Amazon's list for S3 Standard in us-east-1, as published on 2026-12-01.
- results: `load_results` of `--cells` copies of one row: of a folder, first and again, and of a
  store whose trials are in packs, on a machine that has read nothing yet and again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console
from ten_thousand import baselines, fabricate, with_fakes

from fgaug.core import mirror
from fgaug.core.paths import RunPaths
from fgaug.data.prepare import prepare
from fgaug.study.tune.settings import FILES, SearchSettings

TESTS = Path(__file__).parents[1] / "tests"
DELAY_S, FAIL = 0.05, 0.01
# US dollars a request: PUT, COPY, POST and LIST; GET and all others. Deleting is free.
DEAR, CHEAP = 0.005 / 1000, 0.0004 / 1000
MB = 1 << 20


class NoOp(tune.Trainable):
    """Writes the files of a finished trial under the name of its own cell, and ends."""

    def setup(self, config: dict[str, Any], settings: SearchSettings | None = None) -> None:
        assert settings is not None
        self.settings, self.config = settings, config
        settings.access.use()
        source = Path(os.environ["FGAUG_BENCHMARK_TRIAL"])
        self.files = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
        self.row = json.loads(self.files.pop("result.json"))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        from fgaug.core import files

        cell = self.settings.cell(self.config["cell_id"])
        paths = self.settings.paths.trial(cell.cell_id)
        mirror.refresh(paths.root)  # as a trial does
        for name, data in self.files.items():
            with files.atomic_write(paths.root / name) as temporary:
                temporary.write_bytes(data)
        self.row["rows"][-1] |= {"cell_id": cell.cell_id, "seed": cell.seed}
        files.write_text(paths.result, json.dumps(self.row))
        last = self.row["rows"][-1]
        shown = ("valid_acc", "valid_auc", "valid_loss", "wall_s")
        report = {"done": True, "status": "ok", **{name: last[name] for name in shown}}
        if self.settings.run_uri is not None:
            report[FILES] = [*mirror.contents(paths.root).items()]
        return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["plan", "trials", "store", "results"])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--stored", type=int, default=2_000)
    parser.add_argument("--actors", type=int, default=8)
    parser.add_argument("--plan-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan_of is not None:
        plan_once(options.plan_of, options.cells)
        return
    if options.load is not None:
        import fgaug

        print(json.dumps(loaded(fgaug.load_results, options.load, options.cells)))
        return
    with tempfile.TemporaryDirectory(prefix="fgaug-benchmark-") as folder:
        root = Path(folder)
        os.environ["FGAUG_CACHE"] = str(root / "cache")
        prepare(out=root / "dataset", size=32, preset="phantom", phantom={"images": 40})
        parts = {"plan": plan, "trials": trials, "store": stored, "results": results}
        for name, part in parts.items():
            if options.part in (None, name):
                print(f"\n{name}\n\n| what | measured |\n|---|---:|", flush=True)
                for what, value in part(root, options):
                    print(f"| {what} | {value} |", flush=True)


def plan(root: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    words = [sys.executable, __file__, "--cells", str(options.cells), "--plan-of", str(root)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    yield f"plan of {found['cells']:,} cells with fakes, wall", f"{found['wall_s']:.1f} s"
    yield "its CPU", f"{found['cpu_s']:.1f} s"
    yield "peak memory of the process, imports included", f"{found['peak_mb']:.0f} MB"


def plan_once(root: Path, cells: int) -> None:
    """Plan a grid in this process and print what it took as JSON."""
    from fgaug.study import planner

    planner.plan(with_fakes(root, 50), root / "warm")  # imports
    space = with_fakes(root, cells)
    wall, cpu = time.perf_counter(), time.process_time()
    planned = planner.plan(space, root / "planned")
    taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps({"cells": len(planned.cells), "peak_mb": peak_mb(), **taken}))


def peak_mb() -> float:
    """Return the peak resident size of this process; `ru_maxrss` may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def trials(root: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    one_real_trial(root)
    count = options.trials
    with no_op_cluster(options.actors):
        yield "worker processes", str(options.actors)
        plain_s, plain_cpu = plain_tune(root, count, options.actors)
        yield f"plain Ray Tune, {count:,} trials", f"{count / plain_s:.1f} trials/s"
        yield "its driver's CPU a trial", f"{1000 * plain_cpu / count:.1f} ms"
        run = RunPaths(root / "no-op")
        taken, cpu, peak = searched(root, run, count, options.actors)
        yield f"fgaug, {count:,} trials", f"{count / taken:.1f} trials/s"
        yield "its driver's CPU a trial", f"{1000 * cpu / count:.1f} ms"
        yield "its driver's memory, the most", f"{peak:.0f} MB"


def one_real_trial(root: Path) -> None:
    """Train one cell; its files are the template of the others."""
    from fgaug.study import search

    if not (root / "one").is_dir():
        run = search.search(
            baselines(root, 1), root / "one", console=Console(quiet=True), dashboard=False
        )
        assert run.ok == 1, run
    (folder,) = (root / "one" / "trials").iterdir()
    os.environ["FGAUG_BENCHMARK_TRIAL"] = str(folder)


@contextmanager
def no_op_cluster(actors: int) -> Iterator[None]:
    from fgaug.core import cluster
    from fgaug.study.tune import runner

    with cluster.started(cpus=actors, gpus=0, dashboard=False):
        before, runner.CellTrainable = runner.CellTrainable, NoOp
        try:
            yield
        finally:
            runner.CellTrainable = before


def searched(root: Path, run: RunPaths, count: int, actors: int) -> tuple[float, float, float]:
    """Run so many no-op trials by fgaug's driver; return wall and CPU seconds and its peak MB."""
    from fgaug.runs.results import statuses_of
    from fgaug.study import planner
    from fgaug.study.tune import runner

    space = baselines(root, count)
    planned = planner.plan(space, run.uri or run.root)
    wall, cpu = time.perf_counter(), time.process_time()
    runner.run_cells(
        planned.run,
        planned.cells,
        planned.sources,
        space,
        at_once=actors,
        already=0,
        dashboard=None,
        console=Console(quiet=True),
        log="quiet",
    )
    taken = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_mb()
    ended = Counter(statuses_of(planned.run, [c.cell_id for c in planned.cells]).values())
    assert ended == {"ok": count}, ended
    return *taken, peak


def plain_tune(root: Path, count: int, actors: int) -> tuple[float, float]:
    """Run as many trials that do nothing by Ray Tune alone; return wall and CPU seconds."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(actors)
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as storage:
        tune.Tuner(
            tune.with_resources(Nothing, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=storage,
                name="plain",
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return time.perf_counter() - wall, time.process_time() - cpu


class Nothing(tune.Trainable):
    """A trial that ends at once."""

    def setup(self, config: dict[str, Any]) -> None:
        pass

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        return {"done": True}


def stored(root: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    one_real_trial(root)
    count = options.stored
    with slow_store() as counted:
        with no_op_cluster(options.actors):
            before = counted()
            run = RunPaths(root / "unused", uri="s3://bucket/runs/scale")
            taken, cpu, _ = searched(root, run, count, options.actors)
            asked = counted() - before
        yield f"{count:,} trials by {options.actors} workers", f"{count / taken:.1f} trials/s"
        yield "the driver's CPU a trial", f"{1000 * cpu / count:.1f} ms"
        kinds = [kind for kind in asked if kind.isupper()]
        for kind in sorted(kinds):
            yield f"{kind} a trial", f"{asked[kind] / count:.2f}"
        yield "requests a trial", f"{sum(asked[kind] for kind in kinds) / count:.2f}"
        yield "of them failed by the proxy", f"{asked['fail']:,}"
        dear = asked["PUT"] + asked["POST"] + asked["LIST"]
        cheap = asked["GET"] + asked["HEAD"]
        yield (
            "cost of 100,000 trials",
            f"{100_000 / count * (dear * DEAR + cheap * CHEAP):.2f} USD",
        )
        yield "objects left in the store", f"{len(objects()):,}"
        yield "objects of a trial before it is packed", str(1 + len(template()))


def template() -> list[str]:
    """Return the names of a trial's files beside its row."""
    folder = Path(os.environ["FGAUG_BENCHMARK_TRIAL"])
    return [path.name for path in folder.iterdir() if path.name != "result.json"]


def objects() -> list[str]:
    from fgaug.core.store import open_store
    from fgaug.errors import StoreError

    return list(open_store("s3://bucket/runs/scale", StoreError).entries(""))


@contextmanager
def slow_store() -> Iterator[Callable[[], Counter[str]]]:
    """Serve a bucket with latency and faults; yield a function that counts requests by kind."""
    sys.path.insert(0, str(TESTS))
    from faulty_proxy import Faults, Proxy

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Proxy.started(f"127.0.0.1:{port}") as proxy:
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            make_bucket(port)
            proxy.set(Faults(delay_s=DELAY_S, fail=FAIL))
            yield proxy.counts
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def make_bucket(port: int) -> None:
    from pyarrow import fs

    for _ in range(100):
        try:
            files = fs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True
            )
            files.create_dir("bucket")
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("moto does not answer")


def results(root: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    import fgaug
    from fgaug.runs.results import compact_rows

    one_real_trial(root)
    count, run = options.cells, RunPaths(root / "copies")
    fabricate(root / "one", run.root, count)
    for moment in ("before", "after"):
        taken, cpu = loaded(fgaug.load_results, run.root, count)
        yield (
            f"{count:,} trials of a folder, {moment} compaction",
            f"{taken:.2f} s ({cpu:.2f} CPU)",
        )
        time.sleep(2)  # files as new as the clock's ticks are not taken for settled
        compact_rows(run)  # as a search does at its end
    with slow_store() as counted:
        uri = "s3://bucket/runs/packed"
        pack(run, uri)
        before = counted()
        environment = {**os.environ, "FGAUG_CACHE": str(root / "another machine's cache")}
        for moment in ("first", "again"):  # on a machine that has read nothing yet
            words = [sys.executable, __file__, "--cells", str(count), "--load", uri]
            done = subprocess.run(words, env=environment, check=True, capture_output=True)
            taken, cpu = json.loads(done.stdout)
            yield f"{count:,} trials of packs, {moment}", f"{taken:.2f} s ({cpu:.2f} CPU)"
        asked = counted() - before
        yield "requests of both", str(sum(asked[kind] for kind in asked if kind.isupper()))


def pack(run: RunPaths, uri: str) -> None:
    """Put a run of a folder into packs of a store, as a search does with finished trials."""
    from fgaug.core import packs
    from fgaug.runs.pack_trials import TRIALS
    from fgaug.runs.place import mirrored

    root = mirrored(uri, "search").root
    shutil.copytree(run.root, root, dirs_exist_ok=True)
    folders = sorted((root / "trials").iterdir())
    for start in range(0, len(folders), TRIALS):
        packs.write(root, folders[start : start + TRIALS])


def loaded(load: Any, run: Any, count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    frame = load(run)
    taken = time.perf_counter() - wall, time.process_time() - cpu
    assert len(frame) == count
    return taken


if __name__ == "__main__":
    main()
