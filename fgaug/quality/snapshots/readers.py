"""The votes of several readers on the label of each image: which images they agree on."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgaug.data.image_names import ImageNames
from fgaug.data.problems import counted, listed, nearest, refuse, shortened
from fgaug.data.tables.label_table import require_columns, text_column
from fgaug.data.tables.table_file import read_cells
from fgaug.errors import DataError
from fgaug.stats.readers import cohen_kappa, fleiss_kappa

_LOG = logging.getLogger("fgaug")
AGREE = ("all", "majority")
NO_VOTE = ("skip", "drop")
_EMPTY = -1  # a reader who did not vote


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """A table with a column of votes for each reader, and when their votes agree."""

    csv: Path
    columns: tuple[str, ...]  # one per reader
    image_col: str = "image"
    sheet: str | None = None
    agree: str = "all"  # of AGREE; majority: more than half of the votes
    no_vote: str | None = None  # of NO_VOTE: the others decide, or the image is dropped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """The images that the rule drops."""

    dropped: np.ndarray  # bool [N]
    share: np.ndarray  # float [N], of the votes that are the image's label; 0 without votes
    counts: dict[str, int]  # images by what became of them


def readers_of(
    csv: Path | None,
    columns: str | None,
    *,
    image_col: str = "image",
    sheet: str | None = None,
    agree: str = "all",
    no_vote: str | None = None,
) -> Readers | None:
    """Return the readers that options name, or None if they name none.

    Args:
        csv: table with the votes.
        columns: names of its columns, separated by commas; two or more.
        image_col: its column with the names of images.
        sheet: of a workbook; None takes the first.
        agree: one of AGREE.
        no_vote: one of NO_VOTE; None refuses empty votes.
    """
    if csv is None and columns is None:
        if no_vote is not None or agree != "all":
            raise DataError("--agree and --no-vote belong to --rule agreement. Add its options.")
        return None
    if csv is None or columns is None:
        raise DataError(
            "--rule agreement needs both --csv, the table with the readers' votes, and "
            "--reader-cols, their columns."
        )
    names = [name.strip() for name in columns.split(",")]
    problems = []
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        problems.append(f"--reader-cols must name two different columns or more, got {columns}")
    if agree not in AGREE:
        problems.append(f'--agree "{agree}" is unknown{nearest(agree, AGREE)}')
    if no_vote is not None and no_vote not in NO_VOTE:
        problems.append(f'--no-vote "{no_vote}" is unknown{nearest(no_vote, NO_VOTE)}')
    refuse("Readers", problems)
    return Readers(
        csv=csv,
        columns=tuple(names),
        image_col=image_col,
        sheet=sheet,
        agree=agree,
        no_vote=no_vote,
    )


def read_votes(readers: Readers, images: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """Return the votes on each image as class indices, int [N, R]; -1 where a reader gave none.

    Args:
        readers: the table of votes; its rows for other images are ignored.
        images: one row per image, with image_id and source.
        labels: of the dataset; every vote must be one of them.

    Raises:
        DataError: an image has no row or several, a vote is not a label, or a vote is missing and
            `readers.no_vote` does not say what to do.
    """
    wanted = [readers.image_col, *readers.columns]
    cells = read_cells(readers.csv, wanted, readers.sheet, what="table of votes")
    require_columns(readers.csv, cells, wanted)
    names = ImageNames(images["image_id"].tolist(), images["source"].tolist())
    given = text_column(cells, readers.image_col).fillna("").tolist()
    row_of: dict[int, int] = {}  # row of the table by image
    problems: list[str] = []
    for row, name in enumerate(given):
        found = names.find(name) if name else set()
        if len(found) > 1:
            problems.append(f"row {cells.numbers[row]}: {names.problem(name)}")
        for image in found if len(found) == 1 else ():
            if image in row_of:
                first = cells.numbers[row_of[image]]
                problems.append(f"row {cells.numbers[row]}: {name} has votes in row {first} too")
            row_of.setdefault(image, row)
    lacking = images["image_id"][[n for n in range(len(images)) if n not in row_of]]
    if len(lacking):
        problems.append(
            f"{counted(len(lacking), 'training image')} without a row: {listed(lacking)}"
        )
    votes = np.full((len(images), len(readers.columns)), _EMPTY, np.int64)
    empty = []
    for reader, column in enumerate(readers.columns):
        texts = text_column(cells, column).fillna("").tolist()
        cast = {image: texts[row] for image, row in row_of.items()}
        problems += _foreign(column, cast, labels)
        empty += [
            f"row {cells.numbers[row_of[i]]} ({column})" for i, vote in cast.items() if not vote
        ]
        for image, vote in cast.items():
            if vote in labels:
                votes[image, reader] = labels.index(vote)
    if empty and readers.no_vote is None:
        problems.append(
            f"{counted(len(empty), 'empty vote')}: {listed(empty)}. Say what to do: --no-vote "
            "skip (the other readers decide) or --no-vote drop (the image is dropped)"
        )
    refuse(str(readers.csv), shortened(problems))
    if empty:
        done = {"skip": "skipped", "drop": "their images dropped"}[readers.no_vote or ""]
        _LOG.warning("%s, %s: %s.", counted(len(empty), "empty vote"), done, listed(empty))
    return votes


def judge(votes: np.ndarray, classes: np.ndarray, readers: Readers) -> Judged:
    """Return the images to drop: those whose readers do not agree on the label that they have.

    Args:
        votes: int [N, R], -1 where a reader gave no vote.
        classes: int [N], the label of each image.
        readers: `agree` is `all` (every vote is the label) or `majority` (more than half of the
            votes are). Half of the votes is a tie, which is no majority.
    """
    cast = (votes != _EMPTY).sum(axis=1)
    own = (votes == classes[:, None]).sum(axis=1)
    needed = cast if readers.agree == "all" else cast // 2 + 1
    agreed = (cast > 0) & (own >= needed)
    if readers.no_vote == "drop":
        agreed &= cast == votes.shape[1]
    most = np.array([np.bincount(row[row != _EMPTY], minlength=1).max() for row in votes])
    on_other = (most >= needed) & (own < needed) & (cast > 0)
    counts = {
        "agreed": int(agreed.sum()),
        "agreed_on_another_label": int((on_other & ~agreed).sum()),
        "ties": int(((2 * most == cast) & (cast > 0)).sum()),
        "incomplete": int((cast < votes.shape[1]).sum()),
    }
    return Judged(dropped=~agreed, share=own / np.maximum(cast, 1), counts=counts)


def kappas(votes: np.ndarray, columns: Sequence[str]) -> dict[str, Any]:
    """Return Cohen's kappa of each pair of readers and Fleiss' of all; None where undefined.

    A pair is compared on the images that both voted on; Fleiss' kappa needs the votes of all.

    Args:
        votes: int [N, R], -1 where a reader gave no vote.
        columns: the names of the readers.
    """
    voted = votes != _EMPTY
    pairs = []
    for one, other in itertools.combinations(range(len(columns)), 2):
        both = voted[:, one] & voted[:, other]
        pairs.append(
            {
                "readers": [columns[one], columns[other]],
                "images": int(both.sum()),
                "kappa": _known(cohen_kappa(votes[both, one], votes[both, other])),
            }
        )
    whole = voted.all(axis=1)
    fleiss = {"images": int(whole.sum()), "kappa": _known(fleiss_kappa(votes[whole]))}
    return {"cohen": pairs, "fleiss": fleiss}


def _foreign(column: str, cast: dict[int, str], labels: Sequence[str]) -> list[str]:
    """Return one problem for each word of a reader that is not a label."""
    words = [vote for vote in cast.values() if vote and vote not in labels]
    return [
        f'column "{column}" has the vote "{word}" {words.count(word)} times, which is not a label '
        f"of the dataset{nearest(word, labels)}"
        for word in dict.fromkeys(words)
    ]


def _known(kappa: float) -> float | None:
    return None if math.isnan(kappa) else round(kappa, 6)
