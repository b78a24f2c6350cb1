"""The public surface: every name, how it is called, and that type checkers see the same names."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fgaug
import fgaug.data
import gan_worker
from fgaug import errors
from fgaug.study.confirmation.confirm import confirm

ROOT = Path(__file__).parent.parent
ERRORS = {
    name for name, value in vars(errors).items() if inspect.isclass(value) and name[-5:] == "Error"
}
VALUES = {"Plan", "Replay", "Run", "Space", "__version__", "quality", "stats"}
SEARCH = """(
    grid: str | Path | Space,
    out: str | PathLike[str] | None = None,
    *,
    dashboard: bool = True,
    console: Console | None = None,
    address: str | None = None,
    shard: Shard | None = None,
    retries: int = 1,
    log: str = 'auto',
    cpus: int | None = None,
    gpus: int | None = None,
    storage: str | None = None
) -> Run"""
CONFIRM = """(
    self,
    arms: Sequence[str],
    seeds: int | None = None,
    *,
    dashboard: bool = True,
    console: Console | None = None,
    address: str | None = None,
    retries: int = 1,
    log: str = 'auto',
    cpus: int | None = None,
    gpus: int | None = None
) -> Confirmed"""
FUNCTIONS = {
    "compare": "(a: str, b: str, metric: str | None = None, *, open_test: bool = False)"
    " -> TwoModels | TwoArms",
    "load_curves": "(run: str | PathLike[str]) -> pd.DataFrame",
    "load_predictions": "(run: str | PathLike[str]) -> pd.DataFrame",
    "load_results": "(run: str | PathLike[str]) -> pd.DataFrame",
    "load_space": "(path: str | PathLike[str]) -> Space",
    "open_bank": "(uri: str | Path | Store) -> Bank",
    "open_dataset": "(path: str | Path) -> Dataset",
    "open_run": "(run: str | PathLike[str]) -> Run",
    "plan": "(grid: str | Path | Space, out: str | PathLike[str] | None = None,"
    " shard: Shard | None = None, keep: Callable[[Cell], bool] | None = None,"
    " room: Room | None = None) -> Plan",
    "predict": "(model: str | Path, images: str | Path | Sequence[str | Path], *,"
    " split: str | None = None, device: str = 'cpu', skip_broken: bool = False,"
    " progress: Advance | None = None, table: LabelTable | None = None) -> pd.DataFrame",
    "replay": "(run: str | PathLike[str], cell: str, *, device: str | None = None,"
    " tolerance: float = 1e-06, console: Console | None = None) -> Replay",
    "search": SEARCH,
}
RUN = {
    "__fspath__": "(self) -> str",
    "confirm": CONFIRM,
    "curves": "(self) -> pd.DataFrame",
    "predictions": "(self) -> pd.DataFrame",
    "replay": "(self, cell: str, *, device: str | None = None, tolerance: float = 1e-06,"
    " console: Console | None = None) -> Replay",
    "report": "(self, *, open_test: bool = False) -> Path",
    "results": "(self) -> pd.DataFrame",
    "status": "(self) -> Status",
}
CONTRACT = {
    "fgaug.bank:Bank.index": "(self, scores: Sequence[str] = ()) -> pd.DataFrame",
    "fgaug.bank:Bank.read": "(self, label: str, psi: float, z_seeds: Sequence[int]) -> ImageArray",
    "fgaug.quality:fid": "(features_a: ArrayLike, features_b: ArrayLike) -> float",
    "fgaug.stats:delong": "(y_true: ArrayLike, p_a: ArrayLike, p_b: ArrayLike, *,"
    " group: ArrayLike | None = None, level: float = 0.95) -> DeLong",
    "fgaug.stats:mcnemar": "(table: ArrayLike, exact: bool = True, *, level: float = 0.95)"
    " -> McNemar",
    "gan_worker:StubGenerator.generate": "(self, z_seeds: Sequence[int], psi: float,"
    " label: int | None = None) -> ImageArray",
    "gan_worker:load_generator": "(path: Path | str, noise_mode: str = 'const',"
    " device: str = 'cpu', precision: str = 'float32', compiled: bool = False,"
    " cutoff: int | None = None) -> StyleGan2Generator",
    "gan_worker.generators.stylegan2:StyleGan2Generator.generate": "(self,"
    " z_seeds: Sequence[int], psi: float, label: int | None = None) -> ImageArray",
    "gan_worker.generators.stylegan2:StyleGan2Generator.synthesize": "(self,"
    " z_seeds: Sequence[int], psi: float, label: int | None = None) -> Planes",
}


def signature(function: Callable[..., Any]) -> str:
    """Return how a function is called, annotations as they stand in its source."""
    found = inspect.signature(function)
    text = str(found)
    given = [each.annotation for each in found.parameters.values()]
    for annotation in {*given, found.return_annotation}:
        text = text.replace(repr(annotation), str(annotation))
    return text


def on_one_line(text: str) -> str:
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def test_these_are_the_public_names() -> None:
    assert set(fgaug.__all__) == {*FUNCTIONS, *VALUES, *ERRORS}
    assert len(ERRORS) == 12
    assert set(gan_worker.__all__) == {"StubGenerator", "load_generator"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_called_so(name: str) -> None:
    assert signature(getattr(fgaug, name)) == on_one_line(FUNCTIONS[name])


def test_a_run_can_be_asked_this() -> None:
    methods = {
        name: value
        for name, value in vars(fgaug.Run).items()
        if inspect.isfunction(value) and (name[0] != "_" or name == "__fspath__")
    }
    assert {name: signature(value) for name, value in methods.items()} == {
        name: on_one_line(text) for name, text in RUN.items()
    }
    assert fgaug.Run.__slots__ == ("root", "uri", "ok", "pruned", "failed", "missing")
    assert isinstance(fgaug.Run.exit_code, property)


@pytest.mark.parametrize("name", CONTRACT)
def test_what_others_rely_on_is_called_so(name: str) -> None:
    module, _, path = name.partition(":")
    assert signature(attrgetter(path)(importlib.import_module(module))) == CONTRACT[name]


@pytest.mark.parametrize(
    ("method", "function"),
    [(fgaug.Run.confirm, confirm), (fgaug.Run.replay, fgaug.replay)],
)
def test_a_method_takes_every_option_of_its_function(
    method: Callable[..., Any], function: Callable[..., Any]
) -> None:
    of_method, of_function = (
        {name: each.default for name, each in inspect.signature(it).parameters.items()}
        for it in (method, function)
    )
    del of_method["self"], of_function["run"]
    assert of_method == of_function


@pytest.mark.parametrize("package", [fgaug, gan_worker, fgaug.data])
def test_dir_lists_the_public_names_and_the_module_is_a_plain_one(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))
    assert type(package) is ModuleType
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'x1'"):
        package.x1  # noqa: B018  (the access itself is what is tested)


@pytest.mark.parametrize("package", [fgaug, gan_worker, fgaug.data])
def test_type_checkers_see_what_is_there_at_run_time(package: ModuleType) -> None:
    checked = imports_for_type_checkers(Path(str(package.__file__)))
    public = set(package.__all__) - ERRORS - {"__version__"}
    assert set(checked) == public
    for name, (module, whole) in checked.items():
        there = importlib.import_module(f"{module}.{name}" if whole else module)
        assert getattr(package, name) is (there if whole else getattr(there, name))


def imports_for_type_checkers(path: Path) -> Mapping[str, tuple[str, bool]]:
    """Return each name imported under TYPE_CHECKING, with its module; True where it is one."""
    (block,) = (
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            found[alias.name] = (str(node.module), node.module == "fgaug")
    return found


def test_no_module_takes_the_place_of_a_public_function() -> None:
    """Importing `fgaug.search`, were there such a module, would replace the function."""
    modules = {each.name for each in pkgutil.iter_modules(fgaug.__path__)}
    assert modules & set(fgaug.__all__) == {"quality", "stats"}  # which are the modules


@pytest.mark.parametrize("package", ["fgaug", "gan_worker"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").read_bytes() == b""


def test_a_run_is_light() -> None:
    heavy = {"numpy", "pandas", "pyarrow", "torch", "ray", "rich", "matplotlib"}
    code = f"import sys, fgaug; fgaug.Run, fgaug.open_run; print({heavy!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
