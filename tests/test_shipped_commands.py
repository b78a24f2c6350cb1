"""Every command that a shipped grid or a document shows is one of today's command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from fgaug.cli import app
from fgaug.grid.load import load_space

CLONE = Path(__file__).parent.parent
ROOT: Any = typer.main.get_command(app.app)
GRIDS = sorted((CLONE / "search_spaces").glob("*.yaml"))
DOCUMENTS = sorted((CLONE / "docs").glob("*.md"))


def in_comments(path: Path) -> Iterator[list[str]]:
    """Yield the words of each command that stands on a comment line of its own."""
    lines = [line[1:] for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip().startswith("fgaug "):
            yield shlex.split(line.replace("$label", "benign"), comments=True)


def in_words(path: Path) -> Iterator[list[str]]:
    """Yield the words of each `fgaug ...` of a document: parts of commands, too."""
    text = path.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE))
    fenced = re.findall(r"^\s*(fgaug .*?[^\\])$", blocks, re.DOTALL | re.MULTILINE)
    for command in (*re.findall(r"`(fgaug [^`]+)`", text), *fenced):
        yield shlex.split(command.replace("\\\n", " ").replace("'", " "), comments=True)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and what is left of them."""
    command, rest = ROOT, words[1:]
    while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
        command, name, rest = command.get_command(None, rest[0]), rest[0], rest[1:]
        assert command is not None, f"no command {name!r} in {' '.join(words)}"
    return command, rest


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_commands_of_grids_parse(path: Path) -> None:
    for words in in_comments(path):
        command, rest = command_of(words)
        try:
            command.make_context(words[1], list(rest))
        except click.UsageError as error:
            pytest.fail(f"{' '.join(words)}: {error.format_message()}")
        for word in rest:  # relative to a clone, from where they are run
            if word.startswith("search_spaces/"):
                assert load_space(CLONE / word).name


def test_headers_of_the_studies_show_commands() -> None:
    shown = {path.stem: list(in_comments(path)) for path in GRIDS}
    assert [words[1:3] for words in shown["breast_ultrasound"]] == [
        ["data", "prepare"],
        ["gan", "train"],
        ["gan", "metrics"],
        ["gan", "select"],
        ["search", "search_spaces/breast_ultrasound.yaml"],
        ["search", "search_spaces/breast_ultrasound.yaml"],
        ["compare", "runs/breast-ultrasound:baseline#693"],
    ]
    assert sum(map(len, shown.values())) > 20


def test_the_breast_recipe_names_what_its_commands_make() -> None:
    """What one command writes is where the next one, or the grid, looks for it."""
    prepare, train, *_ = in_comments(CLONE / "search_spaces" / "breast_ultrasound.yaml")
    space = load_space(CLONE / "search_spaces" / "breast_ultrasound.yaml")
    assert prepare[prepare.index("--out") + 1] == space.dataset
    assert train[train.index("--dataset") + 1] == space.dataset
    assert train[train.index("--kimg") + 1] == "100000"
    out = train[train.index("--out") + 1]
    files = {label: each.file for label, each in space.generator.snapshots.items()}
    assert files == {label: f"{out}/{label}.safetensors" for label in ("benign", "malignant")}
    assert 693 in space.seeds


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_options_of_documents_exist(path: Path) -> None:
    for words in in_words(path):
        command, rest = command_of(words)
        known = {name for parameter in command.params for name in parameter.opts}
        for word in rest:
            if word.startswith("--"):
                assert word in known, " ".join(words)
