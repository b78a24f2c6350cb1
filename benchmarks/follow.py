"""How often a value climbs back up on its way through the code.

    python benchmarks/follow.py TREE fgaug.study.planner:make_plan:space [TREE ...:...]

Follows one parameter of one function through the calls that pass it on, in the order in which they
are written. A part of it (`space.axes`), a name bound to one and the items of a loop over one are
followed as well. A room is a package or a module directly below `fgaug`, or
`gan_worker`; a floor is the longest way down to the ground over the imports of rooms. Entering a
room on a higher floor than the room entered before is a climb: the reader has been below and has
to come back up.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

PACKAGES = ("fgaug", "gan_worker")
Function = ast.FunctionDef


@dataclass
class Module:
    """One source file: its functions and methods, and what its imported names refer to."""

    name: str
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, path: Path) -> Module:
        module = cls(name, ast.parse(path.read_text(encoding="utf-8")))
        for node in module.tree.body:
            if isinstance(node, Function):
                module.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if isinstance(each, Function)]
                module.functions |= {f"{node.name}.{each.name}": each for each in methods}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom):
                module.imported |= {
                    each.asname or each.name: f"{node.module}.{each.name}" for each in node.names
                }
        return module


class Tree:
    """The modules of a checkout, and the floors of its rooms."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, Module] = {}
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                name = ".".join(parts).removesuffix(".__init__")
                self.modules[name] = Module.read(name, path)

    def home(self, name: str) -> tuple[Module, str] | None:
        """Return the module and function that a full name stands for, through re-exports."""
        owner, _, last = name.rpartition(".")
        inside = last
        while owner and owner not in self.modules:
            owner, _, part = owner.rpartition(".")
            inside = f"{part}.{inside}"
        if not owner or name in self.modules:
            return None
        module = self.modules[owner]
        for function in (inside, f"{inside}.__init__"):
            if function in module.functions:
                return module, function
        first, _, rest = inside.partition(".")
        behind = module.imported.get(first)
        again = f"{behind}.{rest}" if rest else behind
        return self.home(again) if again and again != name else None

    @cached_property
    def floors(self) -> dict[str, int]:
        """The floor of each room; rooms that import each other lie on one."""
        below: dict[str, set[str]] = {room(name): set() for name in self.modules}
        for name, module in self.modules.items():
            targets = {room(self._module_of(each)) for each in module.imported.values()}
            below[room(name)] |= targets & set(below) - {room(name)}
        reach = {each: _reachable(each, below) for each in below}
        floors: dict[str, int] = {}

        def floor(each: str) -> int:
            if each not in floors:
                circle = {x for x in reach[each] if each in reach[x]} | {each}
                lower = set().union(*(below[x] for x in circle)) - circle
                high = 1 + max((floor(x) for x in lower), default=0)
                floors.update(dict.fromkeys(circle, high))
            return floors[each]

        for each in below:
            floor(each)
        return floors

    def _module_of(self, name: str) -> str:
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name


def room(module: str) -> str:
    """Return `fgaug.study` of `fgaug.study.planner`, `gan_worker` of all of that package."""
    return "gan_worker" if module.startswith("gan_worker") else ".".join(module.split(".")[:2])


def _reachable(start: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for each in below[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found


class Walk:
    """The stays of one parameter: each function that it enters, in the order of the code."""

    def __init__(self, tree: Tree, module: str, function: str, parameter: str) -> None:
        self.tree = tree
        self.stays: list[str] = []
        self._seen: set[tuple[str, str, str]] = set()
        self._enter(tree.modules[module], function, (parameter,))

    @property
    def climbs(self) -> int:
        """How often a room is entered from a room on a lower floor."""
        floors = [self.tree.floors[room(each)] for each in self.stays]
        return sum(after > before for before, after in pairwise(floors))

    @property
    def rooms(self) -> int:
        return len({room(each) for each in self.stays})

    def _enter(self, module: Module, function: str, parameters: tuple[str, ...]) -> None:
        if not self.stays or self.stays[-1] != module.name:
            self.stays.append(module.name)
        keys = {(module.name, function, each) for each in parameters}
        if keys <= self._seen:
            return
        self._seen |= keys
        owner = function.rpartition(".")[0]
        self._body(module, owner, module.functions[function].body, set(parameters))

    def _body(self, module: Module, owner: str, body: list[ast.stmt], mine: set[str]) -> None:
        for statement in body:
            for node in _in_order(statement):
                if isinstance(node, ast.Call):
                    self._call(module, owner, node, mine)
            mine |= set(_bound(statement, mine))
            for inner in ("body", "orelse", "finalbody"):
                self._body(module, owner, getattr(statement, inner, []), mine)

    def _call(self, module: Module, owner: str, call: ast.Call, mine: set[str]) -> None:
        target = self._target(module, owner, call.func)
        if target is None:
            return
        there, function = target
        parameters = tuple(_received(call, there.functions[function], mine, "." in function))
        if parameters:
            self._enter(there, function, parameters)

    def _target(self, module: Module, owner: str, func: ast.expr) -> tuple[Module, str] | None:
        name = _dotted(func)
        if name is None:
            return None
        first, _, rest = name.partition(".")
        if first == "self" and f"{owner}.{rest}" in module.functions:
            return module, f"{owner}.{rest}"
        for own in (name, f"{name}.__init__"):
            if own in module.functions:
                return module, own
        behind = module.imported.get(first)
        return None if behind is None else self.tree.home(f"{behind}.{rest}" if rest else behind)


def _in_order(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions of one statement, inner calls first, not those of inner statements."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt | ast.excepthandler):
            yield from _post_order(child)


def _post_order(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield from _post_order(child)
    yield node


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _has(node: ast.AST, mine: set[str]) -> bool:
    """Whether a value is a followed one or a part of it: `space`, `space.axes`, `entries[0]`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return isinstance(node, ast.Name) and node.id in mine


def _bound(statement: ast.stmt, mine: set[str]) -> Iterator[str]:
    """Yield the names that a statement binds to a followed value or to what is made of one."""
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        value: ast.AST = statement.value
    elif isinstance(statement, ast.For):
        targets, value = [statement.target], statement.iter
    else:
        return
    if _has(value, mine):
        for target in targets:
            yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _received(call: ast.Call, function: Function, mine: set[str], method: bool) -> Iterator[str]:
    """Yield the parameters of a function that get a followed value from a call."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    names = names[1:] if method else names
    for name, value in zip(names, call.args, strict=False):
        if _has(value, mine):
            yield name
    for keyword in call.keywords:
        if keyword.arg is not None and _has(keyword.value, mine):
            yield keyword.arg


def main() -> None:
    tree, walks = Tree(Path(sys.argv[1])), sys.argv[2:]
    for each in walks:
        module, function, parameter = each.split(":")
        walk = Walk(tree, module, function, parameter)
        sys.stdout.write(
            f"{each}: {len(walk.stays)} stays, {walk.rooms} rooms, {walk.climbs} climbs\n"
        )


if __name__ == "__main__":
    main()
