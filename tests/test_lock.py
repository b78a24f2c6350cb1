"""The lock files: what pyproject.toml asks for, pinned and hashed, on every platform."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("keras", "mlflow", "wandb")
BROUGHT = {  # modules that come with a package by its definition
    "keras": "tensorflow",
    "mlflow": "mlflow-skinny",
    "huggingface_hub": "timm",
    "pydantic_core": "pydantic",
}
PLATFORMS = [  # of every Python that pyproject.toml allows
    {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"},
    {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux"},
    {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"},
]


def locked(name: str) -> dict[str, list[Requirement]]:
    """Return the pins of a lock file by package; a package may have one for each platform."""
    found: dict[str, list[Requirement]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.rstrip(" \\"))
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def asked(extra: str | None = None) -> Iterator[Requirement]:
    """Yield the requirements of the project or of an extra, those of extras within it resolved."""
    extras = PROJECT["optional-dependencies"]
    for text in PROJECT["dependencies"] if extra is None else extras[extra]:
        one = Requirement(text)
        if one.name == PROJECT["name"]:
            for within in one.extras:
                yield from asked(within)
        else:
            yield one


@pytest.mark.parametrize(
    ("name", "extra"), [("run.txt", None), ("dev.txt", None), ("dev.txt", "dev")]
)
def test_the_lock_satisfies_pyproject(name: str, extra: str | None) -> None:
    pins = locked(name)
    for wanted in asked(extra):
        versions = [_version(pin) for pin in pins.get(canonicalize_name(wanted.name), [])]
        assert versions, f"{wanted.name} is missing from {name}: make lock"
        assert all(wanted.specifier.contains(v) for v in versions), f"{wanted}: make lock"


def _version(pin: Requirement) -> Version:
    (one,) = pin.specifier
    assert one.operator == "=="
    return Version(one.version)


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "uv.txt"])
def test_every_pin_has_hashes_and_no_place(name: str) -> None:
    text = (FOLDER / name).read_text()
    pins = re.findall(r"^[A-Za-z0-9].*(?:\n    .*)*", text, re.MULTILINE)
    assert pins
    for pin in pins:
        first, *hashes = pin.replace(" \\\n", "\n").splitlines()
        assert "==" in first
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes)
    assert not re.search(r"https?://|file:|--index|--find-links|@ ", text)


def test_both_locks_have_the_same_releases() -> None:
    run, dev = locked("run.txt"), locked("dev.txt")
    assert {name: versions_of(pins) for name, pins in run.items()} == {
        name: versions_of(dev[name]) for name in run
    }


def versions_of(pins: list[Requirement]) -> set[Version]:
    return {_version(pin) for pin in pins}


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda p: p["platform_machine"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_torch_and_ray_are_there_on_every_platform(platform: dict[str, str], python: str) -> None:
    here = {**platform, "python_version": python, "python_full_version": f"{python}.0"}
    for package in ("torch", "ray", "pyarrow"):
        fits = [
            p for p in locked("run.txt")[package] if p.marker is None or p.marker.evaluate(here)
        ]
        assert len(fits) == 1, package


def imported(*packages: str) -> set[str]:
    """Return the names of all modules that some packages import, anywhere in their files."""
    found: set[str] = set()
    for path in (path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"fgaug", "gan_worker"}


def test_what_the_code_imports_is_asked_for_by_name() -> None:
    """A package that another one happens to bring is missing where that one is not installed."""
    known = {canonicalize_name(one.name) for one in asked()}
    extras = {canonicalize_name(one.name) for e in EXTRAS for one in asked(e)}
    by_module = packages_distributions()
    for module in sorted(imported("fgaug", "gan_worker")):
        owners = {canonicalize_name(name) for name in by_module.get(module, [module])}
        assert owners & (known | extras) or BROUGHT.get(module) in known | extras, module


def test_the_demo_needs_neither_tensorflow_nor_test_tools() -> None:
    assert not {"tensorflow", "keras", "pytest", "mypy", "moto"} & set(locked("run.txt"))


def test_the_demo_is_planned_without_what_tests_add(tmp_path: Path) -> None:
    wanted = {canonicalize_name(one.name) for one in asked()}
    more = {canonicalize_name(one.name) for one in asked("dev")} - wanted
    by_module = packages_distributions()
    absent = [m for m, of in by_module.items() if {*map(canonicalize_name, of)} & more]
    absent += [module for module, owner in BROUGHT.items() if owner in more]
    assert {"tensorflow", "keras", "pytest"} <= {*absent}
    lines = [
        "import sys",
        f"sys.modules.update(dict.fromkeys({absent!r}))",
        "sys.argv[1:] = ['demo', '--dry-run']",
        "from fgaug.cli.app import main",
        "main()",
    ]
    words = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "22 cells" in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "ways"),
    [
        ("error: Hash mismatch for `torch==2.14.1`", 1, 1),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", 1, 1),
        ("ERROR: No matching distribution found for torch==2.14.1", 0, 3),
    ],
)
def test_a_wrong_hash_ends_the_installation(
    error: str, code: int, ways: int, tmp_path: Path
) -> None:
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(  # fails wherever hashes are asked for
        f'#!/bin/sh\necho "$*" >> {shlex.quote(str(calls))}\n'
        f'case "$*" in *require-hashes*) echo {shlex.quote(error)} >&2; exit 1;; esac\n'
    )
    python.chmod(0o755)
    words = [FOLDER / "install.sh", python, FOLDER / "run.txt", ""]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert len(calls.read_text().splitlines()) == ways
    assert ("nothing more is installed" in done.stderr) == (code == 1)
