"""bfloat16: what is computed in it, what stays float32, and what `auto` stands for in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_grid import grid, phantom_dataset
from torch import nn

import fgaug
from fgaug.core import cluster
from fgaug.core import precision as hardware
from fgaug.core.paths import RunPaths
from fgaug.data import open_dataset
from fgaug.errors import RunError
from fgaug.grid.cells import recipe_identity
from fgaug.grid.load import parse_space
from fgaug.grid.points import expand
from fgaug.grid.recipe import Recipe
from fgaug.grid.space import Space
from fgaug.study import planner, precision, search
from fgaug.study.precision import Choice, Choices, Speed, chosen, record
from fgaug.training.images import Images
from fgaug.training.load_model import load_predictor
from fgaug.training.pytorch import models
from fgaug.training.saved_model import read
from fgaug.training.weights import SCRATCH

MODEL = "mobilenetv3_small_050"
NAME = f"torch {MODEL} at 32 px"


def network(kind: str, model: str = MODEL) -> models.Classifier:
    torch.manual_seed(5)
    recipe = Recipe(model=model, pretrained=False, precision=kind, dropout=0)
    return models.build(recipe, SCRATCH, 2)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    coarse = torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")


def dtypes_of(model: models.Classifier, batch: torch.Tensor) -> dict[type, set[torch.dtype]]:
    """Return the types of what each kind of layer returns."""
    found: dict[type, set[torch.dtype]] = {}

    def note(layer: nn.Module, given: Any, returned: Any) -> None:
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
        kind = _Depthwise if depthwise else type(layer)
        found.setdefault(kind, set()).add(returned.dtype)

    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    model(batch)
    return found


class _Depthwise:
    pass


def test_dense_layers_compute_in_bfloat16_and_depthwise_ones_and_the_head_do_not(
    batch: torch.Tensor,
) -> None:
    found = dtypes_of(network("bfloat16"), batch)
    assert found[nn.Conv2d] == {torch.bfloat16}
    assert found[_Depthwise] == {torch.float32}
    assert found[nn.Linear] == found[nn.BatchNorm1d] == {torch.float32}


def test_weights_gradients_and_logits_stay_float32(batch: torch.Tensor) -> None:
    model = network("bfloat16")
    logits = model(batch)
    logits.sum().backward()
    assert logits.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.running_var.dtype for m in norms if m.running_var is not None} == {torch.float32}


@pytest.mark.parametrize("model", ["resnet10t", MODEL])
def test_bfloat16_gives_nearly_the_logits_of_float32(model: str, batch: torch.Tensor) -> None:
    exact, rough = (network(kind, model)(batch) for kind in ("float32", "bfloat16"))
    assert 0 < (exact - rough).std() < 0.2 * exact.std()


def test_float32_is_what_it_was_before_there_was_a_choice(batch: torch.Tensor) -> None:
    found = dtypes_of(network("float32"), batch)
    assert set().union(*found.values()) == {torch.float32}
    plain = {type(layer).__name__ for layer in network("float32").modules()}
    assert not [name for name in plain if name.startswith("Float32")]


def test_a_network_is_freed_with_its_last_reference() -> None:
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(network("bfloat16"))
        assert gone() is None
    finally:
        gc.enable()


def test_an_identity_names_the_precision_only_if_it_is_not_float32() -> None:
    ids = {
        kind: recipe_identity(recipe, {recipe.model_dump_json(): "scratch"})
        for kind in ("float32", "bfloat16")
        for recipe in [Recipe(precision=kind)]
    }
    assert "precision" not in ids["float32"]
    assert ids["bfloat16"] == {**ids["float32"], "precision": "bfloat16"}


FAST = Speed(device="the processor", unit="AMX", times=1.9)
SLOW = Speed(device="the processor", unit="AVX512-BF16", times=1.09)
NONE = Speed(device="the processor", unit=None)
FAILED = Speed(device="the processor", unit="AMX")


@pytest.mark.parametrize(
    ("speeds", "kind", "why"),
    [
        ([FAST], "bfloat16", "bfloat16 trains 1.90 times as fast as float32 with AMX"),
        ([SLOW], "float32", "bfloat16 trains 1.09 times as fast as float32 with AVX512-BF16"),
        ([FAST, SLOW], "float32", "trains 1.09 times as fast as float32 with AMX and AVX512-BF16"),
        ([NONE], "float32", "the processor of this machine has no unit for bfloat16"),
        ([FAST, NONE], "float32", "the processor of some nodes have no unit for bfloat16"),
        ([FAILED], "float32", "the speed could not be measured"),
        ([], "float32", "the cluster had no node to measure it on"),
        ([FAST, FAILED], "float32", "the speed could not be measured on every node"),
    ],
)
def test_auto_is_bfloat16_where_every_node_is_faster_by_it(
    speeds: list[Speed], kind: str, why: str
) -> None:
    found = chosen(NAME, "resnet18", speeds)
    assert (found.precision, found.reason) == (kind, why) or found.reason.endswith(why)


def test_a_model_whose_results_change_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "UNEQUAL", frozenset({"resnet18"}))
    found = chosen(NAME, "resnet18", [FAST])
    assert found.precision == "float32"
    assert found.reason == "bfloat16 was found to change the results of resnet18"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("precision")
    phantom_dataset(root)
    return root


def space(root: Path, kind: str, **changes: Any) -> Space:
    recipe = {"model": MODEL, "pretrained": False, "batch_size": 16, "precision": kind}
    return parse_space(grid(root, recipe=recipe, **changes))


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "speed_of", lambda *given: FAST)


def test_auto_makes_the_cells_of_the_precision_it_stands_for(
    root: Path, tmp_path: Path, fast: None
) -> None:
    planned = planner.plan(space(root, "auto"), tmp_path)
    named = planner.plan(space(root, "bfloat16"), tmp_path)
    assert [cell.cell_id for cell in planned.cells] == [cell.cell_id for cell in named.cells]
    assert {cell.recipe.precision for cell in planned.cells} == {"bfloat16"}
    assert planned.precisions == (
        Choice(recipe=NAME, precision="bfloat16", reason=chosen("", "", [FAST]).reason),
    )
    assert not named.precisions


def test_float32_keeps_the_ids_that_cells_had_before(root: Path, tmp_path: Path) -> None:
    recipe = {"model": MODEL, "pretrained": False, "batch_size": 16}
    before = planner.plan(parse_space(grid(root, recipe=recipe)), tmp_path)
    now = planner.plan(space(root, "float32"), tmp_path)
    assert [cell.cell_id for cell in before.cells] == [cell.cell_id for cell in now.cells]


def test_a_run_keeps_its_choice_on_other_hardware(
    root: Path, tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunPaths(tmp_path)
    first = planner.plan(space(root, "auto"), tmp_path)
    record(run, first.precisions)
    monkeypatch.setattr(precision, "speed_of", lambda *given: NONE)
    second = planner.plan(space(root, "auto"), tmp_path)
    assert [cell.cell_id for cell in second.cells] == [cell.cell_id for cell in first.cells]
    record(run, second.precisions)  # nothing new
    elsewhere = planner.plan(space(root, "auto"), tmp_path / "other")
    assert {cell.recipe.precision for cell in elsewhere.cells} == {"float32"}


def test_two_searches_of_a_run_cannot_choose_differently(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    record(run, [chosen(NAME, MODEL, [FAST])])
    with pytest.raises(RunError, match=r"chose bfloat16 for torch .* this one chose float32. St"):
        record(run, [chosen(NAME, MODEL, [NONE])])
    record(run, [chosen("torch resnet18 at 32 px", "resnet18", [NONE])])
    assert [each["precision"] for each in json.loads(run.precision.read_text())] == [
        "float32",
        "bfloat16",
    ]


@pytest.mark.parametrize("text", ["[1]", '[{"recipe": "x"}]', "{", '[{"recipe": "x", "a": 1}]'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    run = RunPaths(tmp_path)
    run.precision.write_text(text)
    with pytest.raises(RunError, match="Restore"):
        Choices(run, None)


def test_the_model_is_measured_where_there_is_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(model=MODEL, pretrained=False, batch_size=16).model_dump_json()
    monkeypatch.setattr(precision, "bfloat16_unit", lambda device: None)
    assert precision.speed_of(recipe, 32, 1, 2, on_gpu=False) == NONE
    monkeypatch.setattr(precision, "bfloat16_unit", lambda device: "AMX")
    found = precision.speed_of(recipe, 32, 1, 2, on_gpu=False)
    assert found.times is not None
    assert 0 < found.times < 20
    unknown = Recipe(model="nothing", pretrained=False).model_dump_json()
    assert precision.speed_of(unknown, 32, 1, 2, on_gpu=False).times is None


def test_the_unit_is_what_the_system_reports() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    expected = "AMX" if "amx_bf16" in flags else None
    expected = expected or ("AVX512-BF16" if "avx512_bf16" in flags else None)
    assert hardware.bfloat16_unit("cpu") == expected


@pytest.mark.ray
def test_every_node_of_a_cluster_is_asked(root: Path, tmp_path: Path) -> None:
    points = expand(space(root, "auto"))
    spec = open_dataset(root / "dataset").spec
    with cluster.started(cpus=2, gpus=0, dashboard=False):
        choices = Choices(RunPaths(tmp_path), None)
        found = choices.resolve(points, spec)
    (choice,) = choices.used
    assert {point.recipe.precision for point in found} == {choice.precision}
    unit = hardware.bfloat16_unit("cpu")
    assert f"with {unit}" in choice.reason if unit else "no unit for bfloat16" in choice.reason


@pytest.mark.ray
def test_a_search_under_auto_names_what_it_was(root: Path, tmp_path: Path, fast: None) -> None:
    quiet = Console(quiet=True)
    run = search.search(
        space(root, "auto", keep_models="all"), tmp_path, console=quiet, dashboard=False
    )
    rows = fgaug.load_results(tmp_path)
    assert run.ok == len(rows) == 4
    assert set(rows["computed_in"]) == {"bfloat16"}
    (choice,) = json.loads(RunPaths(tmp_path).precision.read_text())
    assert (choice["recipe"], choice["precision"]) == (NAME, "bfloat16")
    cell_id = rows["cell_id"].iloc[0]
    kept = read(RunPaths(tmp_path).trial(cell_id).model)
    assert kept.card.recipe["precision"] == "bfloat16"
    dataset = open_dataset(root / "dataset")
    valid = np.flatnonzero(dataset.manifest["split"].eq("valid"))
    images = Images(
        sources=[dataset.pixels()],
        source=np.zeros(len(valid), np.int64),
        row=valid,
        label=np.zeros(len(valid), np.int64),
    )
    predicted = load_predictor(kept, torch.device("cpu")).predict(images)
    found = fgaug.load_predictions(tmp_path).query("cell_id == @cell_id").filter(like="p_")
    assert np.array_equal(predicted, found.to_numpy())
