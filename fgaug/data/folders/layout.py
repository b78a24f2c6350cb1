"""Layouts: which level of folders holds labels, and which a split.

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
_CLASS = re.compile(
    r"benign|malign|malignant|normal|abnormal|healthy|diseased?|positives?|negatives?|pos|neg"
    r"|tumou?rs?|no[ _\-]?tumou?r|cancer|non[ _\-]?cancer|cysts?|controls?|cases?|covid.*"
    r"|pneumonia|infected|uninfected|yes|no|(?:class|grade|stage|bi-?rads)[ _\-]?\d\w?"
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
    if lacking == ["valid"] and "test" in roles.values():
        lacking = []  # validation patients are drawn from those of training
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
    if len(_names(parts, other)) < 2:
        below = f" (only {labels})" if labels else ""
        return (
            f"{what}, and there are no folders of labels{below}. Make one folder a label in each"
        )
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
    """Refuse or doubt a tree in which folders of labels may lie below those of the first level.

    `Egypt/benign`, `Malawi/malignant` is refused, as the lower names are words for classes and
    the upper ones are not. Where words do not tell, and each upper folder holds folders of the
    same names, the first level is taken, as for `benign/left`, `benign/right`, with a warning.
    """
    upper = _names(parts, 1)
    if len(upper) < 2:
        return []
    _refuse_nested(root, parts, set(upper))
    doubts = []
    ways = "--label-level 1 if the upper ones are the labels, --label-level {} if the lower are"
    for level in range(2, max(map(len, parts)) + 1):
        lower = _names(parts, level)
        inside = _inside(parts, level)
        common = set.intersection(*inside.values()) if len(inside) == len(upper) else set()
        same = len(common) > 1 and len(lower) <= 2 * len(common)
        classes = len(lower) > 1 and all(map(_is_class, lower))
        if same and {"0", "1"} <= common <= set("012345"):
            classes = True
        if classes and not any(map(_is_class, upper)):
            what = f"below the folders {_listed(upper)} lie folders {_counts(parts, level)}"
            refuse(str(root), [f"{what}. Are these the labels? Say {ways.format(level)}"])
        if same and level == 2:
            doubts.append(
                f"{root}: each of the folders {_listed(upper)} holds folders of the same names: "
                f"{_counts(parts, level)}. The upper ones are taken as the labels. Say "
                f"{ways.format(level)}"
            )
    return doubts


def _refuse_nested(root: Path, parts: Sequence[Parts], upper: set[str]) -> None:
    """Refuse a label's folder that holds folders of the other labels: a set unpacked twice."""
    for name, below in sorted(_inside(parts, 2).items()):
        labels = sorted(below & (upper - {name}))
        if len(labels) > 1 or (labels and upper == {name, *labels}):
            refuse(
                str(root),
                [
                    f"the folder {name} holds folders named as those beside it: {listed(labels)}. "
                    f"It is most likely a second copy of the set. Move it away, or give "
                    f"--folders '{root / name}'"
                ],
            )


def _inside(parts: Sequence[Parts], level: int) -> dict[str, set[str]]:
    """Return the names of a level that lie below each folder of the first one."""
    inside: dict[str, set[str]] = {}
    for each in parts:
        if len(each) >= level:
            inside.setdefault(each[0], set()).add(each[level - 1])
    return inside


def _is_class(name: str) -> bool:
    return _CLASS.fullmatch(name.lower().strip()) is not None


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
