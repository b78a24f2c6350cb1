"""Filtered draws: the first of an order that pass, from the scores on disk alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_fakes import CLASSIFIER, FEATURES, SCORERS, score, scores
from test_mix import LABELS, PLAIN, POOL, cell

from fgaug.bank import Store, open_store
from fgaug.errors import BankError
from fgaug.runs import mix
from fgaug.runs.fake_selection import FAILS, PASSES, UNSCORED, FakeSelection
from fgaug.study import fake_needs

PSI = 0.7
AGREES = {"filter": "agrees", "ratio": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def screen(store: Store) -> FakeSelection:
    return FakeSelection(store, SCORERS, POOL)


def agrees(label: str) -> np.ndarray:
    return scores(CLASSIFIER, label, PSI, range(1, POOL + 1))["agrees"].to_numpy(bool)


def all_scored(store: Store) -> FakeSelection:
    for label in LABELS:
        score(store, label, PSI, range(1, POOL + 1), FEATURES, CLASSIFIER)
    return screen(store)


def test_a_filtered_draw_is_the_first_of_the_order_that_pass(store: Store) -> None:
    filtered, plain = cell("augmentation", **AGREES), cell("augmentation")
    seen = all_scored(store)
    made = mix.plan(filtered, PLAIN, POOL, seen)
    for label in LABELS:
        order = mix.order(plain, label, POOL)
        passing = order[agrees(label)[order - 1]]
        wanted = mix.fakes_wanted(plain, PLAIN, label)
        np.testing.assert_array_equal(made.fakes[label], passing[:wanted])
        unfiltered = mix.plan(plain, PLAIN, POOL).fakes[label]
        assert len(made.fakes[label]) == len(unfiltered)  # the twin has the same count
        assert set(made.fakes[label]) != set(unfiltered)
    np.testing.assert_array_equal(made.real, mix.plan(plain, PLAIN, POOL).real)
    small = mix.plan(cell("augmentation", filter="agrees", ratio=0.5), PLAIN, POOL, seen)
    for label in LABELS:  # a prefix, as without a filter
        n = len(small.fakes[label])
        np.testing.assert_array_equal(small.fakes[label], made.fakes[label][:n])


@given(wanted=st.integers(0, POOL + 5), scored=st.sets(st.integers(1, POOL), max_size=3))
def test_with_few_scores_or_none_a_draw_is_what_its_definition_says(
    wanted: int, scored: set[int]
) -> None:
    seen = FakeSelection(None, {}, POOL)  # type: ignore[arg-type]  # its scores are supposed
    order = mix.order(cell("augmentation"), "dbp", POOL)
    for passes in (False, True):
        z_seeds = np.array(sorted(scored), np.int64)
        frame = pd.DataFrame({"z_seed": z_seeds, "agrees": np.full(len(z_seeds), passes)})
        seen.suppose("agrees", "dbp", PSI, frame)
        good = [z for z in order if z in scored and passes][:wanted]
        drawn = seen.draw("agrees", "dbp", PSI, order, wanted)
        assert drawn.z_seeds.tolist() == good
        last = order.tolist().index(good[-1]) + 1 if good else 0
        known = all(z in scored for z in order[:last])
        assert drawn.whole == (len(good) == wanted and known)
        if not scored:
            prefix = seen.prefix("agrees", "dbp", PSI, order, wanted)
            np.testing.assert_array_equal(prefix, order[: max(1, wanted)])


def test_a_filter_over_two_scorers_reads_both(store: Store) -> None:
    text = "agrees and realism>=1"
    seen = all_scored(store)
    realistic = scores(FEATURES, "trv", PSI, range(1, POOL + 1))["realism"] >= 1
    expected = np.where(agrees("trv") & realistic.to_numpy(), PASSES, FAILS)
    np.testing.assert_array_equal(seen.verdicts(text, "trv", PSI), expected)
    score(store, "trv", 0.5, range(1, 51), CLASSIFIER)
    assert (seen.verdicts(text, "trv", 0.5) == UNSCORED).all()  # by the other scorer
    assert (seen.verdicts("agrees", "trv", 0.5)[:50] != UNSCORED).all()


def test_what_is_not_scored_is_never_passed_over(store: Store) -> None:
    """A fake earlier in the order may pass once it is scored, so the draw is not known yet."""
    wanted = cell("augmentation", **AGREES)
    for label in LABELS:
        order = mix.order(wanted, label, POOL)
        score(store, label, PSI, sorted(order[1:].tolist()), CLASSIFIER)
    with pytest.raises(BankError, match=r"lacks scores .* to select 20 fakes of `dbp`"):
        mix.plan(wanted, PLAIN, POOL, screen(store))
    first = mix.order(wanted, "dbp", POOL)[0]
    ((_, _, asked), _) = mix.to_screen(wanted, PLAIN, screen(store))
    assert first in asked


@pytest.mark.parametrize("text", ["agrees", "confidence>=0.8", "confidence>=0", "agrees and copy"])
def test_prefixes_are_scored_until_the_draw_is_whole(store: Store, text: str) -> None:
    """Each step scores what the one before asked for; none scores what no draw looks at."""
    wanted = cell("augmentation", filter=text, ratio=0.4)
    steps = 0
    while steps < 12:
        left = fake_needs.unscored([wanted], {"dataset": PLAIN}, {"dataset": screen(store)})
        if not left:
            break
        steps += 1
        for (_, name), demand in left.items():
            for (label, psi), z_seeds in demand.wanted.items():
                score(store, label, psi, z_seeds.tolist(), SCORERS[name])
    assert 1 <= steps < 6
    dbp = screen(store).verdicts(text, "dbp", PSI)
    if text == "agrees and copy":  # some 5 of 100: the whole pool was looked at
        assert (dbp != UNSCORED).all()
        return
    made = mix.plan(wanted, PLAIN, POOL, screen(store))
    assert {label: len(z) for label, z in made.fakes.items()} == {"dbp": 8, "trv": 4}
    if text == "confidence>=0":
        assert steps == 1
        assert (dbp != UNSCORED).sum() == 8
    assert (dbp != UNSCORED).sum() < POOL


@given(
    verdicts=st.lists(st.sampled_from([PASSES, FAILS, UNSCORED]), min_size=1, max_size=30),
    wanted=st.integers(0, 31),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_a_draw_says_whether_it_is_whole_and_a_prefix_leads_on(
    verdicts: list[int], wanted: int, seed: int
) -> None:
    seen = FakeSelection(open_store("unused"), SCORERS, len(verdicts))
    seen._verdicts["agrees", "dbp", PSI] = np.array(verdicts, np.int8)
    order = np.random.RandomState(seed).permutation(len(verdicts)) + 1
    found = seen.draw("agrees", "dbp", PSI, order, wanted)
    along = [verdicts[z_seed - 1] for z_seed in order]
    expected: list[int] = []
    whole = wanted == 0
    for z_seed, verdict in zip(order, along, strict=True):
        if whole or verdict == UNSCORED:
            break
        expected += [int(z_seed)] if verdict == PASSES else []
        whole = len(expected) == wanted
    assert found.whole == whole
    if whole:
        assert found.z_seeds.tolist() == expected
    else:
        prefix = seen.prefix("agrees", "dbp", PSI, order, wanted)
        unknown = [z for z in prefix if verdicts[z - 1] == UNSCORED]
        assert unknown or (UNSCORED not in along and len(prefix) == len(order))


class TestKeepRates:
    def kept(self, store: Store, *cells: Any) -> dict[str, fake_needs.KeepRate]:
        reals, screens = {"dataset": PLAIN}, {"dataset": screen(store)}
        held = pd.DataFrame({"label": "dbp", "psi": PSI, "z_seed": range(1, POOL // 2 + 1)})
        found = fake_needs.keep_rates(cells, cells, reals, screens, held)
        return {each.label: each for each in found}

    def test_they_are_unknown_before_anything_is_scored(self, store: Store) -> None:
        found = self.kept(store, cell("augmentation", **AGREES), cell("baseline"))["dbp"]
        assert (found.scored, found.wanted, found.to_score) == (0, 20, 20)
        assert 0 < found.to_make < 20  # half of the pool is in the bank
        assert found.problem is None
        assert found.words == "an unknown share of `dbp` at psi 0.7"

    def test_they_come_with_an_interval_and_what_is_left_to_score(self, store: Store) -> None:
        score(store, "dbp", PSI, range(1, 41), CLASSIFIER)
        found = self.kept(store, *(cell("augmentation", seed=s, **AGREES) for s in (1, 2)))["dbp"]
        passed = int(agrees("dbp")[:40].sum())
        assert (found.scored, found.passed) == (40, passed)
        low, high = found.interval
        assert 0.3 < low < passed / 40 < high < 0.7
        assert 0 < found.to_score <= 60  # two seeds draw from the rest of 100

    def test_a_filter_that_keeps_too_few_is_refused_with_the_rate(self, store: Store) -> None:
        wanted = cell("augmentation", filter="agrees", ratio=4.0)
        score(store, "dbp", PSI, range(1, POOL + 1), CLASSIFIER)
        found = self.kept(store, wanted)
        passed = int(agrees("dbp").sum())
        assert found["dbp"].most == passed < 80
        assert found["dbp"].problem is not None
        assert f"keeps {passed} of 100 fakes of `dbp` at psi 0.7 (" in found["dbp"].problem
        assert (
            f"at most {passed} of the `pool` of 100, but an arm needs 80" in found["dbp"].problem
        )
        assert found["trv"].problem is None

    def test_a_sample_refuses_what_its_interval_rules_out(self, store: Store) -> None:
        rare = cell("augmentation", filter="confidence>=0.99", ratio=2.0)
        score(store, "dbp", PSI, range(1, 61), CLASSIFIER)
        problem = self.kept(store, rare)["dbp"].problem
        assert problem is not None
        assert "Raise `pool`, lower the ratio" in problem
