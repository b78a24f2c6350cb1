"""Read YAML files strictly: safe tags, no aliases, no repeated keys, bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fgaug.errors import GridError

MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (a few lines can expand to gigabytes) and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in the stubs
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported; repeat the value",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float)) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key `{key}` occurs twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, (str, int, float)) else repr(key))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read the value in a YAML file.

    Raises:
        GridError: the file is missing, too large or not plain YAML; gives line and column.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GridError([f"a grid file can have at most {MAX_BYTES} bytes"], str(path))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GridError(["the file does not exist"], str(path)) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8. Save the file as UTF-8"
        raise GridError([problem], str(path)) from None
    except OSError as error:
        raise GridError([f"the file cannot be read: {error}"], str(path)) from None
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader, see above
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise GridError([f"{where}{error.problem}"], str(path)) from None
    # values that do not match their tag: `!!bool x` is a KeyError, `!!timestamp x` an
    # AttributeError
    except (
        yaml.YAMLError,
        RecursionError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else "nesting is too deep"
        raise GridError([f"invalid YAML: {reason}"], str(path)) from None
