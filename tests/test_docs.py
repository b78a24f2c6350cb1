"""README and its kin against the disk: the tree, the grid, the commands and names they show."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import fgaug
from fgaug.cli import app
from fgaug.grid.load import load_space, parse_space

CLONE = Path(__file__).parent.parent
README = (CLONE / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for named, text in fenced if named == language]


def test_the_table_of_rooms_names_every_room() -> None:
    shown = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    rooms = {path.parent.name for path in (CLONE / "fgaug").glob("*/__init__.py")}
    assert rooms <= shown


def test_the_shown_grid_is_a_grid() -> None:
    (example,) = blocks("yaml")
    space = parse_space(yaml.safe_load(example))
    assert len(space.seeds) == 5
    assert set(space.removals[0]) == {"benign", "malignant"}


@pytest.mark.parametrize(
    "path", sorted((CLONE / "search_spaces").glob("*.yaml")), ids=lambda p: p.name
)
def test_shipped_grids_parse(path: Path) -> None:
    assert load_space(path).name


def test_the_shown_commands_and_options_exist() -> None:
    root = typer.main.get_command(app.app)
    lines = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    commands = [line.split("#")[0].split() for line in lines if line.startswith("fgaug ")]
    assert len(commands) >= 6
    for words in commands:
        command: Any = root
        for word in words[1:]:
            if hasattr(command, "get_command"):
                command = command.get_command(None, word)
                assert command is not None, " ".join(words)
            elif word.startswith("--"):
                options = {name for parameter in command.params for name in parameter.opts}
                assert word in options, " ".join(words)


def test_the_shown_python_names_exist() -> None:
    (example,) = blocks("python")
    for name in re.findall(r"fgaug\.(\w+)\(", example):
        assert callable(getattr(fgaug, name))


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (CLONE / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert "://" in target or (CLONE / target).exists(), f"{document}: {target}"


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (CLONE / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_dependency_carries_its_reason() -> None:
    text = (CLONE / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    for dependency in [*project["dependencies"], *extras]:
        lines = [line for line in text.splitlines() if line.startswith(f'  "{dependency}",')]
        assert len(lines) == 1, dependency
        assert lines[0].split('",')[1].strip().startswith("# "), dependency


def test_versions_agree() -> None:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == fgaug.__version__
    assert f"## {fgaug.__version__}" in (CLONE / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_kind_of_input_names_a_test_that_exists() -> None:
    text = (CLONE / "docs" / "inputs.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| (?!input \|)[^-]", line)]
    assert len(rows) > 60
    for row in rows:
        named = re.findall(r"`([\w/.]*)((?:::\w+)*)`", row.rstrip("| ").rsplit("|", 1)[-1])
        assert named, row
        path = ""
        for file, parts in named:
            path = file or path
            source = (CLONE / path).read_text(encoding="utf-8")
            for part in parts.split("::")[1:]:
                assert re.search(rf"\b(def|class) {part}\b", source), f"{path} has no {part}"
