"""Work out which level of folders holds the labels, and which the split.

Levels count from the given folder: in `DIR/train/benign/1.png`, `train` is level 1 and `benign`
level 2.
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
    """Refuse a tree whose first level does not hold the labels; return warnings on unclear ones.

    Raises:
        DataError: some level holds splits or folds, or the labels are one level down.
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
    """Return the level whose folders are train, valid and test; refuse a tree without one."""
    parts = [path.parts[:-1] for path in images]
    for level in range(1, max(map(len, parts), default=0) + 1):
        names = _names(parts, level)
        roles = _roles(names)
        if len(roles) == len(names):
            refuse(str(root), _unfit_split(parts, level, roles))
            return level
    first = listed(sorted(_names(parts, 1))) or "no folders"
    cure = "Name the folders train, valid (or val) and test, or omit --split-folders"
    if any(_is_folds(_names(parts, level)) for level in (1, 2, 3)):
        cure = (
            "Folds are not a split: move them into folders train, valid and test, or give a "
            "label table with a split column"
        )
    refuse(
        str(root),
        [f"--split-folders needs a level on which every folder is a split: {first}. {cure}"],
    )
    raise AssertionError("refused above")


def splits_of(images: Sequence[PurePath], level: int) -> list[str]:
    """Return the split (train, valid or test) of each image from its folder on the split level."""
    roles = _roles(_names([path.parts[:-1] for path in images], level))
    return [roles[path.parts[level - 1]] for path in images]


def label_level_beside(images: Sequence[PurePath], split: int) -> int:
    """Return the first level with several folders, other than the split's."""
    return _label_level([path.parts[:-1] for path in images], split)


def _unfit_split(parts: Sequence[Parts], level: int, roles: Mapping[str, str]) -> list[str]:
    problems = [
        f'folder "{name}" could mean valid or test. Rename it to one of these'
        for name, role in sorted(roles.items())
        if role not in SPLITS
    ]
    lacking = [role for role in ("train", "valid") if role not in roles.values()]
    if lacking == ["valid"] and "test" in roles.values():
        lacking = []  # validation patients are drawn from the training set
    if lacking and not problems:
        problems.append(
            f"--split-folders found {_counts(parts, level)} and no folder for "
            f"{' and '.join(lacking)}. Move the images of some patients into a folder "
            f"{' and one '.join(lacking)}; or omit it and give --label-level "
            f"{_label_level(parts, level)} to pool all images and have the split drawn"
        )
    return problems


def _roles(names: Iterable[str]) -> dict[str, str]:
    """Return the split that each name stands for, ignoring a prefix that all names share.

    So `BUSI_train` and `BUSI_test` are splits just as `train` and `test` are.
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
    """Return whether the names include at least two splits: one class may be called train."""
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
            f"Sort the images into one folder per label, or give --label-level {level} if these "
            "are labels"
        )
    if len(_names(parts, other)) < 2:
        below = f" (only {labels})" if labels else ""
        return (
            f"{what}, and there are no label folders{below}. Create one folder per label in each"
        )
    where = "Below" if other > level else "Above"
    return (
        f"{what}. {where} them are {labels}. Give --split-folders to take them as the split, or "
        f"--label-level {other} to pool them and have a split drawn"
    )


def _fold_problem(parts: Sequence[Parts], level: int) -> str:
    other = _label_level(parts, level)
    labels = _counts(parts, other)
    where = f" {'Below' if other > level else 'Above'} them are {labels}." if labels else ""
    return (
        f"the folders {_listed(_names(parts, level))} ({_level(level)}) are folds, not "
        f"labels.{where} Give --label-level {other} to pool them and have the split drawn by "
        "image, or a label table with patients or with your own split (--split-col)"
    )


def _two_levels(root: Path, parts: Sequence[Parts]) -> list[str]:
    """Refuse or question a tree whose second level may hold the labels.

    `Egypt/benign`, `Malawi/malignant` is refused, as only the lower names are typical class names.
    If names do not decide, and all upper folders contain folders of the same names, as in
    `benign/left` and `benign/right`, the first level is used, with a warning.
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
            what = f"the folders {_listed(upper)} contain folders {_counts(parts, level)}"
            refuse(str(root), [f"{what}. If these are the labels, give {ways.format(level)}"])
        if same and level == 2:
            doubts.append(
                f"{root}: each of the folders {_listed(upper)} contains folders of the same "
                f"names: {_counts(parts, level)}. The upper ones are used as labels. To choose, "
                f"give {ways.format(level)}"
            )
    return doubts


def _refuse_nested(root: Path, parts: Sequence[Parts], upper: set[str]) -> None:
    """Refuse a label folder that contains the other label folders: a set unpacked twice."""
    for name, below in sorted(_inside(parts, 2).items()):
        labels = sorted(below & (upper - {name}))
        if len(labels) > 1 or (labels and upper == {name, *labels}):
            refuse(
                str(root),
                [
                    f"the folder {name} contains folders with the names of its siblings: "
                    f"{listed(labels)}. It is probably a second copy of the set. Move it out, or "
                    f"give --folders '{root / name}'"
                ],
            )


def _inside(parts: Sequence[Parts], level: int) -> dict[str, set[str]]:
    """Return the names on a level below each folder of the first level."""
    inside: dict[str, set[str]] = {}
    for each in parts:
        if len(each) >= level:
            inside.setdefault(each[0], set()).add(each[level - 1])
    return inside


def _is_class(name: str) -> bool:
    return _CLASS.fullmatch(name.lower().strip()) is not None


def _label_level(parts: Sequence[Parts], split: int) -> int:
    """Return the first level with several names that are neither splits nor folds."""
    for level in range(1, max(map(len, parts), default=0) + 1):
        names = _names(parts, level)
        if level != split and len(names) > 1 and not (_is_split(names) or _is_folds(names)):
            return level
    return split + 1


def _names(parts: Sequence[Parts], level: int) -> Counter[str]:
    """Return the number of images below each name of a level."""
    return Counter(each[level - 1] for each in parts if len(each) >= level)


def _counts(parts: Sequence[Parts], level: int) -> str:
    names = _names(parts, level)
    return listed(f"{name} ({counted(n, 'image')})" for name, n in sorted(names.items()))


def _listed(names: Counter[str]) -> str:
    return listed(f"{name} ({n})" for name, n in sorted(names.items()))


def _level(level: int) -> str:
    return "in the given folder" if level == 1 else f"{level} levels down"
