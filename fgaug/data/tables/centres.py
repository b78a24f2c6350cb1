"""Warn of patient ids that several centres may have given to different patients.

Nothing is changed; each suspicion becomes one warning with counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

import pandas as pd

from fgaug.data.problems import counted, listed

_WORDS = r"cent(?:er|re)|site|hospital|hosp|institut(?:e|ion)|clinic|facility"
_COLUMN = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})s?(?:[^a-z]|$)")
_ANATOMY = re.compile(r"anatom|body|lesion|tumou?r|biopsy|primary|of_onset|crop")
_FOLDER = re.compile(rf"(?:{_WORDS})s?(?:[ _.-]*(?:[a-z]|\d+)|[ _.-]+\w+)?")


def centre_columns(header: Sequence[str]) -> list[str]:
    """Return the columns whose names suggest a centre or site."""
    return [
        name
        for name in header
        if _COLUMN.search(_apart(name)) and not _ANATOMY.search(name.lower())
    ]


def centres_of(images: Sequence[str]) -> list[str] | None:
    """Return for each image its folder with a centre's name, such as `hospital_A`.

    Returns None unless every image lies in such a folder and there are at least two.
    """
    found = []
    for image in images:
        folders = PurePath(image.replace("\\", "/")).parts[:-1]
        named = [folder for folder in folders if _FOLDER.fullmatch(_apart(folder))]
        if not named:
            return None
        found.append(named[0])
    return found if len(set(found)) > 1 else None


def doubts_of_centres(ids: pd.Series, column: str, centres: pd.Series, where: str) -> list[str]:
    """Return a warning if an id occurs in several centres.

    Args:
        ids: of patients, one per image.
        column: name of the column with the ids.
        centres: centres of the same images.
        where: source of the centres, such as `column "site"`.
    """
    pairs = pd.DataFrame({"id": ids.astype(str), "centre": centres}).dropna().drop_duplicates()
    pairs = pairs[pairs["id"].duplicated(keep=False)].sort_values(["id", "centre"])
    shared = pairs.groupby("id")["centre"].agg(list)
    if shared.empty:
        return []
    shown = listed((f"{name} ({listed(places, 3)})" for name, places in shared.items()), 5)
    first, place = shared.index[0], shared.iloc[0][0]
    return [
        f'Column "{column}": {counted(len(shared), "id")} of {ids.nunique()} in several centres '
        f"by {where}: {shown}. Each is treated as one patient. If the centres number their "
        "patients independently, combine centre and number in the table, for example "
        f"{place}_{first}"
    ]


def _apart(name: str) -> str:
    """Return a name in snake case, `siteId` as `site_id`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
