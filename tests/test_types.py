"""Types of the public names, as mypy --strict finds them for a user's script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# mypy reads both packages and the libraries that they import: 40 s on an idle core
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SCRIPT = """\
import numpy as np

import fgaug
import gan_worker

run = fgaug.search("grid.yaml", "runs/x", dashboard=False)
again = fgaug.open_run("runs/x")
rows = fgaug.load_results(run)
bank = fgaug.open_bank("banks/x")
images = bank.read(label="trv", psi=0.7, z_seeds=[1, 2])
dataset = fgaug.open_dataset("data/x")
network = gan_worker.load_generator("net.pkl")
y, p = np.array([0, 1]), np.array([0.2, 0.9])
roc = fgaug.stats.delong(y, p, p)
"""
REVEALED = {  # expression -> its type, less the modules that define it
    "run": "Run",
    "run.root": "Path",
    "run.exit_code": "int",
    "run.results()": "DataFrame",
    "run.curves()": "DataFrame",
    "run.predictions()": "DataFrame",
    "run.status()": "Status",
    "run.status().failures": "tuple[Failure, ...]",
    "run.report(open_test=False)": "Path",
    'run.confirm(["a"], seeds=20)': "Confirmed",
    'run.confirm(["a"]).lines': "tuple[str, ...]",
    'run.replay("a")': "Replay",
    'run.replay("a").row[0].then': "object",
    "again": "Run",
    "rows": "DataFrame",
    'fgaug.load_results("runs/x")': "DataFrame",
    "fgaug.load_curves(again)": "DataFrame",
    "fgaug.load_predictions(again)": "DataFrame",
    'fgaug.load_space("grid.yaml")': "Space",
    'fgaug.plan("grid.yaml").cells': "tuple[Cell, ...]",
    'fgaug.compare("a", "b")': "TwoModels | TwoArms",
    'fgaug.predict("model.safetensors", "img")': "DataFrame",
    "bank": "Bank",
    "bank.index()": "DataFrame",
    "images.shape": "tuple[int, int, int, int]",
    "images.dtype": "dtype[unsignedinteger[_8Bit]]",
    "dataset": "Dataset",
    "dataset.manifest": "DataFrame",
    "dataset.spec.labels": "tuple[str, ...]",
    "dataset.pixels().shape": "tuple[int, int, int, int]",
    "network": "StyleGan2Generator",
    "network.generate([1], psi=0.7, label=None).shape": "tuple[int, int, int, int]",
    "network.synthesize([1], psi=0.7).dtype": "dtype[floating[_32Bit]]",
    "roc": "DeLong",
    "roc.p_value": "float",
    "fgaug.stats.mcnemar([[1, 2], [3, 4]]).p_value": "float",
    "fgaug.quality.fid(p, p)": "float",
    "fgaug.quality.precision_recall(p, p)": "tuple[float, float]",
    "fgaug.quality.realism(p, p).dtype": "dtype[float64]",
    "fgaug.__version__": "str",
}
FOILS = {  # a line -> the code of the error that it must give
    'run.exit_code + "1"': "operator",
    "fgaug.load_results(3)": "arg-type",
    'fgaug.open_run("runs/x").resluts()': "attr-defined",
    'fgaug.serach("grid.yaml")': "attr-defined",
    "from gan_worker import load_generators": "attr-defined",
    'fgaug.search("grid.yaml", gpu=1)': "call-arg",
    'bank.read(label="trv", psi="0.7", z_seeds=[1])': "arg-type",
    "count: int = fgaug.quality.fid(p, p)": "assignment",
}
Check = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Return what mypy --strict says of a script in a user's folder; one cache for all."""
    folder = tmp_path_factory.mktemp("user")
    # on `sys.path` the packages are to mypy what installed ones are: typed by py.typed alone
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPY_CACHE_DIR": str(folder / "cache")}
    environment.pop("MYPYPATH", None)

    def run(text: str) -> list[str]:
        (folder / "script.py").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "script.py"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


def test_a_users_script_finds_types_and_no_any(check: Check) -> None:
    *notes, last = check(SCRIPT + "".join(f"reveal_type({each})\n" for each in REVEALED))
    assert last == "Success: no issues found in 1 source file"
    types = [note.partition('Revealed type is "')[2].removesuffix('"') for note in notes]
    assert not [each for each in types if re.search(r"\bAny\b", each)]
    bare = [re.sub(r"[A-Za-z_]\w*\.", "", each) for each in types]
    assert dict(zip(REVEALED, bare, strict=True)) == REVEALED


def test_a_wrong_type_or_name_is_an_error(check: Check) -> None:
    *errors, last = check(SCRIPT + "".join(f"{each}\n" for each in FOILS))
    first = len(SCRIPT.splitlines()) + 1
    found = [re.match(r"script.py:(\d+): error: .*\[([a-z-]+)\]$", each) for each in errors]
    by_line = {int(each[1]) - first: each[2] for each in found if each}
    assert by_line == dict(enumerate(FOILS.values()))
    assert last.startswith(f"Found {len(FOILS)} errors")
