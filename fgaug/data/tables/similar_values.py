"""Values that look alike: what a label table keeps apart and a person may not.

Nothing is changed; each kind is one warning with its counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterator
from decimal import Decimal

import pandas as pd

from fgaug.data.problems import counted, listed

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_SCIENTIFIC = re.compile(r"[0-9]([.,][0-9]+)?E\+[0-9]+", re.IGNORECASE)
_MISSING = re.compile(r"n[./]?a\.?|#n/a|<na>|nan|nat|none|null|nil|unknown|missing|-+|\?+|\.")


def doubts_of_labels(labels: pd.Series, column: str) -> list[str]:
    """Return warnings about the labels of images, each text of its own class."""
    return [
        *written_twice(labels, f'Column "{column}" has', "Write them alike if they are one class"),
        *_words_for_missing(
            labels, column, "taken as a class. Leave the cell empty where the label is not known"
        ),
    ]


def doubts_of_ids(ids: pd.Series, column: str) -> list[str]:
    """Return warnings about the patients of images, each text of its own group."""
    texts = ids.astype(str)
    repeated = texts[texts.duplicated(keep=False)]
    doubts = [
        *written_twice(
            texts, f'Column "{column}" has', "Write them alike if they are one patient"
        ),
        *_words_for_missing(
            repeated,
            column,
            "taken as one patient. Give each unknown patient an id of its own",
        ),
    ]
    damaged = sorted({text for text in texts if _SCIENTIFIC.fullmatch(text)})
    if damaged:
        doubts.append(
            f'{counted(len(damaged), "id")} in column "{column}" in scientific notation: '
            f"{listed(damaged)}. A spreadsheet program shortens long ids in this way, so "
            "patients may have become one: export the table again with the column as text"
        )
    return doubts


def written_twice(values: pd.Series, whose: str, cure: str) -> Iterator[str]:
    """Yield a warning for values that differ in case or blanks only, or as texts of one number."""
    kinds: tuple[tuple[str, Callable[[str], Hashable]], ...] = (
        ("values that differ in case, blanks or the coding of letters only", _folded),
        ("values that would be one if they were numbers", _number),
    )
    counts = values.astype(str).value_counts().sort_index()
    for kind, key in kinds:
        sets: dict[Hashable, list[str]] = {}
        for text in counts.index:
            if (folded := key(text)) is not None:
                sets.setdefault(folded, []).append(text)
        same = [texts for texts in sets.values() if len(texts) > 1]
        if same:
            shown = listed(
                " and ".join(f"{_quoted(text)} ({counts[text]})" for text in texts)
                for texts in same
            )
            yield f"{whose} {kind}: {shown}. They are kept apart. {cure}"


def _words_for_missing(values: pd.Series, column: str, taken: str) -> Iterator[str]:
    words = values[values.astype(str).map(lambda text: bool(_MISSING.fullmatch(text.lower())))]
    for word, count in words.value_counts().sort_index().items():
        yield f'Column "{column}": {counted(int(count), "row")} with {_quoted(str(word))}, {taken}'


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _quoted(text: str) -> str:
    """Return the text in quotes, with escapes for what cannot be told apart by eye."""
    strange = any(char.isspace() and char != " " for char in text) or not text.isprintable()
    composed = unicodedata.normalize("NFC", text) == text
    return f'"{text}"' if composed and not strange else ascii(text)
