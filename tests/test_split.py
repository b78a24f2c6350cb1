"""Splits: whole patients, as scikit-learn draws them, and the rules for test sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit

from fgaug.data.split import assign_splits
from fgaug.errors import DataError


def table(groups: list[object], labels: list[str] | None = None) -> pd.DataFrame:
    given = labels or [("dbp", "trv")[number % 2] for number in range(len(groups))]
    ids = [f"i{number}" for number in range(len(groups))]
    return pd.DataFrame({"image_id": ids, "label": given, "group": groups})


def many(patients: int = 40, each: int = 4) -> pd.DataFrame:
    return table([patient for patient in range(patients) for _ in range(each)])


def groups_of(split: pd.DataFrame, name: str) -> set[object]:
    return set(split.loc[split["split"] == name, "group"])


@pytest.mark.parametrize("kind", [int, str])
def test_the_plain_split_is_scikit_learns(kind: type) -> None:
    rows = table([kind(number // 3 * 7 % 101) for number in range(150)])
    train, valid = next(
        GroupShuffleSplit(1, test_size=0.5, random_state=19).split(rows, groups=rows["group"])
    )
    split = assign_splits(rows)["split"].to_numpy()
    assert np.flatnonzero(split == "train").tolist() == train.tolist()
    assert np.flatnonzero(split == "valid").tolist() == valid.tolist()


def test_numbers_and_their_text_split_differently() -> None:
    numbers = many()
    texts = numbers.assign(group=numbers["group"].astype(str))
    assert assign_splits(numbers)["split"].tolist() != assign_splits(texts)["split"].tolist()


def test_the_order_of_rows_is_of_no_effect() -> None:
    rows = many()
    shuffled = rows.sample(frac=1, random_state=3)
    split = assign_splits(shuffled).sort_index()["split"]
    assert split.tolist() == assign_splits(rows)["split"].tolist()


def test_the_input_is_left_alone() -> None:
    rows = many()
    assign_splits(rows, extend=True)
    assert list(rows) == ["image_id", "label", "group"]


def test_test_patients_are_taken_first() -> None:
    rows = many(50)
    split = assign_splits(rows, valid=0.25, test=0.2)
    rest, test = next(
        GroupShuffleSplit(1, test_size=0.2, random_state=19).split(rows, groups=rows["group"])
    )
    assert np.flatnonzero(split["split"] == "test").tolist() == test.tolist()
    left = rows.iloc[rest]
    _, valid = next(
        GroupShuffleSplit(1, test_size=0.25, random_state=19).split(left, groups=left["group"])
    )
    assert np.flatnonzero(split["split"] == "valid").tolist() == rest[valid].tolist()
    assert len(groups_of(split, "test")) == 10


def test_test_images_per_label() -> None:
    split = assign_splits(many(), test_per_label=15)
    counts = split[split["split"] == "test"]["label"].value_counts()
    assert counts.to_dict() == {"dbp": 16, "trv": 16}  # whole patients: two of each label
    alone = assign_splits(table(list(range(100))), test_per_label=15)
    assert alone[alone["split"] == "test"]["label"].value_counts().tolist() == [15, 15]


@pytest.mark.parametrize(("wanted", "rule"), [(80, "would empty"), (77, "takes every patient")])
def test_test_sets_that_empty_the_training_set(wanted: int, rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        assign_splits(many(20, 8), test_per_label=wanted)


def test_extend_is_the_second_baseline() -> None:
    rows = many(100)
    plain, split = assign_splits(rows), assign_splits(rows, extend=True)
    flagged = split["gan"]
    assert (plain["split"] == "train").tolist() == flagged.tolist()
    assert set(split.loc[flagged, "split"]) == {"train"}
    assert len(groups_of(split, "train")) == 75
    assert len(groups_of(split, "valid")) == 25
    half = rows[~flagged.to_numpy()]
    joined, _ = next(
        GroupShuffleSplit(1, test_size=0.5, random_state=19).split(half, groups=half["group"])
    )
    extra = split.index[(split["split"] == "train") & ~flagged]
    assert extra.tolist() == half.index[joined].tolist()
    assert not plain["gan"].any()


def test_given_columns_are_kept() -> None:
    rows = table([1, 1, 2, 2]).assign(split=["train"] * 2 + ["valid"] * 2, gan=[True, False] * 2)
    split = assign_splits(rows)
    assert split["split"].tolist() == rows["split"].tolist()
    assert split["gan"].tolist() == rows["gan"].tolist()
    with pytest.raises(DataError, match="split is given by a column"):
        assign_splits(rows, test=0.2)
    with pytest.raises(DataError, match="--extend sets the gan flags"):
        assign_splits(rows.drop(columns="split"), extend=True)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(DataError, match=r"--valid must lie between 0 and 1, got"):
        assign_splits(many(), valid=share)
    with pytest.raises(DataError, match=r"--test must lie between 0 and 1, got"):
        assign_splits(many(), test=share)


def test_two_rules_for_one_test_set() -> None:
    with pytest.raises(DataError, match="Give only one"):
        assign_splits(many(), test=0.2, test_per_label=10)


def test_a_single_patient_cannot_be_split() -> None:
    with pytest.raises(DataError, match="there is 1 patient"):
        assign_splits(table([5, 5, 5, 5]))


def test_a_label_that_a_set_lacks_is_named() -> None:
    labels = ["rare", *["dbp", "trv"] * 20]
    with pytest.raises(DataError, match=r'label "rare" is in the (train|valid) set.*--keep-label'):
        assign_splits(table(list(range(41)), labels))


sets = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["dbp", "trv"])), min_size=1, max_size=120
)


@settings(max_examples=60, deadline=None)
@given(
    rows=sets,
    valid=st.floats(0.1, 0.9),
    test=st.one_of(st.none(), st.floats(0.1, 0.5)),
    extend=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_image_in_one_set_and_no_patient_in_two(
    rows: list[tuple[int, str]], valid: float, test: float | None, extend: bool, seed: int
) -> None:
    given_rows = table([group for group, _ in rows], [label for _, label in rows])
    try:
        split = assign_splits(given_rows, valid, test, extend=extend, seed=seed)
    except DataError:
        return  # too few patients: refused, with a reason
    assert split["image_id"].tolist() == given_rows["image_id"].tolist()
    assert set(split["split"]) == {"train", "valid"} | ({"test"} if test is not None else set())
    assert (split.groupby("group")["split"].nunique() == 1).all()
    assert (split.groupby("group")["gan"].nunique() == 1).all()
    labels = set(given_rows["label"])
    assert all(set(part["label"]) == labels for _, part in split.groupby("split"))


@settings(max_examples=40, deadline=None)
@given(rows=sets, wanted=st.integers(1, 30), seed=st.integers(0, 1000))
def test_per_label_sets_are_large_enough(
    rows: list[tuple[int, str]], wanted: int, seed: int
) -> None:
    given_rows = table([group for group, _ in rows], [label for _, label in rows])
    try:
        split = assign_splits(given_rows, test_per_label=wanted, seed=seed)
    except DataError:
        return
    test = split[split["split"] == "test"]
    assert (test["label"].value_counts() >= wanted).all()
    assert set(test["label"]) == set(given_rows["label"])
    assert (split.groupby("group")["split"].nunique() == 1).all()
