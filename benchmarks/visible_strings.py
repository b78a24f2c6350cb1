"""Every sentence that a user can meet, for a review of the wording.

    python benchmarks/visible_strings.py [ROOM ...]

Prints `file:line kind: text` for messages of errors, help texts, log lines and printed text, and
sentences of the report. A `{}` stands for a value. Docstrings count where a command shows them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOGGING = {"debug", "info", "warning", "error", "print", "write", "log"}


def main() -> None:
    rooms = sys.argv[1:] or ["fgaug", "gan_worker"]
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            for line, kind, text in strings(path):
                sys.stdout.write(f"{path.relative_to(ROOT)}:{line} {kind}: {text}\n")


def strings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and text of each sentence of one module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown = path.relative_to(ROOT).parts[:2] == ("fgaug", "cli")
    yield from _walk(tree, "text", shown)


def _walk(node: ast.AST, kind: str, commands: bool) -> Iterator[tuple[int, str, str]]:
    for child in ast.iter_child_nodes(node):
        if _is_docstring(child, node):
            if commands and isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield child.lineno, "help", " ".join(str(ast.get_docstring(node)).split())
            continue
        if isinstance(child, ast.Constant | ast.JoinedStr):
            text = _text(child)
            if len(text.split()) >= 3:
                yield child.lineno, kind, " ".join(text.split())
            continue
        yield from _walk(child, _kind(child, kind), commands)


def _is_docstring(child: ast.AST, node: ast.AST) -> bool:
    body = getattr(node, "body", None)
    first = isinstance(body, list) and bool(body) and child is body[0]
    return first and isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)


def _kind(node: ast.AST, kind: str) -> str:
    if isinstance(node, ast.Raise):
        return "error"
    if isinstance(node, ast.keyword) and node.arg == "help":
        return "help"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return "log" if node.func.attr in LOGGING and kind == "text" else kind
    return kind


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)


if __name__ == "__main__":
    main()
