"""A writer of network pickles: names that need not exist, called on anything."""

from __future__ import annotations

import io
import pickle
from typing import Any


class Named:
    """A global of a pickle by module and name."""

    def __init__(self, module: str, name: str) -> None:
        self.text = f"c{module}\n{name}\n".encode()


class Call:
    """A call of a global in a pickle."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.named, self.arguments = Named(module, name), arguments


class Raw(bytes):
    """Opcodes put into a pickle as they are."""


def nested(depth: int) -> Raw:
    """Return lists in lists: `pickle` itself could not write them."""
    return Raw(b"]" * depth + b"a" * (depth - 1))


class Object:
    """An object of a named class with its state: NEWOBJ, BUILD."""

    def __init__(self, module: str, name: str, state: Any) -> None:
        self.named, self.state = Named(module, name), state


class Built:
    """A value of a pickle with a state set on it: BUILD."""

    def __init__(self, value: Any, state: Any) -> None:
        self.value, self.state = value, state


class Writer(pickle._Pickler):
    """A pickler that also writes what is defined above."""

    def save_named(self, named: Named) -> None:
        self.write(named.text)

    def save_call(self, call: Call) -> None:
        self.save(call.named)
        self.save(call.arguments)
        self.write(pickle.REDUCE)

    def save_object(self, made: Object) -> None:
        self.save(made.named)
        self.save(())
        self.write(pickle.NEWOBJ)
        self.save(made.state)
        self.write(pickle.BUILD)

    def save_built(self, built: Built) -> None:
        self.save(built.value)
        self.save(built.state)
        self.write(pickle.BUILD)

    def save_raw(self, opcodes: Raw) -> None:
        self.write(opcodes)


Writer.dispatch = {
    **pickle._Pickler.dispatch,
    Named: Writer.save_named,
    Call: Writer.save_call,
    Object: Writer.save_object,
    Built: Writer.save_built,
    Raw: Writer.save_raw,
}


def pickled(value: Any, protocol: int = 4) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol).dump(value)
    return stream.getvalue()
