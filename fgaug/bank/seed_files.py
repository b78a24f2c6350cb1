"""Find image files by the seeds in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgaug.core.image_formats import EXTENSIONS
from fgaug.errors import BankError

SEED = "{seed}"  # placeholder for the digits in a pattern
MAX_Z_SEED = 2**32 - 1  # limit of numpy's RandomState
_SHOWN = 10  # names listed in a message; the rest are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFolder:
    """The folder of one label's images."""

    label: str
    folder: Path
    pattern: str | None = None  # of its file names; None takes images whose stem ends in digits
    skip: frozenset[str] = frozenset()  # without a pattern: names to ignore


@dataclass(frozen=True, slots=True)
class SeedFile:
    """One image file with its label and z_seed."""

    label: str
    z_seed: int
    path: Path


def find_all(folders: Sequence[LabelFolder]) -> list[SeedFile]:
    """Return all files, sorted by label and z_seed; refuse a file that fits two labels.

    Raises:
        BankError: lists every problem of every folder.
    """
    labels = [each.label for each in folders]
    problems = [
        f"`{label}` has two folders" for label in dict.fromkeys(labels) if labels.count(label) > 1
    ]
    found: dict[Path, SeedFile] = {}
    for each in folders:
        try:
            files = find(each.folder, each.pattern, each.skip)
        except BankError as error:
            problems.append(f"`{each.label}`: {error}")
            continue
        twice = [path for _, path in files if path.absolute() in found]
        if twice:
            other = found[twice[0].absolute()].label
            problems.append(
                f"`{each.label}`: {some([path.name for path in twice])} would belong to `{other}` "
                "too. Give each label in a folder a separate pattern, such as --pattern "
                f"{each.label}='{each.label}_seed{SEED}.png'."
            )
        for z_seed, path in files:
            found[path.absolute()] = SeedFile(each.label, z_seed, path)
    if problems:
        raise BankError("\n".join(problems))
    return list(found.values())


def find(
    folder: Path, pattern: str | None = None, skip: Collection[str] = ()
) -> list[tuple[int, Path]]:
    """Return (z_seed, file) of the images of a folder, by z_seed.

    Args:
        folder: contains the files directly; subfolders are not searched.
        pattern: file name with `{seed}` for the digits and `*` for any text: `trv*seed{seed}.png`.
            None takes every image, whose stem must end in the digits.
        skip: without a pattern: names to ignore.

    Raises:
        BankError: no file fits, a name has no digits, or two files have one z_seed.
    """
    names = _names(folder)
    if pattern is None:
        images = [name for name in names if Path(name).suffix.lower() in EXTENSIONS]
        names = [name for name in images if name not in skip]
    fits = re.compile(r".*?([0-9]+)\.[^.]*", re.DOTALL) if pattern is None else _compiled(pattern)
    matches = {name: fits.fullmatch(name) for name in names}
    strange = [name for name, match in matches.items() if match is None]
    found: dict[int, str] = {}
    twice = []
    for name, match in matches.items():
        if match is not None:
            z_seed = int(match[1])
            if z_seed in found:
                twice.append(f"{found[z_seed]} and {name}")
            found.setdefault(z_seed, name)
    if pattern is None and strange:
        raise BankError(
            f"{folder} has images whose names do not end in a number: {some(strange)}. Show the "
            f"position of the seed with --pattern 'seed{SEED}.png', or remove these files."
        )
    if twice:
        raise BankError(
            f"{folder} has two files for one z_seed: {some(twice)}. Distinguish them with a "
            f"--pattern for each label, such as 'trv_seed{SEED}.png'."
        )
    if not found:
        what = f"file that fits {pattern}" if pattern else f"image ({', '.join(EXTENSIONS)})"
        raise BankError(f"{folder} has no {what}." + (f" It has {some(names)}." if names else ""))
    if max(found) > MAX_Z_SEED:
        raise BankError(
            f"z_seeds must be between 0 and {MAX_Z_SEED}, {found[max(found)]} gives {max(found)}."
        )
    return [(z_seed, folder / found[z_seed]) for z_seed in sorted(found)]


def of_other_endings(folders: Sequence[LabelFolder]) -> list[Path]:
    """Return files that match a pattern except for the extension, and so are not imported."""
    found: dict[Path, None] = {}
    for each in folders:
        stem, dot, ending = (each.pattern or "").rpartition(".")
        if not dot or SEED in ending or "*" in ending:
            continue
        exact, loose = _compiled(f"{stem}.{ending}"), _compiled(f"{stem}.*")
        for name in _names(each.folder):
            if loose.fullmatch(name) and not exact.fullmatch(name):
                found[each.folder / name] = None
    taken = {path for each in folders if each.pattern for path in _fitting(each)}
    return [path for path in found if path not in taken]


def _fitting(folder: LabelFolder) -> list[Path]:
    fits = _compiled(folder.pattern or "")
    return [folder.folder / name for name in _names(folder.folder) if fits.fullmatch(name)]


def some(names: Sequence[str]) -> str:
    """Return the first ten names and the number of further ones."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _names(folder: Path) -> list[str]:
    """Return the sorted names of a folder's files, without hidden ones."""
    if not folder.is_dir():
        raise BankError(f"{folder} is not a folder.")
    with os.scandir(folder) as entries:
        return sorted(each.name for each in entries if each.name[0] != "." and each.is_file())


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.count(SEED) != 1 or "/" in pattern:
        raise BankError(
            f"A pattern must be a file name with {SEED} once, got {pattern}. For example, give "
            f"'trv_seed{SEED}.png'."
        )
    # `*` matches as little as possible, so that all digits belong to the seed
    left, right = (
        ".*?".join(re.escape(part) for part in side.split("*")) for side in pattern.split(SEED)
    )
    return re.compile(f"{left}([0-9]+){right}", re.DOTALL)
