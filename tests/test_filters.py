"""Filters: words over score columns, read without eval; NaN passes nothing."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgaug.bank.score_columns import BOOLEAN, COLUMNS, NUMBER
from fgaug.errors import UserError
from fgaug.grid.filters import MAX_DEPTH, MAX_LENGTH, parse

SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
NUMBERS = [column for column, (_, kind) in COLUMNS.items() if kind == NUMBER]
BOOLEANS = [column for column, (_, kind) in COLUMNS.items() if kind == BOOLEAN]

# a tree as tuples: ("num", column, sign, value), ("bool", column, sign or None, truth),
# ("not", tree), ("and", trees), ("or", trees)
tests = st.one_of(
    st.tuples(
        st.just("num"),
        st.sampled_from(NUMBERS),
        st.sampled_from(list(SIGNS)),
        st.one_of(st.sampled_from([0.0, 0.5, 1.0, -1.0]), st.floats(-1e300, 1e300)),
    ),
    st.tuples(
        st.just("bool"),
        st.sampled_from(BOOLEANS),
        st.sampled_from([None, "==", "!="]),
        st.booleans(),
    ),
)
trees = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)
spaces = st.sampled_from(["", " "])
three_valued = st.sampled_from([None, True, False])
scores = st.fixed_dictionaries(
    {
        **{name: st.sampled_from([np.nan, 0.0, 0.5, 1.0, -1.0, np.inf]) for name in NUMBERS},
        **dict.fromkeys(BOOLEANS, three_valued),
    }
)


def written(tree: Any, space: str = " ") -> str:
    match tree:
        case ("num", column, sign, value):
            return f"{column}{space}{sign}{space}{value!r}"
        case ("bool", column, None, _):
            return str(column)
        case ("bool", column, sign, truth):
            return f"{column}{space}{sign}{space}{str(truth).lower()}"
        case ("not", inner):
            return f"not ({written(inner, space)})"
        case (word, parts):
            return f" {word} ".join(f"({written(part, space)})" for part in parts)
    raise AssertionError(tree)


def kleene(tree: Any, row: dict[str, Any]) -> bool | None:
    """Return the value of a tree by the tables of Kleene's logic; None is unknown."""
    match tree:
        case ("num", column, sign, value):
            return None if np.isnan(row[column]) else bool(SIGNS[sign](row[column], value))
        case ("bool", column, sign, truth):
            if sign is None:
                truth, sign = True, "=="
            if row[column] is None:
                return None
            return bool(SIGNS[sign](row[column], truth))
        case ("not", inner):
            found = kleene(inner, row)
            return None if found is None else not found
        case (word, parts):
            values = [kleene(part, row) for part in parts]
            decisive = word == "or"
            if decisive in values:
                return decisive
            return None if None in values else not decisive
    raise AssertionError(tree)


@given(tree=trees, space=spaces, rows=st.lists(scores, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_filter_passes_what_is_true_in_kleenes_logic(
    tree: Any, space: str, rows: list[dict[str, Any]]
) -> None:
    found = parse(written(tree, space))
    expected = [kleene(tree, row) is True for row in rows]
    np.testing.assert_array_equal(found.passes(pd.DataFrame(rows)), expected)
    assert set(found.columns) <= set(COLUMNS)


@given(tree=trees)
@settings(max_examples=100, deadline=None)
def test_a_filter_is_read_again_from_its_own_text(tree: Any) -> None:
    found = parse(written(tree))
    assert parse(found.text) == found
    assert parse(found.text).text == found.text


@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(
            st.sampled_from(
                [*COLUMNS, *SIGNS, "and", "or", "not", "(", ")", "1", ".5", "true", "none", "="]
            ),
            max_size=12,
        ).map(" ".join),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        found = parse(text)
        assert parse(found.text) == found


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (["realism>=1", " realism >= 1.0 ", "not realism<1", "(realism>=1e0)"], "realism>=1"),
        (["copy==false", "not copy", "copy != true", "not not not copy"], "copy==false"),
        (["agrees", "agrees==true", "not agrees==false"], "agrees"),
        (
            ["realism>=1 and margin>=.2", "margin >= 0.20 and (realism>=1 and margin>=0.2)"],
            "margin>=0.2 and realism>=1",
        ),
        (["not (agrees and realism>1)"], "agrees==false or realism<=1"),
        (["agrees and copy or margin>0", "margin>0 or (copy and agrees)"],
         "(agrees and copy) or margin>0"),
        (["realism>-0.0"], "realism>0"),
        (["none", " none "], "none"),
    ],
)  # fmt: skip
def test_one_meaning_has_one_text(texts: list[str], canonical: str) -> None:
    assert {parse(text).text for text in texts} == {canonical}


def test_the_scorers_are_those_of_its_columns() -> None:
    found = parse("margin>=0.2 and realism>=1 or agrees and logit>0")
    assert found.columns == ("realism", "margin", "agrees", "logit")
    assert found.scorers == ("features", "classifier", "discriminator")
    assert parse("none").scorers == ()
    np.testing.assert_array_equal(parse("none").passes(pd.DataFrame(index=range(2))), [True] * 2)


def test_a_missing_score_passes_nothing_whichever_way_it_is_asked() -> None:
    frame = pd.DataFrame({"realism": [np.nan, 2.0], "copy": [None, True]})
    for text in ("realism>=1", "not realism>=1", "realism!=1", "copy", "not copy"):
        assert not parse(text).passes(frame)[0], text
    np.testing.assert_array_equal(parse("realism<1 or copy").passes(frame), [False, True])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "confidnce>=0.5",
            "column 1: unknown score, did you mean `confidence`? The scores are realism",
        ),
        ("agrees and psi>1", "column 12: unknown score. The scores are realism, density"),
        ("", "column 1: expected a score, `not` or `(`; got the end of the filter."),
        ("realism", "column 8: `realism` is a number: compare it, as in `realism>=1`; got the e"),
        ("realism=1", "column 8: `realism` is a number: compare it, as in `realism>=1`; got `=`."),
        ("realism>=", "column 10: `realism` must be compared with a finite number; got the end"),
        (
            "realism>=true",
            "column 10: `realism` must be compared with a finite number; got `true`.",
        ),
        (
            "realism>=1e999",
            "column 10: `realism` must be compared with a finite number; got `1e999`.",
        ),
        ("realism>nan", "column 9: `realism` must be compared with a finite number; got `nan`."),
        ("agrees>=1", "column 7: `agrees` is true or false: write `agrees` or `agrees==false`"),
        ("copy==0", "column 7: `copy` must be compared with true or false; got `0`."),
        ("nearest=='x'", "column 1: `nearest` is text, which filters cannot compare"),
        ("none and agrees", "column 1: `none` cannot be combined with other tests"),
        ("agrees copy", "column 8: expected `and`, `or` or the end of the filter; got `copy`."),
        ("agrees && copy", "column 8: expected `and`, `or` or the end of the filter; got `&`."),
        ("(agrees", "column 8: expected `)`; got the end of the filter."),
        ("agrees)", "column 7: expected `and`, `or` or the end of the filter; got `)`."),
        ("0.5<=confidence", "column 1: expected a score, `not` or `(`; got `0.5`."),
        ("__import__('os')", "column 1: unknown score. The scores are"),
        (
            "(" * (MAX_DEPTH + 1) + "agrees",
            f"column {MAX_DEPTH + 1}: more than {MAX_DEPTH} nested par",
        ),
        ("a" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH} characters, got {MAX_LENGTH + 1}"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(text)
    assert said in str(refused.value)


def test_negations_need_no_depth() -> None:
    assert parse("not " * 100 + "copy").text == "copy"
