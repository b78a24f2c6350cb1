"""Read named tensors from a weights file without running code from it.

torch's restricted unpickler reads the file. Unknown objects beside the tensors (an argparse
Namespace, numpy scalars, paths) become inert placeholders. Names that data never needs, such as
`getattr` and all of `os`, are refused, as they can run code.
"""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fgaug.core.first_bytes import FileKind, identify
from fgaug.errors import UserError

# Names in these modules point to an attack, or to a program rather than data.
_REFUSED = frozenset(
    (
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "pty",
        "ctypes",
        "importlib",
        "runpy",
        "code",
        "pickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "marshal",
        "urllib",
        "http",
        "requests",
        "asyncio",
        "multiprocessing",
        "tempfile",
        "webbrowser",
        # of these four, the names below are harmless
        "builtins",
        "__builtin__",
        "io",
        "_io",
    )
)
_DATA = frozenset(  # of builtins and io
    (
        "set",
        "frozenset",
        "list",
        "dict",
        "tuple",
        "str",
        "int",
        "float",
        "bool",
        "bytes",
        "bytearray",
        "complex",
        "range",
        "slice",
        "object",
        "type",
        "xrange",
        "unicode",
        "long",
        "Ellipsis",
        "NotImplemented",
        "NoneType",
        "BytesIO",
        "StringIO",
    )
)
_CURES = {  # more specific than the general cure
    "hdf5": "For Keras weights, use `backend: keras`",
    "keras": "For Keras weights, use `backend: keras`",
    "npz": "Save its arrays as tensors in a state dict with torch.save",
    "npy": "Give a state dict saved by torch.save",
    "pickle": "Load it with its original program, and save its tensors with torch.save",
}
# torch's message on a persistent id that is not a storage: in old files, a module and its source
_OF_MODULE = "Only persistent_load of storage is allowed"
_MAX_PROTOCOL = 3  # of pickle
_READ = ("safetensors", "torch", "torch-legacy")


class _Inert(list[Any]):
    """A placeholder that discards everything a pickle stores in it."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, *_: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def __hash__(self) -> int:  # type: ignore[override]  # lists have none, but keys need one
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _InertDict:
    """A placeholder class whose objects are plain dicts, which may contain tensors."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # by intent
        return OrderedDict()


def read_file(path: Path, *, lazily: bool = False) -> dict[Any, Any]:
    """Read the dict in a weights file.

    Args:
        path: a file of torch.save, old or new, or of safetensors, with any name.
        lazily: memory-map the tensors if possible.

    Raises:
        UserError: the file is of another kind or damaged, has no dict, or could run code.
    """
    kind = identify(path)
    if kind is not None and kind.name not in _READ:
        raise _refused(path, f"it is {kind.what}. {kind.way_out(_CURES)}")
    try:
        value = _value_of(path, kind, lazily)
    except Exception as error:  # the libraries document no set of errors for hostile bytes
        if _OF_MODULE in str(error):
            raise _whole_model(path) from None
        raise _refused(path, _reason(error)) from error
    if isinstance(value, _Inert):
        raise _whole_model(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} contains a {type(value).__name__}, not a state dict of tensors.")
    return value


def _refused(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be read as weights ({reason}). Give a state dict saved by torch.save or a "
        ".safetensors file; pickled models are refused, as they can run code."
    )


def _whole_model(path: Path) -> UserError:
    return UserError(
        f"{path} contains a pickled model, not its tensors. Load it with its original code and "
        "save the tensors: torch.save(model.state_dict(), FILE)."
    )


def _reason(error: Exception) -> str:
    """Return the informative line of a library's message."""
    text = str(error) or type(error).__name__
    _, _, own = text.partition("WeightsUnpickler error:")
    return (own.strip() or text).splitlines()[0][:300]


def _value_of(path: Path, kind: FileKind | None, lazily: bool) -> Any:
    from safetensors.torch import load_file

    if kind is not None and kind.name == "safetensors":
        return dict(load_file(path))
    names = _checked(_names(path, kind))
    classes: list[type] = [type(f"_Inert{place}", (_Inert,), {}) for place in range(len(names))]
    while True:
        try:
            return _loaded(path, list(zip(classes, names, strict=True)), lazily)
        except Exception as error:
            # torch sets items only on dicts: an object with items is of a subclass of dict
            found = re.search(r"Can only SETITEMS? for dict.*\._Inert(\d+)'", str(error))
            if found is None:
                raise
            classes[int(found[1])] = type(f"_Dict{found[1]}", (_InertDict,), {})


def _loaded(path: Path, stand_ins: list[Any], lazily: bool) -> Any:
    """Load the file with torch, with placeholders for names that torch does not know."""
    import torch

    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        # protocol 3 is supported; unsupported contents raise an error
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
        # torch's reader of quantised tensors triggers this warning itself
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor", UserWarning)
        if lazily and path.suffix != ".safetensors" and zipfile.is_zipfile(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:  # given a path, torch would trust the suffix
            return torch.load(file, map_location="cpu", weights_only=True)


def _checked(names: Iterable[str]) -> list[str]:
    """Return names as `module.name`, for Python 2 also in today's form; refuse attacks."""
    found = set()
    for text in names:
        module, _, name = text.partition(" ")
        new = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        for place, word in ((module, name), new):
            data = place in ("builtins", "__builtin__", "io", "_io") and word in _DATA
            if place.split(".")[0] in _REFUSED and not data:
                raise ValueError(
                    f"it names {text[:100]!r}, which data never needs and which can run code"
                )
            found.add(f"{place}.{word}")
    return sorted(found)


def _names(path: Path, kind: FileKind | None) -> Iterator[str]:
    """Yield the names in the pickles of a torch.save file, as `module name`."""
    if kind is None:
        return
    if kind.name == "torch":
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            for name in inside:
                with archive.open(name) as file:
                    yield from _globals(file)
    else:
        with path.open("rb") as file:
            for _ in range(5):  # three headers, the value, the keys of its storages
                yield from _globals(file)


def _globals(file: Any) -> Iterator[str]:
    pickle: BinaryIO = file
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "PROTO" and int(argument or 0) > _MAX_PROTOCOL:
            raise ValueError(
                f"it was saved with `pickle_protocol={argument}`, and torch's safe reader "
                f"supports at most {_MAX_PROTOCOL}. Save it again without that option: "
                "torch.save(state_dict, FILE)"
            )
        if opcode.name == "GLOBAL":
            yield str(argument)
