"""One grid three ways: fgaug, a plain Ray Tune script, and a sequential loop.

    python benchmarks/search.py --setting small --rounds 3
    python benchmarks/search.py --setting heavy
    python benchmarks/search.py --cells 3 --epochs 2 --images 100     # does it run?
    python benchmarks/search.py --before TREE --ways fgaug before --rounds 5   # another commit

Baseline and augmentation arms over seeds on phantom images; the bank is filled and the PNG files
of the other two (`benchmarks/plain_tune.py`) are written before any clock starts. All train the
same model on as many images of the same arms, batch 64, one frozen epoch and then one cycle, under
the same albumentations, one thread a trial. Each way is a process of its own:

- start-up: from its launch (imports included) until the first trial starts;
- trials: from there to the last trial's end; close: from there to the exit of the process;
- CPU: user and system seconds of every process below this one, those of Ray included, read from
  /proc five times a second. What a process uses between its last reading and its end is missed
  (0.1 s on average), but for the way's own process, whose RUSAGE_CHILDREN is taken if larger;
- ideal: CPU seconds of bare forward, backward and AdamW on float tensors in memory for the
  training images (frozen for the first epoch, as in all three) and of the bare forward for the
  validation images, over the cores; in the faster memory format, in one process with the others
  idle. The same with every core at work is printed too: cores that share a cache are slower so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

BATCH, RATIOS, PSI = 64, (1.0, 2.0), 1.0
ARMS = 1 + len(RATIOS)  # the baseline is one
AUGMENTATION = [  # as `plain_tune.augmentation`
    {"HorizontalFlip": {"p": 0.5}},
    {"Affine": {"rotate": [-10, 10], "scale": [0.9, 1.1], "p": 1.0}},
]
WAYS = ("fgaug", "tune", "loop")
SHOWN = {
    "fgaug": "fgaug",
    "before": "fgaug before",
    "tune": "plain Ray Tune",
    "loop": "loop, one core",
}
WALLS, CPUS = ("startup_s", "trials_s", "close_s"), ("startup_cpu_s", "cpu_s")
IDEAL_S = 3.0  # of each timed piece
PAUSE_S = 3.0  # between ways: the last one's processes are gone by then
SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    model: str
    size: int  # pixels
    cells: int
    epochs: int
    images: int = 400  # of the phantom, about half of them for training
    ways: tuple[str, ...] = WAYS
    before: Path | None = None  # another tree of fgaug


SETTINGS = {
    "small": Setting(model="mobilenetv3_small_050", size=64, cells=24, epochs=5),
    "heavy": Setting(model="resnet18", size=128, cells=12, epochs=3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds of one way."""

    startup_s: float
    trials_s: float
    close_s: float
    startup_cpu_s: float
    cpu_s: float  # in all

    @property
    def wall_s(self) -> float:
        return self.startup_s + self.trials_s + self.close_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ideal:
    """CPU seconds of bare pieces of a training."""

    frozen_step_s: float
    step_s: float
    valid_s: float  # one forward pass over all validation images
    augment_s: float  # albumentations on a batch; no part of the ideal

    def training_s(self, batches: float, epochs: int) -> float:
        """Return the seconds of a training of `batches` an epoch, its evaluations left out."""
        return batches * (self.frozen_step_s + (epochs - 1) * self.step_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """All that one round measured."""

    ways: Mapping[str, Measured]
    alone: Ideal
    busy: Ideal
    alone_s: float  # ideal CPU seconds of the whole grid
    busy_s: float
    pieces: Mapping[str, float]  # where fgaug's time goes


# The ways, each in a process of its own


def grid(root: Path, setting: Setting) -> dict[str, Any]:
    return {
        "name": "benchmark",
        "dataset": str(root / "dataset"),
        "bank": str(root / "bank"),
        "generator": {"kind": "phantom"},
        "pool": setting.images,
        "axes": {
            "mode": ["baseline", "augmentation"],
            "psi": [PSI],
            "ratio": list(RATIOS),
            "seed": seeds(setting),
        },
        "recipe": {
            "model": setting.model,
            "pretrained": False,
            "batch_size": BATCH,
            "augmentation": AUGMENTATION,
        },
        # of an epochs budget the first epoch is frozen and comes on top; patience never ends it
        "budget": {"unit": "epochs", "max": setting.epochs - 1, "patience": setting.epochs},
    }


def seeds(setting: Setting) -> list[int]:
    return list(range(1, 1 + setting.cells // ARMS))


def prepare_all(root: Path, setting: Setting) -> None:
    """Write dataset, grid, bank, and the PNG files of real images and fakes."""
    from PIL import Image
    from rich.console import Console

    from fgaug import open_bank
    from fgaug.bank import export
    from fgaug.data.prepare import prepare
    from fgaug.study import execute, planner

    phantom = {"images": setting.images}
    dataset = prepare(out=root / "dataset", size=setting.size, preset="phantom", phantom=phantom)
    (root / "grid.yaml").write_text(yaml.safe_dump(grid(root, setting)), encoding="utf-8")
    execute.fill_for_grid(root / "grid.yaml", str(root / "bank"), Console(quiet=True))
    (needs,) = planner.plan(root / "grid.yaml", root / "unused").needs
    export.write_pictures(
        open_bank(root / "bank"), needs.demand, root / "png" / "fakes", lambda done: None
    )
    rows = dataset.manifest.itertuples()
    for row, pixels in zip(rows, dataset.pixels(), strict=True):
        path = root / "png" / str(row.split) / str(row.label) / f"{row.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(path)


def run_fgaug(root: Path, out: Path) -> None:
    """Search, and note when each piece of the start-up ended."""
    ended = {"Python": time.time()}
    from rich.console import Console

    from fgaug import load_space
    from fgaug.core import cluster
    from fgaug.study import search

    space = load_space(root / "grid.yaml")
    ended["imports"] = time.time()
    with cluster.started():
        ended["Ray"] = time.time()
        run = search.search(space, out / "run", console=Console(quiet=True))
    assert run.exit_code == 0, run
    (out / "ended.json").write_text(json.dumps(ended), encoding="utf-8")


def measure_ideal(root: Path, setting: Setting, out: Path) -> None:
    """Write the bare pieces' CPU seconds in the faster of both memory formats."""
    import torch

    from fgaug import open_dataset
    from fgaug.grid.recipe import Recipe
    from fgaug.training.pytorch import augmentation

    torch.set_num_threads(1)
    splits = open_dataset(root / "dataset").manifest["split"]
    count = int((splits == "valid").sum())
    formats = (torch.channels_last, torch.contiguous_format)
    found = [_bare_pieces(setting, memory, count) for memory in formats]
    fastest = min(found, key=lambda pieces: pieces["step_s"])
    recipe = Recipe.model_validate(grid(root, setting)["recipe"])
    augment = augmentation.build(recipe, 0, torch.device("cpu"))
    grey = torch.randint(0, 256, (BATCH, 1, setting.size, setting.size), dtype=torch.uint8)
    fastest["augment_s"] = _cpu_s(lambda: augment(grey))
    out.write_text(json.dumps(fastest), encoding="utf-8")


def _bare_pieces(setting: Setting, memory_format: Any, count: int) -> dict[str, float]:
    import torch
    import torch.nn.functional as F

    from fgaug.grid.recipe import Recipe
    from fgaug.training import weights
    from fgaug.training.pytorch import models

    recipe = Recipe(model=setting.model, pretrained=False)
    model = models.build(recipe, weights.find(recipe), 2).to(memory_format=memory_format)

    def tensors(n: int) -> torch.Tensor:
        drawn = torch.rand(n, 3, setting.size, setting.size)
        return drawn.contiguous(memory_format=memory_format)

    def logits(x: torch.Tensor) -> Any:  # the model's own `forward` makes channels last of all
        return model.head(model.body.forward_features(x))

    batches = [(tensors(BATCH), torch.arange(BATCH) % 2) for _ in range(4)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    turn = 0

    def step() -> None:
        nonlocal turn
        x, y = batches[turn % len(batches)]
        turn += 1
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits(x), y).backward()  # type: ignore[no-untyped-call]  # torch's
        optimiser.step()

    held = [tensors(min(2 * BATCH, count - at)) for at in range(0, count, 2 * BATCH)]

    @torch.inference_mode()
    def look() -> None:
        for x in held:
            logits(x)

    model.train()
    model.freeze()
    frozen_step_s = _cpu_s(step)
    model.unfreeze()
    step_s = _cpu_s(step)
    model.eval()
    return {"frozen_step_s": frozen_step_s, "step_s": step_s, "valid_s": _cpu_s(look)}


def _cpu_s(call: Callable[[], object]) -> float:
    """Return the CPU seconds of one call, from about IDEAL_S of them."""
    call()  # memory and kernels are set up by the first
    calls, clock, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - clock < IDEAL_S:
        call()
        calls += 1
    return (time.process_time() - cpu) / calls


# Measuring them


class Sampler:
    """CPU seconds of all processes below this one, as they pass."""

    def __init__(self) -> None:
        self.used: dict[tuple[int, int], float] = {}  # by process id and start
        self.times: list[float] = []
        self.totals: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def until(self, moment: float) -> float:
        """Return the CPU seconds used by then."""
        return float(np.interp(moment, self.times, self.totals))

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        for pid, started, cpu_s in _descendants():
            self.used[pid, started] = cpu_s
        self.times.append(time.time())
        self.totals.append(sum(self.used.values()))


def _descendants() -> Iterator[tuple[int, int, float]]:
    """Yield id, start and own CPU seconds of each process below this one."""
    tick = os.sysconf("SC_CLK_TCK")
    stats: dict[int, list[str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except OSError:  # it has ended
                continue
            stats[int(name)] = text.rpartition(")")[2].split()  # state, parent, ...
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(pid)
    waiting = list(children.get(os.getpid(), []))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        fields = stats[pid]
        yield pid, int(fields[19]), (int(fields[11]) + int(fields[12])) / tick


def command(way: str, root: Path, out: Path, setting: Setting) -> list[str]:
    """Return the command of a process of its own."""
    here = tree_of(way, setting) / "benchmarks" / "search.py"
    if way not in ("tune", "loop"):
        given = ["--cells", setting.cells, "--epochs", setting.epochs, "--images", setting.images]
        name = next(n for n, known in SETTINGS.items() if known.model == setting.model)
        words = [here, "--setting", name, *given, "--only", own(way)]
        words += ["--root", root, "--out", out]
    else:
        words = [here.with_name("plain_tune.py"), "--way", way, "--images", root / "png"]
        words += ["--out", out, "--model", setting.model, "--epochs", setting.epochs]
        words += ["--ratios", 0, *RATIOS, "--seeds", *seeds(setting)]
    return [sys.executable, *map(str, words)]


def own(way: str) -> str:
    """Return what a tree calls its own search."""
    return "fgaug" if way == "before" else way


def tree_of(way: str, setting: Setting) -> Path:
    """Return the root of the code that runs."""
    if way == "before" and setting.before is not None:
        return setting.before.resolve()
    return Path(__file__).resolve().parents[1]


def start(way: str, root: Path, out: Path, setting: Setting) -> subprocess.Popen[bytes]:
    cache = out.with_suffix(".cache")  # empty: decoding is part of a search
    with (root / f"{out.name}.log").open("wb") as log:
        return subprocess.Popen(
            command(way, root, out, setting),
            env={
                **os.environ,
                "FGAUG_CACHE": str(cache),
                "PYTHONPATH": str(tree_of(way, setting)),
            },
            cwd=tree_of(way, setting),  # which Ray's workers search first
            stdout=log,
            stderr=log,
        )


def finish(process: subprocess.Popen[bytes], root: Path, out: Path) -> None:
    if process.wait():
        log = (root / f"{out.name}.log").read_text(errors="replace")
        raise SystemExit(f"{' '.join(map(str, process.args))} failed:\n{log[-3000:]}")  # type: ignore[arg-type]  # a list here


def measure(way: str, root: Path, out: Path, setting: Setting) -> Measured:
    """Run one way and return its seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Sampler() as sampler:
        launched = time.time()
        finish(start(way, root, out, setting), root, out)
        ended = time.time()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    reaped = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first, last = trial_times(way, out)
    (out / "launched.json").write_text(json.dumps(launched), encoding="utf-8")
    time.sleep(PAUSE_S)
    return Measured(
        startup_s=first - launched,
        trials_s=last - first,
        close_s=ended - last,
        startup_cpu_s=sampler.until(first),
        cpu_s=max(sampler.totals[-1], reaped),
    )


def trial_times(way: str, out: Path) -> tuple[float, float]:
    """Return when the first trial started and the last one ended."""
    if own(way) == "fgaug":
        starts, ends = own_times(out)
        return float(starts.min()), float(ends.max())
    times = json.loads((out / "times.json").read_text())
    return times["started"], times["ended"]


def own_times(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end of fgaug's trials, sorted by start.

    A row's `started_at` is in whole seconds; its `wall_s` before the file's time is exact to the
    milliseconds that writing takes.
    """
    ends, starts = [], []
    for path in (out / "run" / "trials").glob("*/result.json"):
        ends.append(path.stat().st_mtime)
        starts.append(ends[-1] - json.loads(path.read_text())["rows"][-1]["wall_s"])
    order = np.argsort(starts)
    return np.array(starts)[order], np.array(ends)[order]


def ideal(root: Path, out: Path, setting: Setting, processes: int) -> Ideal:
    """Return the mean of so many processes that measure the ideal at once."""
    out.mkdir()
    files = [out / f"{number}.json" for number in range(processes)]
    running = [start("ideal", root, file, setting) for file in files]
    for process, file in zip(running, files, strict=True):
        finish(process, root, file)
    found = [json.loads(file.read_text()) for file in files]
    return Ideal(**{name: statistics.mean(one[name] for one in found) for name in found[0]})


def one_round(root: Path, number: int, setting: Setting, cores: int) -> Round:
    """Return what one round measured; ways take turns in being the first."""
    turn = number % len(setting.ways)
    order = [*setting.ways[turn:], *setting.ways[:turn]]
    alone = ideal(root, root / f"alone{number}", setting, 1)
    ways = {}
    for way in order:
        out = root / f"{way}{number}"
        out.mkdir()
        ways[way] = measure(way, root, out, setting)
        print(f"round {number + 1}: {SHOWN[way]} {ways[way].wall_s:.1f} s", file=sys.stderr)
    busy = ideal(root, root / f"busy{number}", setting, cores)
    return Round(
        ways=ways,
        alone=alone,
        busy=busy,
        alone_s=ideal_of_grid(alone, root / f"fgaug{number}", setting),
        busy_s=ideal_of_grid(busy, root / f"fgaug{number}", setting),
        pieces=pieces(root / f"fgaug{number}", setting, busy, cores),
    )


def ideal_of_grid(of: Ideal, out: Path, setting: Setting) -> float:
    """Return the ideal CPU seconds of all cells."""
    import fgaug

    frame = fgaug.load_results(out / "run")
    batches = (frame["n_real"] + frame["n_fake"]) // BATCH
    assert (frame["images_seen"] == batches * BATCH * setting.epochs).all()  # none stopped early
    looks = len(frame) * setting.epochs * of.valid_s
    return sum(of.training_s(n, setting.epochs) for n in batches) + looks


def pieces(out: Path, setting: Setting, busy: Ideal, cores: int) -> dict[str, float]:
    """Return where fgaug's seconds go: start-up, then the mean of a trial on a warm worker."""
    import fgaug

    launched = json.loads((out / "launched.json").read_text())
    ended = json.loads((out / "ended.json").read_text())
    starts, ends = own_times(out)
    planned = (out / "run" / "environment.json").stat().st_mtime
    frame = fgaug.load_results(out / "run").set_index("cell_id")
    trained = fgaug.load_curves(out / "run").groupby("cell_id")["train_s"].max()
    at = {p.parent.name: p.stat().st_mtime for p in out.glob("run/trials/*/result.json")}
    began = {cell: at[cell] - frame.loc[cell, "wall_s"] for cell in frame.index}
    cells = sorted(frame.index, key=began.__getitem__)
    first, warm = cells[:cores], cells[cores:] or cells
    beyond = frame["wall_s"] - trained
    batches = float(((frame["n_real"] + frame["n_fake"]) // BATCH).loc[warm].mean())
    bare, augment = busy.training_s(batches, setting.epochs), batches * setting.epochs
    train_s, looks = float(trained.loc[warm].mean()), setting.epochs * busy.valid_s
    inside = float(beyond.loc[warm].mean())
    turn = turn_round(starts, ends, cores)
    return {
        "start-up: Python": ended["Python"] - launched,
        "start-up: imports and grid": ended["imports"] - ended["Python"],
        "start-up: Ray and its dashboard": ended["Ray"] - ended["imports"],
        "start-up: checks and plan": planned - ended["Ray"],
        "start-up: Tune and workers, to the first trial": starts.min() - planned,
        "first trial of each worker, beyond a warm one": float(beyond.loc[first].mean()) - inside,
        "a warm trial, from end to end": train_s + inside + turn,
        "- training: bare steps (every core at work)": bare,
        "- training: albumentations (measured apart)": augment * busy.augment_s,
        "- training: the rest": train_s - bare - augment * busy.augment_s,
        "- evaluation: bare forward": looks,
        "- in the trial: model, metrics, files": inside - looks,
        "- outside: Tune's turn-round": turn,
        "beyond training": inside + turn,
        "beyond training and bare evaluation": inside - looks + turn,
    }


def turn_round(starts: np.ndarray, ends: np.ndarray, workers: int) -> float:
    """Return the mean seconds between a trial's end and the next one's start on its worker."""
    free = sorted(ends)
    gaps = [start - free[number] for number, start in enumerate(starts[workers:])]
    return float(np.mean(gaps)) if gaps else 0.0


# Tables


def print_tables(rounds: Sequence[Round], setting: Setting, cores: int) -> None:
    columns = [
        "way",
        "start-up s",
        "trials s",
        "close s",
        "whole s",
        "cells/hour",
        "start-up CPU-s",
        "whole CPU-s",
        "of the ideal after start-up",
        "of it, cores busy",
    ]
    print(f"| {' | '.join(columns)} |\n|---{'|---:' * (len(columns) - 1)}|")
    for way in setting.ways:
        of = [one.ways[way] for one in rounds]
        whole = statistics.median(one.wall_s for one in of)
        shown = [
            *(f"{statistics.median(getattr(one, name) for one in of):.1f}" for name in WALLS),
            f"{whole:.1f}",
            f"{3600 * setting.cells / whole:.0f}",
            *(f"{statistics.median(getattr(one, name) for one in of):.1f}" for name in CPUS),
            spread(one.alone_s / cores / one.ways[way].trials_s for one in rounds),
            spread(one.busy_s / cores / one.ways[way].trials_s for one in rounds),
        ]
        print(f"| {SHOWN[way]} | {' | '.join(shown)} |")
    alone_s = statistics.median(one.alone_s for one in rounds)
    busy_s = statistics.median(one.busy_s for one in rounds)
    print(
        f"\nThe ideal: {alone_s:.1f} CPU-s, over {cores} core(s) {alone_s / cores:.1f} s; with "
        f"every core at work {busy_s / cores:.1f} s. Median of {len(rounds)} round(s)."
    )
    for other in (way for way in setting.ways if way != "fgaug"):
        pairs = [(one.ways[other], one.ways["fgaug"]) for one in rounds]
        print(
            f"\nfgaug over {SHOWN[other]}: {spread(a.wall_s / b.wall_s for a, b in pairs)} times "
            f"the cells an hour, {spread(a.trials_s / b.trials_s for a, b in pairs)} after "
            f"start-up; {SHOWN[other]} takes {spread(a.cpu_s / b.cpu_s for a, b in pairs)} times "
            "its CPU."
        )
    print("\n| where fgaug's time goes | s |\n|---|---:|")
    for name in rounds[0].pieces:
        print(f"| {name} | {statistics.median(one.pieces[name] for one in rounds):.3f} |")


def spread(values: Iterable[float]) -> str:
    """Return median, least and most."""
    found = list(values)
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=tuple(SETTINGS), default="small")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cells", type=int, help=f"in all; a multiple of {ARMS} arms")
    parser.add_argument("--epochs", type=int, help="of each cell; the first is frozen")
    parser.add_argument("--images", type=int, help="of the phantom")
    parser.add_argument("--before", type=Path, help="root of another commit's tree")
    parser.add_argument("--ways", nargs="+", choices=tuple(SHOWN), help="fgaug and others")
    for name in ("--only", "--root", "--out"):  # of the processes that this one starts
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    known = SETTINGS[options.setting]
    setting = Setting(
        model=known.model,
        size=known.size,
        cells=options.cells or known.cells,
        epochs=options.epochs or known.epochs,
        images=options.images or known.images,
        ways=tuple(options.ways or (*WAYS, *(["before"] if options.before else []))),
        before=options.before,
    )
    if "fgaug" not in setting.ways or ("before" in setting.ways) != (options.before is not None):
        parser.error("--ways needs fgaug, and before together with --before TREE")
    if setting.cells % ARMS or setting.epochs < 2:
        parser.error(f"--cells must be a multiple of {ARMS}, --epochs at least 2")
    if options.only:
        do_only(options.only, Path(options.root), Path(options.out), setting)
        return
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="fgaug-benchmark-") as folder:
        root = Path(folder)
        finish(start("prepare", root, root / "prepared", setting), root, root / "prepared")
        found = [one_round(root, number, setting, cores) for number in range(options.rounds)]
    print(
        f"{options.setting}: {setting.cells} cells, {setting.model}, {setting.size} px, "
        f"{setting.images} images, {setting.epochs} epochs, {cores} core(s)\n"
    )
    print_tables(found, setting, cores)


def do_only(way: str, root: Path, out: Path, setting: Setting) -> None:
    if way == "prepare":
        prepare_all(root, setting)
    elif way == "fgaug":
        run_fgaug(root, out)
    else:
        measure_ideal(root, setting, out)


if __name__ == "__main__":
    main()
