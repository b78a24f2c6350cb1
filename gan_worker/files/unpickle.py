"""Unpickle without running any code.

A pickle is a program for a stack machine whose `REDUCE` opcode calls any function by name. Here
the stack machine is our own: `pickletools` only splits the bytes into opcodes, those of protocols
2 to 5 are executed on plain lists and dicts, and a name is just a token. Nothing is imported or
looked up by name. A known name maps to a record of `records.py`; calling any other name gives an
`Opaque` value, which matters only if the network needs it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fgaug.errors import SnapshotError

# A 1024 px snapshot of three networks has fewer than 100,000.
MAX_OPCODES = 1_000_000
_SHOWN = 120  # characters quoted from a file in a message


@dataclass(frozen=True, slots=True)
class Name:
    """A (module, name) pair: a token, never the named object."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An unsupported value; `what` describes it if a network turns out to need it."""

    what: str


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A range of the file's bytes, not copied, so that 300 MB of weights are not duplicated."""

    view: memoryview

    def __len__(self) -> int:
        return len(self.view)


@dataclass(frozen=True, slots=True)
class PersistentId:
    """The description of a storage in its stream."""

    value: Any


Maker = Callable[[tuple[Any, ...]], Any]
Builder = Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The handlers of known names in one kind of stream; all others stay opaque."""

    makers: Mapping[str, Maker] = field(repr=False)  # for REDUCE
    objects: Mapping[str, Callable[[], Any]] = field(default_factory=dict)  # for NEWOBJ
    builders: Mapping[type, Builder] = field(default_factory=dict)  # for BUILD on a record
    persistent: bool = False  # may contain a persistent id


def run_pickle(
    data: bytes, rules: Rules, start: int = 0, stop: int | None = None
) -> tuple[Any, int]:
    """Return the value of the pickle at `start` and the offset after it.

    Raises:
        SnapshotError: the bytes are damaged or have opcodes that protocols 2 to 5 do not use.
    """
    return _Machine(data, rules, start, stop).run()


class _Machine:
    """The stack machine for the stream in `data[start:stop]`."""

    def __init__(self, data: bytes, rules: Rules, start: int, stop: int | None) -> None:
        self.rules, self.start = rules, start
        self.window = data if (start, stop) == (0, None) else data[start:stop]
        self.view = memoryview(self.window)
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.opcodes = 0

    def run(self) -> tuple[Any, int]:
        """Run until STOP; return the value and the offset after it."""
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
            start = at + _BYTES[name]
            self.stack.append(Blob(self.view[start : start + len(argument)]))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name == "BINPERSID" and self.rules.persistent:
            self.stack.append(PersistentId(self.stack.pop()))
        elif name == "FRAME":
            if argument > len(self.window) - at:
                raise SnapshotError(f"a frame of {argument} bytes reaches beyond the file")
        elif name != "PROTO":
            raise SnapshotError(
                f"opcode {name} does not belong in a network file of protocol 2 to 5"
            )

    def pop_to_mark(self) -> list[Any]:
        """Pop the values pushed since the last MARK."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def remember(self, index: int) -> None:
        """Store the top of the stack in the memo."""
        if index > self.opcodes:
            raise SnapshotError(f"memo index {index} after {self.opcodes} opcodes")
        self.memo[index] = self.stack[-1]

    def name_from_stack(self) -> None:
        """Replace two strings on the stack by the token that they name."""
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise SnapshotError("a global is not named by two strings")
        self.stack.append(Name(f"{module} {name}"))

    def call(self) -> None:
        """Replace a token and its arguments by its record, or by an opaque value."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple) or not isinstance(called, Name | Opaque):
            raise SnapshotError("a call of something without a name")
        make = self.rules.makers.get(called.text) if isinstance(called, Name) else None
        if make is None:
            self.stack.append(Opaque(described(called)))
            return
        try:
            self.stack.append(make(arguments))
        except SnapshotError as error:  # raised only if the network needs this value
            self.stack.append(Opaque(str(error)))

    def new(self, keywords: bool = False) -> None:
        """Replace the token of a class by an empty record, or by an opaque value."""
        if keywords:
            self.stack.pop()
        arguments, token = self.stack.pop(), self.stack.pop()
        if not isinstance(token, Name | Opaque):
            raise SnapshotError("an object of something without a name")
        make = self.rules.objects.get(token.text) if isinstance(token, Name) else None
        known = make is not None and arguments == () and not keywords
        self.stack.append(make() if make and known else Opaque(described(token)))

    def build(self) -> None:
        """Set the state of the record on top; the attributes of other values are ignored."""
        state = self.stack.pop()
        record = self.stack[-1]
        set_state = self.rules.builders.get(type(record))
        if set_state is not None:
            set_state(record, state)
        elif not isinstance(record, Opaque | dict):
            raise SnapshotError("state set on something that is not an object")

    def take(self, count: int) -> None:
        """Join the top `count` values into a tuple."""
        items = self.stack[-count:]
        if len(items) != count:
            raise SnapshotError("the stack is empty")
        self.stack[-count:] = [tuple(items)]

    def set_items(self, pairs: list[Any]) -> None:
        """Add keys and values to the dict on top; opaque values discard them."""
        target = self.stack[-1]
        if not isinstance(target, dict | Opaque) or len(pairs) % 2:
            raise SnapshotError("items set on something that is not a dict")
        if isinstance(target, Opaque):
            return
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # never hash a nested tuple as a key: that would recurse without limit
            plain = key is None or isinstance(key, str | int | float)
            target[key if plain else Opaque("a key that is neither a string nor a number")] = value

    def append(self, items: list[Any]) -> None:
        """Add items to the list on top; opaque values discard them."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise SnapshotError("items appended to something that is not a list")


def described(called: Name | Opaque) -> str:
    """Describe the result of calling an unknown name."""
    if isinstance(called, Opaque):
        return called.what
    text = called.text if len(called.text) <= _SHOWN else f"{called.text[:_SHOWN]}..."
    return f"a value of {text!r}, an unknown name"


def _mark(machine: _Machine, _: Any) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _tuple(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.stack.append(tuple(items))


def _forget_to_mark(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()


def _frozenset(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()
    machine.stack.append(Opaque("a frozen set"))


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


_PLAIN = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FRESH: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: Opaque("a set"),
}

# bytes of opcode and length before the data
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "BYTEARRAY8": 9}
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
    "ADDITEMS": lambda m, _: m.append(m.pop_to_mark()),
    "FROZENSET": _frozenset,
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": _forget_to_mark,
    "GLOBAL": lambda m, text: m.stack.append(Name(text)),
    "STACK_GLOBAL": lambda m, _: m.name_from_stack(),
    "NEWOBJ": lambda m, _: m.new(),
    "NEWOBJ_EX": lambda m, _: m.new(keywords=True),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
