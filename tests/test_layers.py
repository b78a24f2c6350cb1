"""One direction of imports, read from the source; and what an import loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BORDER = {
    "bank",
    "cluster",
    "data",
    "errors",
    "first_bytes",
    "paths",
    "pixels",
}  # of fgaug, for gan_worker
ASSEMBLY = "fgaug/study/"  # where the two packages meet
RAY_ROOMS = ("fgaug/search/", "fgaug/cluster.py", "gan_worker/actor.py")
# the grid file's rooms
GRID = "grid_errors generators axes entries points grid_fit grid_load space"
HEAVY = ("torch", "torchvision", "timm", "tensorflow", "keras", "ray", "matplotlib", "sklearn")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module of a file by its full name, and whether a function imports it.

    `from fgaug import mix` counts as `fgaug.mix`; imports for type checkers alone are left out.
    """
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), inside=False)


def _imports(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "relative imports hide the direction"
            yield from ((f"{child.module}.{alias.name}", inside) for alias in child.names)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(child, inside or function)


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str) -> str:
    """Return `bank` of `fgaug.bank.Demand`; `` of `fgaug` itself."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("path", files("gan_worker"), ids=name)
def test_gan_worker_uses_the_border_of_fgaug_alone(path: Path) -> None:
    used = {room(module) for module, _ in imports(path) if below(module, "fgaug")}
    assert used <= BORDER


@pytest.mark.parametrize("path", files("fgaug"), ids=name)
def test_fgaug_meets_gan_worker_in_one_place_and_late(path: Path) -> None:
    met = [(module, late) for module, late in imports(path) if below(module, "gan_worker")]
    if not name(path).startswith(ASSEMBLY):
        assert met == []
    assert all(late for _, late in met)


@pytest.mark.parametrize("path", [*files("fgaug"), *files("gan_worker")], ids=name)
def test_ray_stays_in_its_rooms(path: Path) -> None:
    if not name(path).startswith(RAY_ROOMS):
        assert not [module for module, _ in imports(path) if below(module, "ray")]


TENSORFLOW_ROOM = "fgaug/training/keras/"
BESIDE_IT = ("known", "learner", "process", "shared")  # in the process that asks


@pytest.mark.parametrize("path", [*files("fgaug"), *files("gan_worker")], ids=name)
def test_tensorflow_and_torch_share_no_process(path: Path) -> None:
    used = [module for module, _ in imports(path)]
    there = name(path).startswith(TENSORFLOW_ROOM) and path.stem not in BESIDE_IT
    if there:
        assert not [module for module in used if below(module, "torch")]
    else:
        barred = ("tensorflow", "keras", "h5py", "fgaug.training.keras.child")
        assert not [module for module in used if any(below(module, each) for each in barred)]


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("errors", "*"),
        ("first_bytes", "*"),
        ("paths", f"bank data pixels {GRID} cells mix trial results training search report study"),
        ("pixels", f"bank data {GRID} cells mix trial results training search report study"),
        ("yaml_file", f"{GRID} cells mix trial search report study"),
        ("recipe", "*"),
        ("grid_errors", "*"),
        ("generators", "axes entries points space cells mix bank data trial results search study"),
        ("axes", "space cells mix bank data trial results training search report study"),
        ("space", "cells mix bank data trial results training search report study"),
        ("cells", "mix bank data trial results training search report study"),
        ("bank", f"{GRID} cells mix data trial results training search report study"),
        ("data", f"bank {GRID} cells mix trial results training search report study"),
        ("draws", "mix data trial results training search report study"),
        ("mix", "data trial results training search report study"),
        ("training", "bank cells mix trial results search report study"),
        ("quality", f"bank {GRID} cells mix trial results search report study"),
        ("results", f"bank data {GRID} cells mix trial training search report study"),
        ("trial", "search report study planning"),
        ("arm_names", "analysis report trial training search study planning bank data mix"),
        ("analysis", "report trial training search study planning bank data mix"),
        ("report", "trial training search study planning bank"),
    ],
)
def test_rooms_do_not_look_up(lower: str, higher: str) -> None:
    path = ROOT / "fgaug" / lower
    inside = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in inside:
        for module, _ in imports(file):
            if below(module, "fgaug") and not below(module, f"fgaug.{lower}"):
                assert higher != "*", f"{name(file)} imports {module}"
                assert room(module) not in higher.split(), f"{name(file)} imports {module}"


@pytest.mark.parametrize(
    "statement",
    [
        "import fgaug",
        "import gan_worker",
        "from fgaug import open_bank, load_results, load_space, open_dataset",
        "import fgaug.cells, fgaug.mix, fgaug.cluster",
        "import fgaug.analysis",
        "import fgaug.quality",
    ],
)
def test_light_imports_load_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
    assert done.stderr == ""


def test_this_test_sees_imports(tmp_path: Path) -> None:
    """A foil: every way to write an import is found."""
    path = tmp_path / "m.py"
    path.write_text(
        "import ray\nfrom ray import tune\nfrom fgaug import mix as m\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "class A:\n    def f(self):\n        if 1:\n            import gan_worker.fill\n"
    )
    assert list(imports(path)) == [
        ("ray", False),
        ("ray.tune", False),
        ("fgaug.mix", False),
        ("gan_worker.fill", True),
    ]
    path.write_text("from . import x\n")
    with pytest.raises(AssertionError, match="hide the direction"):
        list(imports(path))


def test_the_name_search_stays_the_function() -> None:
    """The folder `fgaug/search` would take the name once it is loaded."""
    import fgaug
    from fgaug import study

    importlib.import_module("fgaug.search.ledger")
    assert fgaug.search is study.search
    assert sys.modules["fgaug.search"] is not fgaug.search
