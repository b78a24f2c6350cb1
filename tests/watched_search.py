"""Runs a small search as a user watches it: the state API, Prometheus and every panel of Grafana.

A program of its own, so that Ray's settings are those of this search: GRID OUT -> JSON on stdout.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import ray
from prometheus import Prometheus, scraping
from ray.util.state import list_actors, list_tasks

import fgaug
from fgaug.core import grafana
from fgaug.core.cluster import started
from fgaug.study.tune.names import Names

SHARED = 3  # cells that share actors, as short ones do; later ones have an actor each
SETTLED_S = 60.0  # at most, until every task and actor is in the lists


def panels(folder: Path) -> dict[str, str]:
    """Return the queries of the dashboard that Grafana would read, by their panels' titles."""
    found = json.loads((folder / grafana.NAME).read_text())
    return {
        panel["title"]: target["expr"].replace("$run", ".*")
        for panel in found["panels"]
        for target in panel["targets"]
    }


def watch(
    prometheus: Prometheus, queries: dict[str, str], seen: dict[str, Any], stop: Any
) -> None:
    """Ask every panel's query until it has an answer once; keep the labels of the series."""
    while not stop.wait(0.3):
        for title in queries.keys() - seen["panels"].keys():
            if found := prometheus.ask(queries[title]):
                seen["panels"][title] = [labels for labels, _ in found]
        if counts := prometheus.ask("sum without (WorkerId) (ray_fgaug_cells)"):
            seen["totals"].append(sum(value for _, value in counts))
        if "addresses" not in seen and "Training images/s" in seen["panels"]:
            seen["addresses"] = listening()


def listening() -> list[str]:
    """Return the addresses at which this process and those below it listen."""
    found = []
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            held = process.net_connections("inet")
        except psutil.Error:
            continue  # it has just ended
        found += [each.laddr.ip for each in held if each.status == psutil.CONN_LISTEN]
    return found


def listed(dashboard: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the actors by class and repr, and the tasks of trials by function and name."""
    options: dict[str, Any] = {"detail": True, "limit": 1000, "address": dashboard}
    actors = [(each.class_name, each.repr_name) for each in list_actors(**options)]
    tasks = [
        (str(each.func_or_class_name), str(each.name))
        for each in list_tasks(**options)
        if each.func_or_class_name in ("Trial.train", "GanWorker.make")
    ]
    return actors, sorted(set(tasks))


def main(grid: str, out: str) -> None:
    suggested = itertools.count()
    Names.long = lambda self: next(suggested) >= SHARED  # type: ignore[method-assign]  # a test
    seen: dict[str, Any] = {"panels": {}, "totals": []}
    stop = threading.Event()
    with started(cpus=2, gpus=0) as cluster:
        assert cluster.dashboard is not None
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        queries = panels(grafana.provisioned(session))
        with scraping(session, Path(out).parent / "prometheus") as prometheus:
            watcher = threading.Thread(target=watch, args=(prometheus, queries, seen, stop))
            watcher.start()
            try:
                fgaug.search(grid, out)
                done = "sum by (status) (ray_fgaug_cells_done_total)"
                seen["done"] = prometheus.until(done, lambda all_: [v for _, v in all_] == [4])
            finally:
                stop.set()
                watcher.join()
            gone = prometheus.until("ray_fgaug_cells", lambda series: not series)
            seen |= {"gone": gone, "unanswered": sorted(queries.keys() - seen["panels"].keys())}
        end = time.monotonic() + SETTLED_S
        while len((found := listed(cluster.dashboard))[1]) < 6 and time.monotonic() < end:
            time.sleep(0.5)
        seen["actors"], seen["tasks"] = found
    seen["addresses"] = [re.sub("^::ffff:", "", each) for each in seen.get("addresses", [])]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
