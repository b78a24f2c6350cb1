"""Layouts: which level of folders holds labels, and which a split.  tree -> [layout] -> ingest

A level is counted from the folder that is given: in `DIR/train/benign/1.png`, `train` is level 1
and `benign` level 2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from fgaug.data.problems import counted, listed, refuse

_FILLER = r"(?:[ _.\-]*(?:set|sets|data|dataset|images?|imgs?|split|folder|\d+))*"
_LEAD = r"(?:\d+[ _.\-]+)?(?:images?[ _\-]*)?"
_ROLES = {
    "train": re.compile(rf"{_LEAD}(?:train|training|trn|(?<=s)tr){_FILLER}"),
    "valid": re.compile(rf"{_LEAD}(?:valid|val|validation|validate|dev|development){_FILLER}"),
    "test": re.compile(rf"{_LEAD}(?:test|testing|tst|(?<=s)ts){_FILLER}"),
    "held out": re.compile(rf"{_LEAD}(?:eval|evaluation|hold[ _\-]?out|unseen){_FILLER}"),
}
SPLITS = ("train", "valid", "test")
_FOLD = re.compile(
    r"(?:k[ _\-]?|cv[ _\-]?)?(?:folds?|split|cv)[ _.\-]*\(?\d+\)?(?:[ _.\-]*of[ _.\-]*\d+)?"
)
_CLASS_WORDS = re.compile(
    r"benign|malignant|malign|normal|abnormal|healthy|diseased?|positive|negative|pos|neg"
    r"|tumou?r|cancer|lesion|control|case|covid.*|pneumonia|infected|uninfected|yes|no|[0-9]"
)

Parts = tuple[str, ...]  # the folders of an image below the root


def check_levels(root: Path, images: Sequence[PurePath]) -> list[str]:
    """Refuse a tree whose first level is not that of the labels; return doubts of others.

    Raises:
        DataError: some level holds splits, or folds, or labels lie one level below.
    """
    parts = [path.parts[:-1] for path in images]
    depth = max(map(len, parts), default=0)
    for level in range(1, depth + 1):
        names = _names(parts, level)
        if _is_split(names):
            refuse(str(root), [_split_problem(parts, level)])
        if _is_folds(names):
            refuse(str(root), [_fold_problem(parts, level)])
    return _two_levels(root, parts)


def split_level(root: Path, images: Sequence[PurePath]) -> int:
    """Return the level whose folders are train, valid and test, or refuse."""
    parts = [path.parts[:-1] for path in images]
    for level in range(1, max(map(len, parts), default=0) + 1):
        names = _names(parts, level)
        roles = _roles(names)
        if len(roles) == len(names):
            refuse(str(root), _unfit_split(parts, level, roles))
            return level
    first = listed(sorted(_names(parts, 1))) or "no folders"
    cure = "Name folders train, valid (or val) and test, or leave out --split-folders"
    if any(_is_folds(_names(parts, level)) for level in (1, 2, 3)):
        cure = (
            "Folds are no split: move them into folders train, valid and test, or give a label "
            "table with a split column"
        )
    refuse(
        str(root),
        [f"--split-folders found no level of folders that are all splits: {first}. {cure}"],
    )
    raise AssertionError("refused above")


def splits_of(images: Sequence[PurePath], level: int) -> list[str]:
    """Return train, valid or test of each image by its folder on a level that is all splits."""
    roles = _roles(_names([path.parts[:-1] for path in images], level))
    return [roles[path.parts[level - 1]] for path in images]


def label_level_beside(images: Sequence[PurePath], split: int) -> int:
    """Return the first level beside that of the split on which folders differ."""
    return _label_level([path.parts[:-1] for path in images], split)


def _unfit_split(parts: Sequence[Parts], level: int, roles: Mapping[str, str]) -> list[str]:
    problems = [
        f'folder "{name}" may be valid or test. Rename it to one of them'
        for name, role in sorted(roles.items())
        if role not in SPLITS
    ]
    lacking = [role for role in ("train", "valid") if role not in roles.values()]
    if lacking and not problems:
        problems.append(
            f"--split-folders found {_counts(parts, level)} and no folder for "
            f"{' and '.join(lacking)}. Move images, whole patients, into a folder "
            f"{' and one '.join(lacking)}; or leave it out and say --label-level "
            f"{_label_level(parts, level)} to pool all images and have a split drawn"
        )
    return problems


def _roles(names: Iterable[str]) -> dict[str, str]:
    """Return the role of each name that is a split; what all names start with is left out.

    So `BUSI_train` and `BUSI_test` are splits as `train` and `test` are.
    """
    plain = {name: " ".join(name.lower().split()) for name in names}
    first, last = min(plain.values(), default=""), max(plain.values(), default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    cut = max(first[:same].rfind(gap) for gap in " _-.") + 1
    roles = {}
    for name, text in plain.items():
        for role, pattern in _ROLES.items():
            if pattern.fullmatch(text) or pattern.fullmatch(text[cut:]):
                roles[name] = role
    return roles


def _is_split(names: Iterable[str]) -> bool:
    """Return whether two or more splits are among the names: a class may be called train."""
    return len(set(_roles(names).values())) > 1


def _is_folds(names: Collection[str]) -> bool:
    return len(names) > 1 and all(_FOLD.fullmatch(name.lower().strip()) for name in names)


def _split_problem(parts: Sequence[Parts], level: int) -> str:
    names = _names(parts, level)
    roles = _roles(names)
    splits = Counter({name: n for name, n in names.items() if name in roles})
    other = _label_level(parts, level)
    labels = _counts(parts, other)
    what = f"the folders {_listed(splits)} ({_level(level)}) are splits, not labels"
    if len(splits) < len(names):
        rest = sorted(set(names) - set(splits))
        return (
            f"{what}, and {listed(rest)} beside them {'is' if len(rest) == 1 else 'are'} not. "
            f"Sort the images into one folder a label, or say --label-level {level} if these are "
            "labels"
        )
    if not labels:
        return f"{what}, and there are no folders of labels. Make one folder a label in each"
    where = "Below" if other > level else "Above"
    return (
        f"{what}. {where} them lie {labels}. Give --split-folders to take them as the split, or "
        f"--label-level {other} to pool them and have a split drawn"
    )


def _fold_problem(parts: Sequence[Parts], level: int) -> str:
    other = _label_level(parts, level)
    labels = _counts(parts, other)
    lie = f" {'Below' if other > level else 'Above'} them lie {labels}." if labels else ""
    return (
        f"the folders {_listed(_names(parts, level))} ({_level(level)}) are folds, not labels."
        f"{lie} Give --label-level {other} to pool them and have a split drawn by image, or a "
        "label table with patients, or with the split that you want (--split-col)"
    )


def _two_levels(root: Path, parts: Sequence[Parts]) -> list[str]:
    """Refuse or doubt a tree whose folders all hold folders of the same names.

    `Egypt/benign`, `Malawi/benign` is refused where the lower names are words for classes and the
    upper are not. Where names do not tell, the first level is taken, with a warning.
    """
    inside: dict[str, set[str]] = {}
    for each in parts:
        if each:
            inside.setdefault(each[0], set()).update(each[1:2])
    if len(inside) < 2:
        return []
    common = set.intersection(*inside.values())
    union = set.union(*inside.values())
    if len(common) < 2 or len(union) > 2 * len(common):
        return []
    upper, lower = _listed(_names(parts, 1)), _counts(parts, 2)
    say = f"each of the folders {upper} holds folders of the same names: {lower}"
    ways = "--label-level 1 if the upper ones are the labels, --label-level 2 if the lower are"
    if sum(map(_is_class, common)) > 1 and not any(map(_is_class, inside)):
        refuse(str(root), [f"{say}. Are these the labels? Say {ways}"])
    return [f"{root}: {say}. The upper ones are taken as the labels. Say {ways}"]


def _is_class(name: str) -> bool:
    return _CLASS_WORDS.fullmatch(name.lower().strip()) is not None


def _label_level(parts: Sequence[Parts], split: int) -> int:
    """Return the first level with several names that are no splits or folds."""
    for level in range(1, max(map(len, parts), default=0) + 1):
        names = _names(parts, level)
        if level != split and len(names) > 1 and not (_is_split(names) or _is_folds(names)):
            return level
    return split + 1


def _names(parts: Sequence[Parts], level: int) -> Counter[str]:
    """Return how many images lie below each name of a level."""
    return Counter(each[level - 1] for each in parts if len(each) >= level)


def _counts(parts: Sequence[Parts], level: int) -> str:
    names = _names(parts, level)
    return listed(f"{name} ({counted(n, 'image')})" for name, n in sorted(names.items()))


def _listed(names: Counter[str]) -> str:
    return listed(f"{name} ({n})" for name, n in sorted(names.items()))


def _level(level: int) -> str:
    return "in the folder given" if level == 1 else f"{level} levels down"
