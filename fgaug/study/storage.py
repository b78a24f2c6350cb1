"""`--storage`: copies the local inputs of a grid to a store, where the grid then finds them.

Copies are named by content, so that searches share them and a repetition sends nothing. The place
of an input identifies nothing: cells, digests and rows stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from fgaug.bank import open_bank, open_store
from fgaug.bank.stage import upload_of_bank
from fgaug.core import files, listing, paths, store
from fgaug.core.paths import BankNames, within
from fgaug.core.staging import shown_size, upload_of
from fgaug.data import open_dataset
from fgaug.data.stage import upload_of_dataset
from fgaug.errors import DataError, GridError, UserError
from fgaug.grid.cells import digest
from fgaug.grid.generators import Generator
from fgaug.grid.preparations import Preparation
from fgaug.grid.space import Scorers, Space
from fgaug.study.fake_source import FakeSource
from fgaug.study.plan import Plan
from fgaug.study.stage import Copy, names_of, send

INPUTS = "inputs"  # beside a run at a URI


def storage_of(given: str | None, out: str | None, address: str | None) -> str | None:
    """Return where a search copies its local inputs; None: they stay where they are.

    A run at a URI on a cluster (`--address`) has nodes that cannot see the folders of this
    machine: unless another place is given, inputs go to `inputs` beside the run, where all runs
    of that folder share them.

    Args:
        given: the value of `--storage`.
        out: the run's place.
        address: of a Ray cluster to join.

    Raises:
        UserError: the given place is not a URI.
    """
    if given is not None:
        if not store.is_uri(given):
            raise UserError(
                f"--storage must be a URI that every node reaches, such as s3://bucket/inputs, "
                f"got {given}. Folders that every node sees need no copy: drop --storage."
            )
        return given
    if out is not None and store.is_uri(out) and address is not None:
        return within(paths.parent(out), INPUTS)
    return None


def stage_inputs(planned: Plan, uri: str, console: Console) -> Space:
    """Copy what a plan reads from local folders; return its grid with the places of the copies.

    Args:
        planned: the plan of a search; its inputs have been checked.
        uri: where to copy them: `datasets/`, `networks/`, `weights/` and `banks/` below it.
        console: prints sizes and progress.

    Raises:
        GridError: the axis `recipe.weights` names local files.
        UserError: the store cannot be written.
    """
    inputs = inputs_of(planned, uri)
    for line in inputs.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for copy in inputs.copies.values():
        if copy.bytes:
            send(copy, console)
        else:
            copy.run(lambda done, wanted: None)
    return inputs.space


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The local inputs of a grid, and the grid that refers to their copies."""

    uri: str
    space: Space
    copies: Mapping[str, Copy]  # by place

    def lines(self) -> list[str]:
        """Return how much is to be sent where, for people."""
        place = paths.shown_uri(self.uri)
        if not self.copies:
            return [f"inputs: all are given by URI, nothing to copy to {place}"]
        wanted = sum(copy.bytes for copy in self.copies.values())
        total = sum(copy.total for copy in self.copies.values())
        return [f"inputs go to {place}: {shown_size(wanted)} of {shown_size(total)} to send"]


def inputs_of(planned: Plan, uri: str) -> Inputs:
    """Return the local inputs of a plan and what `uri` lacks of them; nothing is sent.

    Raises:
        GridError: the axis `recipe.weights` names local files.
        UserError: the store cannot be reached.
    """
    space = planned.space
    given = [value for axes in space.lists for value in axes.recipe.get("weights", ())]
    if local := [value for value in given if value is not None and not store.is_uri(value)]:
        raise GridError(
            [
                f"`axes.recipe.weights` names the local file {local[0]}, and rows show the values "
                "of an axis, which --storage may not change. Copy the files with `fgaug stage "
                "FILE URI` and name them by URI"
            ],
            space.name,
        )
    found = _Copies(uri, [needs.source for needs in planned.needs])
    return Inputs(uri=uri, space=found.of_grid(space), copies=found.copies)


@dataclass(slots=True)
class _Copies:
    """Collects the copies of a grid's inputs, each once."""

    uri: str
    sources: list[FakeSource]
    copies: dict[str, Copy] = field(default_factory=dict)

    def of_grid(self, space: Space) -> Space:
        """Return the grid with the places of the copies."""
        axes = space.axes.model_copy(
            update={
                "dataset": space.axes.dataset
                and {name: self._preparation(each) for name, each in space.axes.dataset.items()},
                "snapshot": [
                    entry.model_copy(
                        update={
                            "generator": self._generator(entry.generator),
                            "bank": self._bank(entry.bank),
                        }
                    )
                    for entry in space.axes.snapshot
                ],
            }
        )
        weights = space.recipe.weights and self._file(space.recipe.weights, "weights")
        return space.model_copy(
            update={
                "dataset": self._dataset(space.dataset),
                "axes": axes,
                "bank": space.bank and self._bank(space.bank),
                "generator": space.generator and self._generator(space.generator),
                "scorers": space.scorers and self._scorers(space.scorers),
                "recipe": space.recipe.model_copy(update={"weights": weights}),
            }
        )

    def _preparation(self, entry: Preparation) -> Preparation:
        return entry.model_copy(
            update={
                "path": self._dataset(entry.path),
                "bank": entry.bank and self._bank(entry.bank),
                "generator": entry.generator and self._generator(entry.generator),
            }
        )

    def _dataset(self, path: str) -> str:
        if store.is_uri(path):
            return path
        place = within(self.uri, f"datasets/{open_dataset(path).key}")
        to = store.open_store(place, DataError)
        if place not in self.copies and listing.read(to, DataError) is None:
            self.copies[place] = upload_of_dataset(Path(path), to)
        return place

    def _generator(self, generator: Generator) -> Generator:
        named = {
            label: each.model_copy(update={"file": self._file(each.file, "networks")})
            for label, each in generator.snapshots.items()
        }
        return generator.model_copy(update={"snapshots": named})

    def _scorers(self, scorers: Scorers) -> Scorers:
        return scorers.model_copy(
            update={
                "features": self._after_colon(scorers.features),
                "classifier": self._after_colon(scorers.classifier)
                if scorers.judge is None
                else self._file(scorers.classifier, "weights"),
            }
        )

    def _after_colon(self, asked: str) -> str:
        """Return `model:FILE` with the place of the file; a name without a file as it is."""
        kind, colon, file = asked.partition(":")
        return f"{kind}:{self._file(file, 'weights')}" if colon else asked

    def _file(self, file: str, kind: str) -> str:
        """Return the place of a network's copy; a file that does not exist stays as it is."""
        path = Path(file)
        if store.is_uri(file) or not path.is_file():
            return file
        if "?" in path.name:
            raise UserError(
                f"{path} cannot be copied to a store: a question mark ends the name in a URI. "
                "Rename the file."
            )
        place = within(self.uri, f"{kind}/{_plain(path.stem)}-{files.sha256_of(path)[:16]}")
        if place not in self.copies:
            to = store.open_store(place, UserError)
            self.copies[place] = upload_of(path.parent, names_of(path), to, UserError, keep=True)
        return within(place, path.name)

    def _bank(self, bank: str) -> str:
        """Return the place of a bank's copy, which a search fills there."""
        local = open_store(bank)
        source = next((each for each in self.sources if each.store.uri == local.uri), None)
        if local.folder is None or source is None:
            return bank
        finished = local.has(BankNames.manifest)
        content: list[object] = [source.identity]
        if finished and any(each.kind == "imported" for each in source.spec.sources.values()):
            content += sorted(shard.sha256 for shard in open_bank(local).shards)
        name = f"{_plain(local.folder.absolute().name)}-{digest(content)[:12]}"
        place = within(self.uri, f"banks/{name}")
        if place not in self.copies and finished:  # else it is filled at its new place
            self.copies[place] = upload_of_bank(open_bank(local), open_store(place))
        return place


def _plain(name: str) -> str:
    """Return a name without characters that mean something in a URI."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60]
