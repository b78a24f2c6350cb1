"""The precision of generators: part of a bank and of cells, except float32; `auto` chosen once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_grid import grid, phantom_dataset

from fgaug.bank import Demand, open_bank, open_store, read_spec
from fgaug.core.paths import RunPaths
from fgaug.errors import GridError
from fgaug.grid.load import parse_space
from fgaug.study import generator_precision, planner
from fgaug.study.banks import fill_from_snapshots
from fgaug.study.generators import label_sources
from fgaug.study.plan import Plan
from fgaug.study.precision import Speed, record
from gan_worker.filling.fill import fill

NETWORK = str(Path(__file__).parent / "data" / "stylegan2" / "a.pkl")  # 32 px, gray
NETWORKS = {"dbp": NETWORK, "trv": NETWORK}
FAST = Speed(device="the processor", unit="AMX", times=1.9)
SLOW = Speed(device="the processor", unit="AVX512-BF16", times=1.05)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generator")
    phantom_dataset(root)
    return root


def planned(root: Path, out: Path, bank: Path, precision: str | None) -> Plan:
    generator: dict[str, Any] = {"snapshots": NETWORKS}
    if precision is not None:
        generator["precision"] = precision
    value = grid(root, generator=generator, bank=str(bank), pool=200)
    return planner.plan(parse_space(value), out)


def ids(plan: Plan) -> list[str]:
    return [cell.cell_id for cell in plan.cells]


def measured(monkeypatch: pytest.MonkeyPatch, speed: Speed | None) -> None:
    """Let networks have a speed; None: measuring one fails the test."""
    monkeypatch.setattr(
        generator_precision, "speed_of", lambda *_: speed or pytest.fail("measured")
    )


def test_float32_is_in_no_identity_and_the_others_are(root: Path, tmp_path: Path) -> None:
    plans = {
        kind: planned(root, tmp_path / "run", tmp_path / "bank", kind)
        for kind in (None, "float32", "bfloat16", "float16")
    }
    found = {kind: plan.needs[0].source for kind, plan in plans.items()}
    assert found["float32"].identity == found[None].identity
    assert found["float32"].spec == found[None].spec
    assert "precision" not in found["float32"].identity
    assert ids(plans["float32"]) == ids(plans[None])
    for kind in ("bfloat16", "float16"):
        assert found[kind].identity == {**found[None].identity, "precision": kind}
        assert found[kind].spec.precision == kind
        changed = set(ids(plans[kind])) - set(ids(plans[None]))
        assert len(changed) == 2  # the arm's two seeds, and not the baseline's
    assert not plans["bfloat16"].precisions


def test_auto_makes_the_cells_of_the_precision_it_stands_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for speed, kind, times in ((FAST, "bfloat16", 1.9), (SLOW, "float32", 1.05)):
        measured(monkeypatch, speed)
        out, bank = tmp_path / kind, tmp_path / f"bank {kind}"
        auto = planned(root, out, bank, "auto")
        assert ids(auto) == ids(planned(root, out, bank, kind))
        assert auto.needs[0].source.spec.precision == kind
        (choice,) = auto.precisions
        assert choice.described.startswith(f"precision: auto: {kind} for the generator of dbp ")
        assert f"bfloat16 generates {times:.2f} times as fast as float32 with" in choice.reason


def test_a_run_keeps_its_choice_on_other_hardware(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, FAST)
    first = planned(root, tmp_path / "run", tmp_path / "bank", "auto")
    record(RunPaths(tmp_path / "run"), first.precisions)
    measured(monkeypatch, None)
    assert ids(planned(root, tmp_path / "run", tmp_path / "elsewhere", "auto")) == ids(first)
    kept = json.loads(RunPaths(tmp_path / "run").precision.read_text())
    assert [each["precision"] for each in kept] == ["bfloat16"]


def test_a_bank_keeps_the_precision_of_its_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("bfloat16", "float16"):
        bank = tmp_path / kind
        plan = planned(root, tmp_path / "run", bank, kind)
        (needs,) = plan.needs
        some = Demand.of([("dbp", 1.0, np.arange(1, 4))])
        fill(bank, needs.source.spec, label_sources(needs.source), some)
        assert read_spec(open_store(bank)).precision == kind
        measured(monkeypatch, None)
        assert ids(planned(root, tmp_path / "run", bank, "auto")) == ids(plan)
    with pytest.raises(GridError, match="its precision is float16, not float32"):
        planned(root, tmp_path / "run", tmp_path / "float16", None)


def test_a_network_that_is_missing_is_reported_and_not_measured(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, None)
    generator = {"snapshots": {**NETWORKS, "trv": "missing.pkl"}, "precision": "auto"}
    value = grid(root, generator=generator, bank=str(tmp_path / "bank"))
    with pytest.raises(GridError, match=r"missing\.pkl"):
        planner.plan(parse_space(value), tmp_path / "run")


def test_the_speed_is_measured_where_there_is_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_precision, "bfloat16_unit", lambda device: None)
    found = generator_precision.speed_of(NETWORK, "seeded", on_gpu=False)
    assert found == Speed(device="the processor", unit=None)
    monkeypatch.setattr(generator_precision, "bfloat16_unit", lambda device: "AMX")
    found = generator_precision.speed_of(NETWORK, "seeded", on_gpu=False)
    assert found.times is not None
    assert 0 < found.times < 20
    assert generator_precision.speed_of("missing.pkl", "seeded", on_gpu=False).times is None


@pytest.mark.ray
def test_bank_fill_takes_auto_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
) -> None:
    measured(monkeypatch, FAST)
    given = {"noise": "const", "size": None, "channels": None, "cutoff": None}
    for number, seeds in enumerate(([1, 2], [3])):
        fill_from_snapshots(
            str(tmp_path), {"trv": (NETWORK, None)}, [0.7], seeds, precision="auto",
            console=Console(quiet=True), **given,
        )  # fmt: skip
        assert read_spec(open_store(tmp_path)).precision == "bfloat16"
        assert len(open_bank(tmp_path).index()) == 2 + number
        measured(monkeypatch, None)  # the bank decides from now on
    code, _, err = fgaug(
        "bank", "fill", tmp_path, "--snapshot", f"trv={NETWORK}", "--psi", "0.7", "--seeds", "1",
        "--precision", "half",
    )  # fmt: skip
    assert (code, "--precision must be float32, float16, bfloat16 or auto, got half" in err) == (
        2,
        True,
    )
