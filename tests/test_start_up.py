"""The command line starts light: `--help` and `status` load no library of numbers."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fgaug.core import files
from fgaug.core.paths import RunPaths
from fgaug.grid import filters
from fgaug.runs import status
from fgaug.runs.results import write_row

ROOT = Path(__file__).parent.parent
HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "matplotlib",
    "PIL",
    "torch",
    "torchvision",
    "timm",
    "tensorflow",
    "keras",
    "ray",
    "psutil",
}
GROUPS = {"fgaug.cli.bank", "fgaug.cli.data", "fgaug.cli.gan"}
PROBE = """
import sys
from fgaug.cli.app import main
try:
    main()
except SystemExit as end:
    print("\\nexit", end.code)
print("loaded", *sys.modules)
"""


def modules_of(*arguments: object) -> tuple[str, set[str]]:
    """Return what a command prints and the modules it loads, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    text, _, loaded = done.stdout.rpartition("loaded ")
    assert text.endswith("exit 0\n"), text
    return text, set(loaded.split())


def a_run(root: Path) -> RunPaths:
    """Write a run of two cells, one ok and one failed."""
    run = RunPaths(root)
    names = ["0" * 12, "1" * 12]
    files.write_text(run.space, "name: little\n")
    files.write_json(run.environment, {"cells": names})
    row = {"mode": "augmentation", "psi": 0.5, "ratio": 2, "filter": "none", "seed": 7}
    write_row(run.trial(names[0]), {**row, "status": "ok"})
    write_row(run.trial(names[1]), {**row, "status": "failed", "error": "out of memory"})
    return run


@pytest.mark.parametrize(
    "command",
    ["", "search", "status", "compare", "power", "data prepare", "bank export", "gan train"],
)
def test_help_loads_no_heavy_library(command: str) -> None:
    text, loaded = modules_of(*command.split(), "--help")
    assert "Usage:" in text
    assert loaded & HEAVY == set()


def test_status_loads_no_heavy_library(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    for form in ("text", "json"):
        text, loaded = modules_of("status", run.root, "--format", form)
        assert "out of memory" in text
        assert loaded & (HEAVY | GROUPS | {"rich"}) == set()


def test_the_version_is_that_of_the_installed_package_and_loads_no_heavy_library() -> None:
    text, loaded = modules_of("--version")
    assert text == f"fgaug {importlib.metadata.version('fgaug')}\n\nexit 0\n"
    assert loaded & (HEAVY | GROUPS | {"rich"}) == set()


def test_this_test_sees_what_is_loaded() -> None:
    """A foil: a group's own help loads its module, and only that one."""
    text, loaded = modules_of("bank", "--help")
    assert "import" in text
    assert loaded & GROUPS == {"fgaug.cli.bank"}


def test_the_filter_word_of_status_is_that_of_filters() -> None:
    assert status._NO_FILTER == filters.NONE
