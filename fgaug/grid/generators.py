"""The key `generator` of a grid, and the values of the axis `snapshot`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fgaug.core import paths
from fgaug.grid.recipe import Frozen


class SnapshotFile(Frozen):
    """The network of one label: a file, and the class index if the network is conditional."""

    file: str
    class_index: Annotated[int, Field(strict=True, ge=0)] | None = Field(None, alias="class")


_KEYS_OF_KIND = {  # keys that each kind accepts, besides `noise`
    "stylegan2": ("snapshots", "cutoff", "precision"),
    "external": ("snapshots", "python", "repo", "program", "prefix"),
    "imported": (),
    "phantom": (),
    "stub": (),
}


class Generator(Frozen):
    """How fakes are generated, or were generated before an import.

    External programs and imported images bring their own noise; for them `noise` only records
    the mode and has no effect.
    """

    kind: Literal["stylegan2", "external", "imported", "phantom", "stub"] = "stylegan2"
    snapshots: dict[str, SnapshotFile] = Field(default_factory=dict)
    noise: Literal["const", "none", "seeded"] = "seeded"
    # number of w vectors (layers) to truncate
    cutoff: Annotated[int, Field(strict=True, ge=1)] | None = None
    # of the convolutions; auto: the faster one of float32 and bfloat16, see
    # study.generator_precision; None: float32
    precision: Literal["float32", "float16", "bfloat16", "auto"] | None = None
    # this and the next three keys: external only
    python: Annotated[str, Field(min_length=1)] | None = None
    repo: Annotated[str, Field(min_length=1)] | None = None
    program: Literal["generate.py", "run_generator.py"] | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_files(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("snapshots"), dict):
            files = {
                label: {"file": value} if isinstance(value, str) else value
                for label, value in raw["snapshots"].items()
            }
            return {**raw, "snapshots": files}
        return raw

    @field_validator("precision")
    @classmethod
    def _none_is_float32(cls, value: str | None) -> str | None:
        return None if value == "float32" else value  # one identity for one thing

    @model_validator(mode="after")
    def _keys_fit_kind(self) -> Generator:
        takes = _KEYS_OF_KIND[self.kind]
        needs = ("python", "repo") if self.kind == "external" else ()
        lacking = [f"`{key}`" for key in needs if getattr(self, key) is None]
        every = dict.fromkeys(key for keys in _KEYS_OF_KIND.values() for key in keys)
        unfit = [f"`{key}`" for key in every if getattr(self, key) and key not in takes]
        problems = []
        if "snapshots" in takes and not self.snapshots:
            problems.append(f"`kind: {self.kind}` needs `snapshots: {{label: file}}`")
        if lacking:
            problems.append(f"`kind: {self.kind}` needs {' and '.join(lacking)}")
        if unfit:
            problems.append(f"`kind: {self.kind}` takes no {', '.join(unfit)}")
        if self.program == "run_generator.py" and self.prefix is not None:
            problems.append("`program: run_generator.py` takes no `prefix`")
        for label, snapshot in self.snapshots.items():
            if self.program == "run_generator.py" and snapshot.class_index is not None:
                problems.append(
                    f"`program: run_generator.py` takes no `class`; drop it from `{label}`"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self


class SnapshotEntry(Frozen):
    """A value of the axis `snapshot`: a generator with its own bank."""

    generator: Generator
    bank: Annotated[str, Field(min_length=1)]
    # used in rows, messages and figures; `with_names` fills in a default
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] | None = None


def with_names(entries: list[SnapshotEntry]) -> list[SnapshotEntry]:
    """Return the entries with default names filled in; raise ValueError on shared names or banks.

    The default is the stem of the first label's network file, or the kind. If several entries
    would get the same default, each gets its position (from 1) appended.
    """
    usual = [entry.name or _usual_name(entry.generator) for entry in entries]
    names = [
        name if entry.name or usual.count(name) == 1 else f"{name}-{place}"
        for place, (entry, name) in enumerate(zip(entries, usual, strict=True), start=1)
    ]
    banks = [_place(entry.bank) for entry in entries]
    problems = []
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"names repeat: {', '.join(repeated)}. Give each entry its own")
    if shared := sorted({bank for bank in banks if banks.count(bank) > 1}):
        places = ", ".join(map(paths.without_secrets, shared))
        problems.append(f"several entries share the bank {places}. Give each entry its own")
    if problems:
        raise ValueError("; ".join(problems))
    return [
        entry.model_copy(update={"name": name}) for entry, name in zip(entries, names, strict=True)
    ]


def _usual_name(generator: Generator) -> str:
    if not generator.snapshots:
        return generator.kind
    first = next(iter(generator.snapshots.values()))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(paths.name_of(first.file)).stem)[:90]


def _place(bank: str) -> str:
    """Return a bank's location in normal form, for comparison."""
    return bank.rstrip("/") if "://" in bank else str(Path(bank).resolve())
