"""The wheel: built, installed without its dependencies, run outside the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLONE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(CLONE)], check=True, capture_output=True, timeout=120)
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_carries_both_packages_the_grids_and_the_published_tables(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "fgaug/cli/app.py",
        "fgaug/py.typed",
        "fgaug/analysis/report/page.html.j2",
        "fgaug/analysis/report/page.css",
        "fgaug/core/grafana_dashboard.json",
        "gan_worker/generators/stylegan2.py",
        "gan_worker/py.typed",
        "fgaug/_shipped/search_spaces/demo.yaml",
        "fgaug/_shipped/published/thesis_tables.csv",
    ):
        assert name in names
    folder = CLONE / "search_spaces"
    shipped = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert any(name.startswith("nets/") for name in shipped)
    assert {f"fgaug/_shipped/search_spaces/{name}" for name in shipped} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.slow
def test_the_installed_wheel_plans_the_demo_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    homes = "import fgaug, gan_worker; print(fgaug.__file__, gan_worker.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", homes],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert all(Path(name).is_relative_to(site) for name in where.stdout.split())
    demo = subprocess.run(
        [sys.executable, "-m", "fgaug", "demo", "--dry-run"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stderr
    assert "to generate" in demo.stdout
    assert "cells in" in demo.stdout
    assert not list(elsewhere.iterdir()), "a dry run writes nothing"
