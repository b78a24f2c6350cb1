"""A pickle machine that runs nothing of what it reads.  bytes -> plain values and inert records

A pickle is a program for a stack machine whose `REDUCE` calls any function it names. Here the
machine is our own: `pickletools` only splits the bytes into opcodes, the forty that network files
use are carried out on plain lists and dicts, and a name is a token that stands for a record maker
of `records.py`. Nothing is imported or looked up by name, so an unknown name cannot run.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fgaug.errors import SnapshotError

# A 1024 px snapshot of three networks has below 100,000.
MAX_OPCODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Name:
    """A (module, name) pair of the allow-list; a token, never the object it names."""

    text: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of the file by place, so that 300 MB of weights are not copied to be looked at."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class PersistentId:
    """What a storage stream says of its storage."""

    value: Any


@dataclass(frozen=True, slots=True)
class Dtype:
    """A numpy scalar type by its code."""

    code: str


Maker = Callable[[bytes, tuple[Any, ...]], Any]
Builder = Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one kind of stream may name and make."""

    makers: Mapping[str, Maker | None] = field(repr=False)  # None: may be named, not called
    objects: Mapping[str, Callable[[], Any]] = field(default_factory=dict)  # what NEWOBJ makes
    builders: Mapping[type, Builder] = field(default_factory=dict)  # what BUILD sets on a record
    persistent: bool = False  # may hold a persistent id


def run_pickle(
    data: bytes, rules: Rules, start: int = 0, stop: int | None = None
) -> tuple[Any, int]:
    """Return the value of the pickle at `start` and the place after it; refuse all unknown."""
    return _Machine(data, rules, start, stop).run()


class _Machine:
    """The stack machine for the stream in `data[start:stop]`."""

    def __init__(self, data: bytes, rules: Rules, start: int, stop: int | None) -> None:
        self.data, self.rules, self.start = data, rules, start
        self.window = data if (start, stop) == (0, None) else data[start:stop]
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.opcodes = 0

    def run(self) -> tuple[Any, int]:
        """Return the value at STOP and the place after it."""
        at = 0
        try:
            for opcode, argument, position in pickletools.genops(io.BytesIO(self.window)):
                at = position or 0
                self.opcodes += 1
                if self.opcodes > MAX_OPCODES:
                    raise SnapshotError(f"more than {MAX_OPCODES} opcodes")
                if opcode.name == "STOP":
                    return self._result(), self.start + at + 1
                self._step(opcode.name, argument, at)
        except SnapshotError as error:
            place = "" if "byte" in str(error) else f" (byte {self.start + at})"
            raise SnapshotError(f"{error}{place}") from None
        except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise SnapshotError(
                f"damaged pickle: {reason} (after byte {self.start + at})"
            ) from None
        raise SnapshotError("the pickle has no end")

    def _result(self) -> Any:
        if len(self.stack) != 1 or self.marked:
            raise SnapshotError("the pickle does not end with one value")
        return self.stack.pop()

    def _step(self, name: str, argument: Any, at: int) -> None:
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _BYTES:
            start = self.start + at + _BYTES[name]
            self.stack.append(Blob(start, len(argument)))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name == "BINPERSID" and self.rules.persistent:
            self.stack.append(PersistentId(self.stack.pop()))
        elif name == "FRAME":
            if argument > len(self.window) - at:
                raise SnapshotError(f"a frame of {argument} bytes reaches beyond the file")
        elif name != "PROTO":
            raise SnapshotError(f"opcode {name} is never in a network file")

    def pop_to_mark(self) -> list[Any]:
        """Return what was pushed since the last MARK."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def remember(self, index: int) -> None:
        """Store the top of the stack in the memo."""
        if index > self.opcodes:
            raise SnapshotError(f"memo index {index} after {self.opcodes} opcodes")
        self.memo[index] = self.stack[-1]

    def name(self, text: str) -> None:
        """Push the token of an allowed (module, name) pair."""
        if text not in self.rules.makers:
            raise SnapshotError(f"the name {text[:200]!r} is never in a network file")
        self.stack.append(Name(text))

    def name_from_stack(self) -> None:
        """Push the token named by two strings on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise SnapshotError("a global is not named by two strings")
        self.name(f"{module} {name}")

    def call(self) -> None:
        """Replace a token and its arguments by the record it stands for."""
        arguments, token = self.stack.pop(), self.stack.pop()
        make = self.rules.makers[token.text] if isinstance(token, Name) else None
        if make is None or not isinstance(arguments, tuple):
            raise SnapshotError("a call of something that is not a network record")
        self.stack.append(make(self.data, arguments))

    def new(self) -> None:
        """Replace the token of a class by an empty record."""
        arguments, token = self.stack.pop(), self.stack.pop()
        make = self.rules.objects.get(token.text) if isinstance(token, Name) else None
        if make is None or arguments != ():
            raise SnapshotError("an object of a class that is not a network record")
        self.stack.append(make())

    def build(self) -> None:
        """Set the state of the record on top, where its kind has one."""
        state = self.stack.pop()
        record = self.stack[-1]
        set_state = self.rules.builders.get(type(record))
        if set_state is None:
            raise SnapshotError("state set on something that is not a network record")
        set_state(record, state)

    def take(self, count: int) -> None:
        """Join the top `count` values into a tuple."""
        items = self.stack[-count:]
        if len(items) != count:
            raise SnapshotError("the stack is empty")
        self.stack[-count:] = [tuple(items)]

    def set_items(self, pairs: list[Any]) -> None:
        """Put keys and values into the dict on top."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise SnapshotError("items set on something that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):
                raise SnapshotError("a key that is neither text nor a number")
            target[key] = value

    def append(self, items: list[Any]) -> None:
        """Add to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise SnapshotError("items appended to something that is not a list")
        self.stack[-1].extend(items)


def _mark(machine: _Machine, _: Any) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _tuple(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.stack.append(tuple(items))


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


_PLAIN = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FRESH: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": frozenset,
}
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5}  # bytes of opcode and length before the data
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "BINPUT": lambda m, index: m.remember(index),
    "LONG_BINPUT": lambda m, index: m.remember(index),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "MARK": _mark,
    "TUPLE": _tuple,
    "TUPLE1": lambda m, _: m.take(1),
    "TUPLE2": lambda m, _: m.take(2),
    "TUPLE3": lambda m, _: m.take(3),
    "SETITEM": _set_item,
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "GLOBAL": lambda m, text: m.name(text),
    "STACK_GLOBAL": lambda m, _: m.name_from_stack(),
    "NEWOBJ": lambda m, _: m.new(),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
