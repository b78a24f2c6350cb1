"""Which room may import which, read from the source; and what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Room -> rooms it may import; a * means: inside functions only, so that it stays unloaded. Imports
# for type checkers and imports inside functions count like any other.
ROOMS = {
    "errors": "",
    "core": "errors",
    "stats": "errors core",
    "data": "errors core",
    "bank": "errors core",
    "grid": "errors core bank",
    "gan_worker": "errors core data bank",
    "training": "errors core data grid",
    "runs": "errors core data bank grid training",
    "quality": "errors core data bank grid stats training gan_worker*",
    "analysis": "errors core data bank grid stats training runs quality",
    "study": "errors core data bank grid stats training runs quality analysis* gan_worker*",
    "cli": "errors core data bank grid stats training runs quality analysis study gan_worker*",
}
# Old names that scripts outside still import: imports alone, and nothing inside imports them.
OLD_NAMES = {
    "fgaug.recipe": "fgaug.grid.recipe",
    "fgaug.training.models": "fgaug.training.pytorch.models",
    "gan_worker.snapshot": "gan_worker.files.snapshot",
}
PARTS = {  # part of a room -> modules of its own room that it may not import
    "fgaug.study.tune": "fgaug.study",
    "fgaug.analysis.findings": "fgaug.analysis",
    "fgaug.analysis.power": "fgaug.analysis.compare fgaug.analysis.report",
    "fgaug.analysis.compare": "fgaug.analysis.power fgaug.analysis.report",
}
EXCEPT = {  # what a part may import all the same
    "fgaug.study.tune": ("fgaug.study.estimate", "fgaug.study.resources"),
    "fgaug.analysis.findings": ("fgaug.analysis.format",),
}
LIGHT = {"fgaug.analysis.format"}  # words for verdicts; loads nothing, so it may be imported early
GRID_FROM_BANK = {"fgaug.bank.score_columns"}  # names of columns that filters read
RAY_ROOMS = ("fgaug.study.tune", "fgaug.core.cluster", "gan_worker.filling.actor")
HEAVY = ("torch", "torchvision", "timm", "tensorflow", "keras", "ray", "matplotlib", "sklearn")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `module` by its full name, `late` where a function imports it."""

    module: str
    late: bool


def imports(text: str) -> Iterator[Import]:
    """Yield every import of a source text; `from fgaug.runs import mix` is `fgaug.runs.mix`."""
    yield from _imports(ast.parse(text), inside=False)


def _imports(node: ast.AST, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "relative imports hide the direction"
            yield from (Import(f"{child.module}.{a.name}", inside) for a in child.names)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, inside or function)


@lru_cache(maxsize=1)
def sources() -> Mapping[str, str]:
    """Return the source of every module of both packages, by its full name."""
    found = {}
    for package in ("fgaug", "gan_worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    assert len(found) > 300
    return found


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str) -> str:
    """Return `bank` of `fgaug.bank.Demand`, `gan_worker` of any of its modules, `` of `fgaug`."""
    first, *rest = module.split(".")
    return "gan_worker" if first == "gan_worker" else rest[0] if rest else ""


def module_of(name: str, modules: Mapping[str, str]) -> str | None:
    """Return the module that an imported name is, or is defined in; None for other libraries."""
    while name not in modules:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return name


def faults(modules: Mapping[str, str]) -> list[str]:
    """Return every import that the tables above do not allow."""
    found = []
    for name, text in modules.items():
        here = room(name)
        if name in ("fgaug", "fgaug.__main__", *OLD_NAMES):
            continue  # the public names: anything, as long as it is light (below)
        allowed = {word.rstrip("*"): word.endswith("*") for word in ROOMS[here].split()}
        for each in imports(text):
            there = module_of(each.module, modules)
            if there is None or there == name:
                continue
            if there in OLD_NAMES:
                found.append(f"{name} imports {there}: an old name, for scripts outside")
                continue
            to = room(there)
            if to == here:
                found += _inside_a_room(name, there)
            elif not to:
                found.append(f"{name} imports the public door, {there}")
            elif to not in allowed:
                found.append(f"{name} imports {there}: `{here}` may not import `{to}`")
            elif allowed[to] and there not in LIGHT and _at_the_head(text, each):
                found.append(f"{name} imports {there} at its head: `{to}` inside functions only")
            elif here == "grid" and to == "bank" and there not in GRID_FROM_BANK:
                found.append(f"{name} imports {there}: `grid` knows names of score columns only")
    return found


def _inside_a_room(name: str, there: str) -> list[str]:
    return [
        f"{name} imports {there}: {part} may not"
        for part, barred in PARTS.items()
        if below(name, part) and not below(there, part)
        if any(below(there, each) for each in barred.split())
        if there not in EXCEPT.get(part, ())
    ]


def _at_the_head(text: str, each: Import) -> bool:
    """Return whether importing the module runs this import: late ones and types are left out."""
    heads = [
        node
        for node in ast.parse(text).body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return not each.late and each in _imports(ast.Module(heads, []), inside=False)


def circles(modules: Mapping[str, str]) -> list[list[str]]:
    """Return the circles among modules: strongly connected components by Tarjan's algorithm.

    A package's `__init__` that only passes names on is no part of a circle: a name is followed to
    the module that defines it.
    """
    edges = {name: _targets(name, text, modules) for name, text in modules.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            circle, stack[at:] = stack[at:], []
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def _targets(name: str, text: str, modules: Mapping[str, str]) -> set[str]:
    if name == "fgaug" or _is_package(name, modules):
        return set()  # a door: see `_home`
    homes = (_home(each.module, modules) for each in imports(text))
    return {home for home in homes if home is not None and home != name}


def _is_package(name: str, modules: Mapping[str, str]) -> bool:
    return any(other.startswith(f"{name}.") for other in modules)


def _home(name: str, modules: Mapping[str, str]) -> str | None:
    """Return the module that defines an imported name, through the doors that pass it on."""
    module = module_of(name, modules)
    if module is None or module == name or not _is_package(module, modules):
        return module
    last = name.removeprefix(f"{module}.")
    for each in imports(modules[module]):
        if each.module.endswith(f".{last}") and each.module != name:
            return _home(each.module, modules)
    return module


def test_rooms_import_what_the_table_allows() -> None:
    assert faults(sources()) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {room(name) for name in sources() if name not in OLD_NAMES}
    assert rooms - {"", "__main__"} == set(ROOMS)


@pytest.mark.parametrize(("old", "now"), OLD_NAMES.items())
def test_old_names_hold_imports_alone(old: str, now: str) -> None:
    _, *statements = ast.parse(sources()[old]).body
    assert {node.module for node in statements if isinstance(node, ast.ImportFrom)} == {now}
    assert all(isinstance(node, ast.ImportFrom) for node in statements)


def test_modules_form_no_circle() -> None:
    assert circles(sources()) == []


def foil(**texts: str) -> dict[str, str]:
    """Return a small tree with the given modules, `.` written as `__`."""
    empty = {f"fgaug.{name}": "" for name in ROOMS if name != "gan_worker"}
    given = {f"fgaug.{name.replace('__', '.')}": text for name, text in texts.items()}
    return {"fgaug": "", "gan_worker": "", **empty, **given}


@pytest.mark.parametrize(
    "text",
    [
        "from fgaug.study import planner",
        "import fgaug.study.planner",
        "def f():\n    from fgaug.study import planner",
        "def f():\n    def g():\n        import fgaug.study.planner as p",
        "if TYPE_CHECKING:\n    from fgaug.study.planner import Plan",
        "class A:\n    def f(self):\n        if 1:\n            from fgaug.study import planner",
    ],
)
def test_a_foil_that_looks_up_is_found(text: str) -> None:
    (fault,) = faults(foil(bank__reader=text, study__planner="Plan = 1"))
    assert fault == (
        "fgaug.bank.reader imports fgaug.study.planner: `bank` may not import `study`"
    )


@pytest.mark.parametrize(
    ("names", "text", "words"),
    [
        ("study__plan", "from gan_worker import fill", "inside functions only"),
        ("grid__filters", "from fgaug.bank import reader", "names of score columns only"),
        ("study__tune__runner", "from fgaug.study import plan", "fgaug.study.tune may not"),
        ("analysis__findings__arms", "from fgaug.analysis.report import page", "may not"),
        ("runs__row", "import fgaug", "the public door"),
        ("core__files", "def f():\n    from fgaug.cli import app", "may not import `cli`"),
        ("study__fill", "from fgaug.recipe import Recipe", "an old name"),
    ],
)
def test_a_foil_of_each_rule_is_found(names: str, text: str, words: str) -> None:
    around = dict.fromkeys(("bank__reader", "study__plan", "analysis__report__page", "recipe"), "")
    (fault,) = faults(foil(**{**around, names: text}))
    assert words in fault


def test_what_the_table_allows_is_no_fault() -> None:
    late = "def f():\n    from gan_worker import fill\n    from fgaug.analysis import format"
    types = "if TYPE_CHECKING:\n    from gan_worker.fill import Fill"
    assert faults(foil(study__plan=late, study__fill=types, grid__a="import fgaug.core")) == []


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("from fgaug.runs import row", "from fgaug.runs import trial"),
        ("from fgaug.runs.row import Row", "def f():\n    from fgaug.runs.trial import Trial"),
        ("import fgaug.runs.row", "if TYPE_CHECKING:\n    from fgaug.runs import trial"),
    ],
)
def test_a_foil_that_goes_in_a_circle_is_found(there: str, back: str) -> None:
    assert circles(foil(runs__trial=there, runs__row=back)) == [
        ["fgaug.runs.row", "fgaug.runs.trial"]
    ]
    assert circles(foil(runs__trial=there, runs__row="")) == []


def test_a_circle_through_a_door_is_found() -> None:
    texts = foil(
        bank="from fgaug.bank.reader import Bank",
        bank__reader="from fgaug.bank.store import Store",
        bank__store="from fgaug.bank import Bank",
    )
    assert circles(texts) == [["fgaug.bank.reader", "fgaug.bank.store"]]


@pytest.mark.parametrize("name", sources())
def test_ray_stays_in_its_rooms(name: str) -> None:
    if not any(below(name, each) for each in RAY_ROOMS):
        assert not [each for each in imports(sources()[name]) if below(each.module, "ray")]


TENSORFLOW_ROOM = "fgaug.training.keras"
BESIDE_IT = ("applications", "learner", "process", "shared_images")  # in the process that asks


@pytest.mark.parametrize("name", sources())
def test_tensorflow_and_torch_share_no_process(name: str) -> None:
    used = [each.module for each in imports(sources()[name])]
    if below(name, TENSORFLOW_ROOM) and name.rpartition(".")[2] not in BESIDE_IT:
        assert not [module for module in used if below(module, "torch")]
    else:
        barred = ("tensorflow", "keras", "h5py", "fgaug.training.keras.worker")
        assert not [module for module in used if any(below(module, each) for each in barred)]


@pytest.mark.parametrize(
    "statement",
    [
        "import fgaug",
        "import gan_worker",
        "from fgaug import open_bank, load_results, load_space, open_dataset",
        "import fgaug.grid.cells, fgaug.runs.mix, fgaug.core.cluster",
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
