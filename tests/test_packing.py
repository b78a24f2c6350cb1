"""`resources: auto`: what is measured, and that what is packed always fits."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from small_grid import grid, phantom_dataset, write_grid

from fgaug.core.cluster import started
from fgaug.data import open_dataset
from fgaug.errors import GridError
from fgaug.grid.load import parse_space
from fgaug.grid.recipe import Recipe
from fgaug.grid.space import Resources
from fgaug.runs.results import load_results
from fgaug.study import estimate, planner, search
from fgaug.study.estimate import MARGIN, Footprint, Node, at_once, pack, parallel_trials
from fgaug.study.run import Run
from fgaug.study.tune import probe
from fgaug.training import images
from fgaug.training.gpu_share import CUDA_BYTES

GB = 10**9


def node(cores: int, memory: float, gpus: int = 0, gpu: float | None = None) -> Node:
    """Return a machine, memories in GB."""
    return Node(
        cores=cores,
        memory_bytes=int(memory * GB),
        gpus=gpus,
        gpu_bytes=None if gpu is None else int(gpu * GB),
    )


def trial(memory: float, gpu: float | None = None) -> Footprint:
    """Return what a trial takes, in GB."""
    gpu_bytes = None if gpu is None else int(gpu * GB)
    return Footprint(memory_bytes=int(memory * GB), gpu_bytes=gpu_bytes)


@pytest.mark.parametrize(
    ("footprint", "nodes", "cpu", "gpu", "count"),
    [
        (trial(1), [node(8, 64)], 1, 0, 8),
        (trial(1), [node(8, 5)], 2, 0, 4),  # 4 GB are used: four trials
        (trial(1), [node(7, 5)], 2, 0, 3),  # one core each would be seven trials
        (trial(1), [node(8, 1)], 8, 0, 1),  # not even one fits; it is tried
        (trial(1), [node(8, 5), node(4, 64)], 2, 0, 4 + 2),
        (trial(2, 5), [node(16, 128, 1, 80)], 1, 0.0833, 12),
        (trial(2, 5), [node(64, 256, 1, 80)], 5, 0.0833, 12),  # cores left over are shared out
        (trial(2, 5), [node(16, 128, 4, 80)], 1, 0.25, 16),  # four cores a GPU
        (trial(2, 5), [node(16, 128, 1, 24)], 5, 0.3333, 3),
        (trial(2, 5), [node(64, 256, 1, 80), node(64, 256, 1, 24)], 21, 0.3333, 6),  # smallest
        (trial(10, 5), [node(16, 50, 2, 80)], 4, 0.5, 4),  # four in memory: two on each GPU
        (trial(2, 50), [node(16, 128, 1, 24)], 16, 1, 1),
        (trial(2), [node(16, 128, 2, None)], 8, 1, 2),  # logical GPUs: their memory is unknown
        (trial(2, 5), [node(0, 8), node(16, 128, 1, 24), node(8, 8)], 5, 0.3333, 3),
        (trial(2, 5), [node(2, 64, 4, 80)], 1, 1, 2),  # fewer cores than GPUs
    ],
)
def test_pack(footprint: Footprint, nodes: list[Node], cpu: int, gpu: float, count: int) -> None:
    assert pack(footprint, nodes) == Resources(cpu=cpu, gpu=gpu)
    assert at_once(pack(footprint, nodes), nodes) == count


memories = st.integers(GB // 4, 600 * GB)
machines = st.builds(
    Node,
    cores=st.integers(1, 256),
    memory_bytes=memories,
    gpus=st.integers(0, 16),
    gpu_bytes=st.one_of(st.none(), memories),
)
footprints = st.builds(
    Footprint,
    memory_bytes=st.integers(GB // 8, 50 * GB),
    gpu_bytes=st.one_of(st.none(), st.integers(GB // 8, 90 * GB)),
)


@given(footprint=footprints, nodes=st.lists(machines, min_size=1, max_size=4))
def test_never_more_than_there_is_and_at_least_one(
    footprint: Footprint, nodes: list[Node]
) -> None:
    held = pack(footprint, nodes)
    assert at_once(held, nodes) >= 1
    assert held.cpu >= 1
    for one in nodes:
        count = at_once(held, [one])
        assert count * held.cpu <= one.cores
        assert count * held.gpu <= one.gpus or not held.gpu
        assert count <= 1 or count * footprint.memory_bytes <= one.memory_bytes * (1 - MARGIN)
        if held.gpu and one.gpus:
            # Ray fills a GPU as long as a share is left, counted in ten-thousandths
            together = 10_000 // round(held.gpu * 10_000)
            known = footprint.gpu_bytes is not None and one.gpu_bytes is not None
            limit = (one.gpu_bytes or 0) * (1 - MARGIN)
            assert together == 1 or (known and together * (footprint.gpu_bytes or 0) <= limit)


@given(footprint=footprints, nodes=st.lists(machines, min_size=1, max_size=4))
def test_a_packed_trial_stays_below_the_cap_of_its_share(
    footprint: Footprint, nodes: list[Node]
) -> None:
    """PyTorch may allocate the share itself, TensorFlow the share less CUDA's own memory."""
    share = pack(footprint, nodes).gpu
    if not 0 < share < 1 or footprint.gpu_bytes is None:
        return
    assert footprint.gpu_bytes >= GB // 8
    for one in nodes:
        if one.gpus and one.cores:
            assert one.gpu_bytes is not None
            cap = share * one.gpu_bytes
            rounding = one.gpu_bytes / 10_000  # shares are counted in ten-thousandths
            assert footprint.gpu_bytes <= (cap + rounding) * (1 - MARGIN)
            assert footprint.gpu_bytes <= cap
            if (peak := footprint.gpu_bytes - CUDA_BYTES) > 0:
                assert peak <= cap - CUDA_BYTES


@given(footprint=footprints, machine=machines)
def test_one_machine_is_not_left_idle(footprint: Footprint, machine: Node) -> None:
    """Another trial would lack a core, memory, or a place on a GPU."""
    held = pack(footprint, [machine])
    count = at_once(held, [machine])
    fits = max(1, int(machine.memory_bytes * (1 - MARGIN)) // footprint.memory_bytes)
    parts = range(1, machine.cores + 1)  # equal and whole: seven cores never make five trials
    if not machine.gpus:
        assert count == max(machine.cores // cpu for cpu in parts if machine.cores // cpu <= fits)
        assert machine.cores - count * held.cpu < count  # less is over than one core for each
    elif footprint.gpu_bytes is not None and machine.gpu_bytes is not None:
        more = 10_000 // round(held.gpu * 10_000) + 1  # on each GPU
        assert (
            more * footprint.gpu_bytes > int(machine.gpu_bytes * (1 - MARGIN))
            or more * machine.gpus > machine.cores
            or (more - 1) * machine.gpus >= fits
            or more > 100  # shares of a GPU are counted in ten-thousandths
        )


def test_no_core_at_all() -> None:
    with pytest.raises(ValueError, match="no machine of the cluster has a core"):
        pack(trial(1), [node(0, 8)])


class TestGrid:
    def test_auto_is_kept_in_the_resolved_grid(self, tmp_path: Path) -> None:
        space = parse_space(grid(tmp_path, resources="auto"))
        assert space.resources == "auto"
        assert yaml.safe_load(space.to_yaml())["resources"] == "auto"
        assert parse_space(yaml.safe_load(space.to_yaml())) == space

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("atuo", r"`resources`: must be `auto` or a mapping .* got 'atuo'"),
            ({"cpu": "auto"}, r"`resources.cpu`: must be a number"),
            ({"cpus": 1}, r"`resources.cpus`: unknown key, did you mean `cpu`"),
            ({"cpu": 1.5}, r"`resources`: `cpu` above 1 must be a whole number, got 1.5"),
            (3, r"`resources`: must be a mapping"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, value: Any, said: str) -> None:
        with pytest.raises(GridError, match=said) as caught:
            parse_space(grid(tmp_path, resources=value))
        assert len(caught.value.problems) == 1

    def test_what_is_assumed_before(self, tmp_path: Path) -> None:
        space = parse_space(grid(tmp_path, resources="auto"))
        assert parallel_trials(space, 8, 0) == 8
        assert parallel_trials(space, 8, 2) == 2
        assert estimate.assumed(0) == Resources(cpu=1, gpu=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packing")
    phantom_dataset(root)
    return root


def measured(model: str, dataset: Path) -> estimate.Measured:
    """Measure a recipe in a process of its own, as memory that tests before used is used again."""
    recipe = Recipe(model=model, pretrained=False, batch_size=4)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(estimate.measure, recipe, open_dataset(dataset), threads=1).result()


@pytest.mark.slow
def test_a_larger_recipe_is_measured_larger(root: Path) -> None:
    """80 MB more of weights: with gradients and two moments, four times that at the least."""
    small, large = (
        measured(model, root / "dataset") for model in ("mobilenetv3_small_050", "resnet34")
    )
    assert small.gpu_bytes is None or small.gpu_bytes > 0
    assert large.memory_bytes - small.memory_bytes > 4 * 80 * 10**6
    assert small.train_per_s > large.train_per_s > 0


def test_the_pixels_that_a_trial_keeps_on_the_gpu_count(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe trains on a few batches; a trial keeps its reals, fakes and evaluated images."""
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1, 0.5], "seed": [1, 2]}
    planned = planner.plan(parse_space(grid(root, axes=axes)), root / "none")
    splits = planned.dataset.manifest["split"].value_counts()
    train, others = int(splits["train"]), int(splits.drop("train").sum())
    found = estimate.pixel_bytes(planned.cells, planned.sources)
    assert found == (2 * train + others) * 32 * 32
    monkeypatch.setattr(images, "RESIDENT_BYTES", 2 * train * 32 * 32 - 1)  # too many for one arm
    smaller = train + sum(
        planned.reals["dataset"].count(label) // 2 for label in planned.dataset.spec.labels
    )
    assert estimate.pixel_bytes(planned.cells, planned.sources) == (smaller + others) * 32 * 32


def test_every_recipe_is_measured_on_every_dataset(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger preparation of two decides, and the kept pixels are added on a GPU."""
    sources = planner.plan(parse_space(grid(root)), root / "none").sources
    (cell, *_) = planner.plan(parse_space(grid(root)), root / "none").cells
    one = sources[cell.source]
    both = {"whole": replace(one, dataset=str(root / "whole")), "crop": one}
    cells = [replace(cell, dataset=name) for name in both]
    asked = []

    def measured(recipe: str, dataset: str, on_gpu: bool) -> estimate.Measured:
        asked.append(Path(dataset).name)
        gpu = 6 * GB if dataset.endswith("whole") else 3 * GB
        return estimate.Measured(
            train_per_s=1, valid_per_s=1, memory_bytes=GB, gpu_bytes=gpu if on_gpu else None
        )

    monkeypatch.setattr(probe, "_measured", measured)
    monkeypatch.setattr(probe, "_nodes", lambda: [node(16, 128, 1, 40)])
    monkeypatch.setattr(estimate, "pixel_bytes", lambda *_: GB)
    held = probe.resources_for(cells, both, Console(file=io.StringIO()))
    assert sorted(asked) == ["dataset", "whole"]
    assert held.gpu == 0.25  # 7 GB with a fifth to spare are 8.75 GB of 40


def test_a_dry_run_says_auto(root: Path, fgaug: Any) -> None:
    path = write_grid(root, resources="auto")
    code, out, _ = fgaug("search", path, "--dry-run", "--out", root / "none")
    assert code == 0
    assert "`resources: auto`: adjusted by a measurement at the start" in out


ONE_CELL = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}  # and a baseline


def searched(out: Path, **changes: Any) -> tuple[Run, str]:
    """Return the run of a search with `resources: auto`, and the line that says what it took."""
    said = io.StringIO()
    space = parse_space(grid(out.parent, **{"axes": ONE_CELL, "resources": "auto", **changes}))
    run = search.search(space, out, console=Console(file=said, width=80), retries=0)
    (line,) = [line for line in said.getvalue().splitlines() if "resources: auto" in line]
    return run, line


@pytest.fixture(scope="class")
def cores() -> Iterator[None]:
    with started(cpus=3, gpus=0, dashboard=False):
        yield


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("cores")
class TestOnCores:
    def test_a_search_measures_and_says_so_once(self, root: Path) -> None:
        run, line = searched(root / "run")
        assert (run.ok, run.missing) == (2, 0)
        assert line.startswith(
            "resources: auto: {cpu: 1, gpu: 0} per trial, 3 at once; measured: "
        )
        assert line.endswith(" images/s")
        taken = float(line.split("measured: ")[1].split(" GB of memory")[0])
        assert 0.1 < taken < 3
        resolved = yaml.safe_load((run.root / "space.resolved.yaml").read_text())
        assert resolved["resources"] == "auto"
        assert set(load_results(run.root)["device"]) == {"cpu x1"}

    def test_where_memory_is_short_trials_get_more_cores(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A machine of 3 cores with memory for one trial: it trains on three threads."""
        monkeypatch.setattr(probe, "_nodes", lambda: [node(3, 0.5)])
        run, line = searched(root / "short")
        assert line.startswith("resources: auto: {cpu: 3, gpu: 0} per trial, 1 at once; ")
        assert set(load_results(run.root)["device"]) == {"cpu x3"}

    @pytest.mark.slow
    def test_what_cannot_be_measured_is_left_to_its_trials(self, root: Path) -> None:
        """A learning rate that ends in NaN at once fails in the measurement as in a trial."""
        recipe = {**grid(root)["recipe"], "learning_rate": 1e30}
        run, line = searched(root / "nan", recipe=recipe)
        assert (run.failed, run.missing) == (2, 0)
        assert (
            "{cpu: 1, gpu: 0} per trial, 3 at once; measurement failed: The training loss bec"
            in line
        )


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="Ray counts GPUs here that do not exist")
def test_one_trial_on_a_gpu_of_unknown_memory(root: Path) -> None:
    with started(cpus=4, gpus=2, dashboard=False):
        planned = planner.plan(parse_space(grid(root, resources="auto")), root / "none")
        said = io.StringIO()
        found = probe.resources_for(planned.todo, planned.sources, Console(file=said))
    assert found == Resources(cpu=2, gpu=1)
    assert "2 at once; measured: " in said.getvalue()
    assert "no CUDA here, so one trial per GPU" in said.getvalue()
