"""The documents against the disk: links, commands, grids, names, tables, walked examples."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
import types
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
import yaml

import fgaug
from fgaug.cli.app import app
from fgaug.core.paths import BankNames, DatasetPaths, RunPaths, TrialPaths
from fgaug.data.prepare import PRESETS
from fgaug.grid.load import load_space, parse_space
from fgaug.runs.results import columns

CLONE = Path(__file__).parent.parent
DOCS = CLONE / "docs"
PAGES = [CLONE / "README.md", CLONE / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {path.relative_to(CLONE).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
CHANGELOG = (CLONE / "CHANGELOG.md").read_text(encoding="utf-8")
README = TEXTS["README.md"]
CONTRIBUTING = TEXTS["docs/contributing.md"]
# what a grid needs beside the parts that a page shows of it
REST = {
    "name": "shown",
    "dataset": "d",
    "bank": "b",
    "generator": {"kind": "stub"},
    "axes": {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]},
}

pages = pytest.mark.parametrize("page", TEXTS)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, also those within a list."""
    fence = r"^( *)```(\w*)\n(.*?)^\1```$"
    fenced = re.findall(fence, text, re.DOTALL | re.MULTILINE)
    return [
        re.sub(f"(?m)^{indent}", "", body) for indent, named, body in fenced if named == language
    ]


def commands(text: str) -> list[list[str]]:
    """Return the words of each `fgaug` command in blocks of a page and in its sentences."""
    shown = [line for b in blocks(text, "") for line in b.replace("\\\n", " ").splitlines()]
    within = re.findall(r"`((?:fgaug|make) [^`]+)`", re.sub(r"\s+", " ", prose(text)))
    lines = [line.split("  #")[0].split(" # ")[0] for line in (*shown, *within)]
    return [words for words in (line.split() for line in lines) if words and words[0] == "fgaug"]


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^( *)```\w*\n.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def rows(text: str, head: str) -> list[str]:
    """Return the first cells of the table below a head, without their marks of code."""
    (table,) = re.findall(
        rf"^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*TEXTS, "CHANGELOG.md", "reports/bus_bra/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (CLONE / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if "://" in target:
            continue
        file, _, anchor = unquote(target).partition("#")
        path = (CLONE / page).parent / file if file else CLONE / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {target}"


def test_every_page_is_in_the_index_and_linked_from_the_readme() -> None:
    named = {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb")}
    assert named - {"README.md"} == set(
        re.findall(r"\]\(([\w-]+\.\w+)\)", TEXTS["docs/README.md"])
    )
    assert named - {"README.md"} == set(re.findall(r"\]\(docs/([\w-]+\.\w+)\)", README))


def test_the_readme_is_short_and_has_its_pictures() -> None:
    assert len(README.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\((docs/images/[^)]+)\)", README)
    assert len(pictures) == 2
    assert all((CLONE / picture).stat().st_size < 200_000 for picture in pictures)


def test_the_table_of_rooms_names_every_room() -> None:
    rooms = {path.parent.name for path in (CLONE / "fgaug").glob("*/__init__.py")}
    assert set(rows(README, "room")) == rooms
    drawing = (DOCS / "images" / "architecture.svg").read_text(encoding="utf-8")
    assert set(re.findall(r'class="name"[^>]*>([^<]+)<', drawing)) == {*rooms, "gan_worker"}


def test_the_table_of_imports_is_that_of_the_layer_test() -> None:
    from test_layers import ROOMS

    shown = {
        name for row in rows(CONTRIBUTING, "room") for name in row.replace("`", "").split(", ")
    }
    assert shown == set(ROOMS) - {"errors"}
    for line in re.findall(r"^\| (`.*?) \| (.*?) \|$", CONTRIBUTING, re.MULTILINE):
        for room in re.findall(r"`(\w+)`", line[0]):
            if "every" not in line[1]:
                allowed = {name.strip("*") for name in ROOMS[room].split()} - {"errors"}
                assert {*re.findall(r"`(\w+)`", line[1])} - {"errors"} == allowed, room


@pages
def test_shown_grids_are_grids(page: str) -> None:
    for example in blocks(TEXTS[page], "yaml"):
        shown = yaml.safe_load(example)
        space = parse_space({**REST, **shown} if "axes" not in shown else shown)
        assert space.name


def test_the_readme_and_the_page_of_the_grid_show_whole_grids() -> None:
    for page in ("README.md", "docs/grid.md"):
        (example,) = blocks(TEXTS[page], "yaml")
        space = parse_space(yaml.safe_load(example))
        assert len(space.seeds) == 5
        assert set(space.removals[0]) == {"benign", "malignant"}


def test_the_page_of_the_grid_names_every_key() -> None:
    from fgaug.grid.axes import Axes
    from fgaug.grid.space import Space

    (example,) = blocks(TEXTS["docs/grid.md"], "yaml")
    keys = set(re.findall(r"^(?:# )?(\w+):", example, re.MULTILINE))
    assert keys == set(Space.model_fields) - {"counts", "remove_by"}
    assert all(
        f"{name}:" in example for name in Axes.model_fields if name not in ("recipe", "remove")
    )


@pytest.mark.parametrize(
    "path", sorted((CLONE / "search_spaces").glob("*.yaml")), ids=lambda p: p.name
)
def test_shipped_grids_parse(path: Path) -> None:
    assert load_space(path).name
    assert path.name in TEXTS["docs/grid.md"]


@pages
def test_shown_commands_and_options_exist(page: str) -> None:
    for words in commands(TEXTS[page]):
        command: Any = typer.main.get_command(app)
        for word in words[1:]:
            if hasattr(command, "get_command") and not word.startswith("--"):
                command = command.get_command(None, word)
                assert command is not None, " ".join(words)
            elif word.startswith("--"):
                options = {name for parameter in command.params for name in parameter.opts}
                assert word.split("=")[0] in options, " ".join(words)


@pages
def test_shown_command_lines_parse(page: str) -> None:
    root: Any = typer.main.get_command(app)
    shown = [b.replace("\\\n", " ").splitlines() for b in blocks(TEXTS[page], "")]
    for line in (line.strip() for lines in shown for line in lines):
        if not line.startswith("fgaug "):
            continue
        words = shlex.split(re.split(r"\s#(?=\s)", line)[0])[1:]
        name, command, rest = root.resolve_command(None, words)
        if hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(None, rest)
        context = command.make_context(name, rest)  # refuses a word too many or too few
        assert context.params.keys() == {each.name for each in command.params} - {"help"}, line


def every_command() -> dict[str, Any]:
    """Return each command by its words after `fgaug`."""
    root: Any = typer.main.get_command(app)
    found = {}
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        if hasattr(command, "list_commands"):
            parts = command.list_commands(None)
            found |= {f"{name} {part}": command.get_command(None, part) for part in parts}
        else:
            found[name] = command
    return found


def test_every_command_is_shown_on_some_page() -> None:
    shown = {" ".join(words[1:]) + " " for text in TEXTS.values() for words in commands(text)}
    for name in every_command():
        assert any(line.startswith(f"{name} ") for line in shown), name


@pages
def test_options_in_sentences_exist(page: str) -> None:
    root: Any = typer.main.get_command(app)
    every = [root, *every_command().values()]
    options = {name for command in every for each in command.params for name in each.opts}
    shown = {
        option
        for code in re.findall(r"`([^`]+)`", prose(TEXTS[page]))
        if code.startswith(("fgaug ", "--"))
        for option in re.findall(r"(?<!\S)(--[a-z][\w-]*)", code)
    }
    assert shown <= options


@pages
def test_make_targets_exist(page: str) -> None:
    makefile = (CLONE / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^ *make ([a-z-]+)", "\n".join(blocks(TEXTS[page], "")), re.MULTILINE)
    for target in {*named, *re.findall(r"`make ([a-z-]+)", TEXTS[page])}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", [page for page in TEXTS if page != "docs/contributing.md"])
def test_shown_python_names_exist(page: str) -> None:
    sentences = re.findall(r"`(fgaug(?:\.\w+)+)", prose(TEXTS[page]))
    for name in (*sentences, *(n for b in blocks(TEXTS[page], "python") for n in names_in(b))):
        value: Any = fgaug
        for part in name.split(".")[1:]:
            assert isinstance(value, types.ModuleType), name
            value = getattr(value, part)


def names_in(code: str) -> list[str]:
    """Return the dotted names below `fgaug` that code uses."""
    used = (
        ast.unparse(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)
    )
    return [name for name in used if re.fullmatch(r"fgaug(\.\w+)+", name)]


def test_methods_of_a_run_and_a_bank_exist() -> None:
    shown = [block for text in TEXTS.values() for block in blocks(text, "python")]
    for attribute in set(re.findall(r"\brun\.(\w+)\(", "\n".join(shown))):
        assert callable(getattr(fgaug.Run, attribute))
    from fgaug.bank import Bank

    for attribute in set(re.findall(r"\bbank\.(\w+)\(", "\n".join(shown))):
        assert callable(getattr(Bank, attribute))


@pages
def test_files_of_the_project_that_are_named_exist(page: str) -> None:
    tops = "fgaug|gan_worker|tests|docs|search_spaces|reports|findings|benchmarks"
    for name in set(re.findall(rf"`((?:{tops})/[\w/.-]*)`(?! \(new\))", TEXTS[page])):
        assert (CLONE / name).exists(), f"{page}: {name}"


def test_the_glossary_is_short_and_sorted() -> None:
    words = rows(TEXTS["docs/glossary.md"], "word")
    assert len(words) <= 30
    assert words == sorted(words, key=str.casefold)


def test_every_file_on_disk_is_described() -> None:
    text = TEXTS["docs/file-formats.md"]
    root = Path("root")
    for paths in (DatasetPaths(root), RunPaths(root), TrialPaths(root)):
        members = vars(type(paths)).items()
        for name in (name for name, member in members if isinstance(member, property)):
            path = getattr(paths, name)
            if isinstance(path, Path):  # the others are texts, such as the place for messages
                assert f"`{path.relative_to(root).parts[0]}" in text, name
    members = vars(BankNames).items()
    for name in (value for key, value in members if isinstance(value, str) and key[0] != "_"):
        assert f"`{name}" in text, name


def test_every_preset_has_a_row() -> None:
    assert rows(TEXTS["docs/own-data.md"], "`--preset`") == list(PRESETS)


def test_every_chapter_of_the_report_has_a_row_in_its_order() -> None:
    from made_report import made_material

    from fgaug.analysis.report.contents import sections

    titles = [section.title for section in sections(made_material())]
    assert rows(TEXTS["docs/reading-a-report.md"], "chapter") == titles


def test_every_verdict_has_a_row() -> None:
    from fgaug.analysis.format import BETTER, NOT_INFERIOR, NOT_SHOWN, THESE_ONLY, WORSE

    shown = rows(TEXTS["docs/reading-a-report.md"], "verdict")
    assert shown == [BETTER, NOT_INFERIOR, THESE_ONLY, WORSE, NOT_SHOWN]


def test_every_column_of_a_row_is_described() -> None:
    text = TEXTS["docs/file-formats.md"].partition("## Columns of a row")[2]
    shown = set(re.findall(r"`([\w<>]+)`", text))
    assert {name.replace("_x", "_<label>") for name in columns(("x",))} <= shown


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
    assert f"## {fgaug.__version__}" in CHANGELOG


def test_every_kind_of_input_names_a_test_that_exists() -> None:
    lines = TEXTS["docs/inputs.md"].splitlines()
    listed = [line for line in lines if re.match(r"\| (?!input \|)[^-]", line)]
    assert len(listed) > 60
    for row in listed:
        named = re.findall(r"`([\w/.]*)((?:::\w+)*)`", row.rstrip("| ").rsplit("|", 1)[-1])
        assert named, row
        path = ""
        for file, parts in named:
            path = file or path
            source = (CLONE / path).read_text(encoding="utf-8")
            for part in parts.split("::")[1:]:
                assert re.search(rf"\b(def|class) {part}\b", source), f"{path} has no {part}"
