"""Warn of values in a label table that differ but may mean the same.

Nothing is changed; each kind becomes one warning with counts.
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
    """Return warnings about labels; every distinct text is a class."""
    return [
        *written_twice(
            labels, f'Column "{column}" has', "Use one spelling if they are the same class"
        ),
        *_words_for_missing(
            labels, column, "treated as a class. Leave the cell empty if the label is unknown"
        ),
    ]


def doubts_of_ids(ids: pd.Series, column: str) -> list[str]:
    """Return warnings about patient ids; every distinct text is a group."""
    texts = ids.astype(str)
    repeated = texts[texts.duplicated(keep=False)]
    doubts = [
        *written_twice(
            texts, f'Column "{column}" has', "Use one spelling if they are the same patient"
        ),
        *_words_for_missing(
            repeated,
            column,
            "treated as one patient. Give each unknown patient a separate id",
        ),
    ]
    damaged = sorted({text for text in texts if _SCIENTIFIC.fullmatch(text)})
    if damaged:
        doubts.append(
            f'{counted(len(damaged), "id")} in column "{column}" in scientific notation: '
            f"{listed(damaged)}. Spreadsheet programs shorten long ids in this way, which may "
            "have merged patients: export the table again with the column as text"
        )
    return doubts


def written_twice(values: pd.Series, whose: str, cure: str) -> Iterator[str]:
    """Yield a warning on values that differ only in case or blanks, or are equal as numbers."""
    kinds: tuple[tuple[str, Callable[[str], Hashable]], ...] = (
        ("values that differ only in case, blanks or Unicode form", _folded),
        ("values that are equal as numbers", _number),
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
            yield f"{whose} {kind}: {shown}. They are treated as different. {cure}"


def _words_for_missing(values: pd.Series, column: str, taken: str) -> Iterator[str]:
    words = values[values.astype(str).map(lambda text: bool(_MISSING.fullmatch(text.lower())))]
    for word, count in words.value_counts().sort_index().items():
        yield f'Column "{column}": {counted(int(count), "row")} with {_quoted(str(word))}, {taken}'


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _quoted(text: str) -> str:
    """Return the text in quotes, with invisible and ambiguous characters escaped."""
    strange = any(char.isspace() and char != " " for char in text) or not text.isprintable()
    composed = unicodedata.normalize("NFC", text) == text
    return f'"{text}"' if composed and not strange else ascii(text)
