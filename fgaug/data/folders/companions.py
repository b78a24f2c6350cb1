"""Find companion files: masks, annotations and overlays stored beside images.

File names identify them (`scan_mask.png`, `scan_GT_1.png`, `mask_scan.png`), or a folder `masks`.
A word such as `lesion` or `labels` may also name an image, so it counts only if the matching image
is found.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_SURE = r"masks?|gt|ground[ _-]?truth|seg|segm|segmentations?|annotations?|annot|anno"
_LIKELY = (
    r"labels?|labelled|lesions?|tumou?rs?|rois?|contours?|outlines?|overlays?|bbox(?:es)?|box"
    r"|heat[ _-]?map|binary|manual\d?|delineation"
)
_GAP = r"(?:[ _.\-]+\(?|\()"
_NUMBER = r"(?:[ _.\-]*\(?\d+\)?)?"  # of several masks of one image
_WORD = rf"(?:(?P<sure>{_SURE})|{_LIKELY})"
_SUFFIX = re.compile(rf"(?P<base>.*[^ _.\-]){_GAP}{_WORD}\)?{_NUMBER}")
_PREFIX = re.compile(rf"{_WORD}[ _.\-]+(?P<base>[^ _.\-].*)")
_CAMEL = re.compile(
    rf"(?P<base>.*[a-z0-9])(?P<sure>)(?:Mask|GT|Seg|Segmentation|Annotation)s?{_NUMBER}"
)
_ALONE = re.compile(rf"(?P<base>)(?P<sure>{_SURE}){_NUMBER}")
_NEGATED = re.compile(r"(?:.*[ _.\-])?(?:with|without|no|not)")  # `no_mask_3.jpg` shows a face
_IMAGE_WORD = re.compile(
    r"[ _.\-]+(?:image|images|img|orig|original|us|frame|scan|rf\d?|b[_-]?mode)$"
    r"|^(?:image|img)[ _.\-]+"
)
_FOLDER = re.compile(
    rf"(?:(?:{_SURE}|segmentationclass|segmentationobject|{_LIKELY}|images?|png|tiff?|manual"
    r"|expert|\d+)(?:[ _.\-]+|$))+"
)
_SURE_FOLDER = re.compile(
    rf"(?:^|.*[ _.\-])(?:{_SURE}|segmentationclass|segmentationobject)(?:[ _.\-].*|$)"
)
_HOLDS_SURE = re.compile(rf"(?:.*[ _.\-])?(?:{_SURE})(?:[ _.\-].*)?")
_NO_FOLDER_OF_MASKS = re.compile(r"(?:.*[ _.\-])?(?:with|without|no|not)[ _.\-].*")
_LIKELY_FOLDER = re.compile(r"labels?(?:tr|ts)?")


def find_companions(files: Sequence[PurePath], *, paired: bool = False) -> set[PurePath]:
    """Return the files that are companions of others.

    Args:
        files: relative to the requested folder, so that names above it have no effect.
        paired: return only companions whose image is found; else also those with an unambiguous
            name.
    """
    folders = {folder: _folder_kind(folder) for folder in {path.parent for path in files}}
    twins = _in_folders_of_masks(files)
    named = {path: _name(stem_of(path)) for path in files}
    suspects = [path for path in files if folders[path.parent] or named[path]]
    if not suspects:
        return twins
    images = set(files).difference(suspects)
    anywhere = {_key(stem_of(path)) for path in images}
    beside = {(path.parent, _key(stem_of(path))) for path in images}
    found = twins
    for path in suspects:
        kind, match = folders[path.parent], named[path]
        base = _key(match["base"] if match else stem_of(path))
        if kind:  # masks/7.png may have the same name as its image
            sure, mate = kind == "sure", not anywhere.isdisjoint((base, _key(stem_of(path))))
        else:  # lesion_12.png in one folder is not of 12.png in another
            sure, mate = bool(match and match["sure"]), (path.parent, base) in beside
        if mate or (sure and not paired):
            found.add(path)
    return found


def _in_folders_of_masks(files: Sequence[PurePath]) -> set[PurePath]:
    """Return files with a namesake beside their folder, as `lung masks/7.png` and `images/7.png`.

    The folder's name contains a mask word among others, so it counts only if a file of the same
    name lies below the folder's parent, outside any such folder. Of two folders `lung masks` and
    `infection masks`, neither holds the other's images.
    """
    depths = {folder: _depths_of_masks(folder) for folder in {path.parent for path in files}}
    if not any(depths.values()):
        return set()
    places: dict[str, set[PurePath]] = {}
    for path in files:
        places.setdefault(_key(stem_of(path)), set()).add(path.parent)
    known: dict[tuple[PurePath, PurePath], bool] = {}
    found = set()
    for path in files:
        folder = path.parent
        for other in places[_key(stem_of(path))] if depths[folder] else ():
            pair = (folder, other)
            if pair not in known:
                same = _shared_depth(folder, other)
                known[pair] = any(depth >= same for depth in depths[folder]) and not any(
                    depth >= same for depth in depths[other]
                )
            if known[pair]:
                found.add(path)
                break
    return found


def _depths_of_masks(folder: PurePath) -> tuple[int, ...]:
    """Return the depths at which a folder's path contains a mask word."""
    names = [part.lower().strip() for part in folder.parts]
    return tuple(
        depth
        for depth, name in enumerate(names)
        if _HOLDS_SURE.fullmatch(name) and not _NO_FOLDER_OF_MASKS.fullmatch(name)
    )


def _shared_depth(one: PurePath, other: PurePath) -> int:
    """Return how many leading folders two paths share."""
    pairs = zip(one.parts, other.parts, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def is_companion_folder(name: str) -> bool:
    """Return whether a folder's name marks its files as companions."""
    return bool(_folder_kind(PurePath(name)))


def kinds_of(companions: Iterable[PurePath]) -> str:
    """Count the companions by naming pattern: `24 *_mask, 3 in masks/`."""
    counts = Counter(_kind(path) for path in companions).most_common()
    return ", ".join(f"{count} {kind}" for kind, count in counts)


def _name(stem: str) -> re.Match[str] | None:
    lower = stem.lower()
    match = _SUFFIX.fullmatch(lower) or _PREFIX.fullmatch(lower) or _ALONE.fullmatch(lower)
    if match and _NEGATED.fullmatch(match["base"]):
        return None
    return match or _CAMEL.fullmatch(stem)


def stem_of(path: PurePath) -> str:
    """Return the name without its extension; `.nii.gz` counts as one."""
    name = path.name[:-3] if path.name[-3:].lower() == ".gz" else path.name
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


def _key(stem: str) -> str:
    """Return a stem in lower case, without words such as `image`: BUID has `1 Image`, `1 Mask`."""
    return _IMAGE_WORD.sub("", stem.lower())


def _folder_kind(folder: PurePath) -> str:
    """Return `sure` if a folder of the path is named masks or similar, else `likely` or ""."""
    kind = ""
    for part in folder.parts:
        lower = part.lower().strip()
        if _FOLDER.fullmatch(lower) and _SURE_FOLDER.fullmatch(lower):
            return "sure"
        if _LIKELY_FOLDER.fullmatch(lower):
            kind = "likely"
    return kind


def _kind(path: PurePath) -> str:
    for part in reversed(path.parts[:-1]):
        if _folder_kind(PurePath(part, "x").parent) or _depths_of_masks(PurePath(part)):
            return f"in {part}/"
    stem = stem_of(path)
    match = _name(stem)
    if match is None or not match["base"]:
        return stem
    if match.start("base"):
        return f"{stem[: match.start('base')]}*"
    return "*" + re.sub(r"[ _.\-]*\(?\d+\)?$", "", stem[len(match["base"]) :])
