"""Reals against reals: which cuts, of what sizes, and that equal generators score the floor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgaug import quality
from fgaug.errors import UserError
from fgaug.quality.floors import MEASURES


def draws(seed: int, n: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, d))


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(12, 60), st.integers(4, 80), st.booleans())
def test_parts_are_disjoint_and_as_large_as_can_be(
    seed: int, count: int, n: int, grouped: bool
) -> None:
    patients = np.random.default_rng(seed).integers(0, 12, count) if grouped else None
    floor = quality.real_floor(draws(seed, count), n, groups=patients, cuts=4, k=1, seed=seed)
    for reference, sample in floor.cuts:
        rows = [*reference, *sample]
        assert len(set(rows)) == len(rows)
        assert set(rows) <= set(range(count))
        if patients is not None:
            assert not {*patients[reference]} & {*patients[sample]}
    wanted = min(n, count // 2)
    assert floor.n_sample <= wanted
    if patients is None:
        assert (floor.n_sample, floor.n_reference) == (wanted, count - wanted)
    assert floor.by == ("image" if patients is None else "group")


def test_cuts_are_seeded_and_differ() -> None:
    real = draws(1, 50)
    floor = quality.real_floor(real, 20, seed=3)
    again = quality.real_floor(real, 20, seed=3)
    assert floor.values == again.values
    assert floor.values != quality.real_floor(real, 20, seed=4).values
    assert len({tuple(sorted(sample)) for _, sample in floor.cuts}) == 10
    assert set(floor.values.mean) == set(MEASURES)


def test_the_mean_and_the_sd_are_those_of_the_cuts() -> None:
    real = draws(2, 60)
    floor = quality.real_floor(real, 25, cuts=5)
    each = [quality.measures_of(real[a], real[b]) for a, b in floor.cuts]
    for name in MEASURES:
        values = [found[name] for found in each]
        assert floor.values.mean[name] == pytest.approx(np.mean(values))
        assert floor.values.sd[name] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("n", [50, 150, 1000])
def test_fresh_draws_of_the_same_source_score_the_floor(n: int) -> None:
    """Also where the fakes are more than half of the reals, or more than all of them."""
    apart = {name: [] for name in MEASURES}
    for seed in range(12):
        real, fake = draws(100 + seed, 200), draws(500 + seed, n)
        floor = quality.real_floor(real, n, cuts=4)
        same = quality.at_sizes_of(floor, real, fake)
        for name in MEASURES:
            apart[name].append(same.mean[name] - floor.values.mean[name])
    for name, values in apart.items():
        assert abs(np.mean(values)) < 3.5 * np.std(values, ddof=1) / 12**0.5, name


def test_the_number_at_full_size_is_not_compared_with_the_floor() -> None:
    """Why `at_sizes_of` exists: more fakes than half of the reals pass the floor for nothing."""
    real, fake = draws(1, 200), draws(2, 5000)
    floor = quality.real_floor(real, 5000)
    assert quality.fid(real, fake) < floor.values.mean["fid"] - 2 * floor.values.sd["fid"]


def test_images_of_one_patient_on_both_sides_would_put_the_floor_too_low() -> None:
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 5)
    real = rng.normal(0, 1, (40, 6))[patients] + rng.normal(0, 0.1, (200, 6))
    whole = quality.real_floor(real, 100, groups=patients)
    torn = quality.real_floor(real, 100)
    assert whole.by == "group"
    assert whole.values.mean["fid"] > 2 * torn.values.mean["fid"]
    assert whole.values.mean["precision"] < torn.values.mean["precision"]


def test_one_patient_alone_is_cut_by_image() -> None:
    real = draws(1, 30)
    floor = quality.real_floor(real, 10, groups=["x"] * 30)
    assert floor.by == "image"
    assert floor.n_sample == 10
    assert quality.real_floor(real, 10, groups=[None] * 15 + ["x"] * 15).by == "group"


def test_refusals() -> None:
    real = draws(1, 30)
    with pytest.raises(UserError, match="at least 2 cuts"):
        quality.real_floor(real, 10, cuts=1)
    with pytest.raises(UserError, match="at least 8 images"):
        quality.real_floor(real[:7], 10)
    with pytest.raises(UserError, match="of 30 reals, got 3"):
        quality.real_floor(real, 10, groups=[1, 2, 3])
    with pytest.raises(UserError, match="no more than 3 images"):
        quality.real_floor(real, 10, groups=[0] * 29 + [1])
    floor = quality.real_floor(real, 10)
    with pytest.raises(UserError, match="fake must have at least 10"):
        quality.at_sizes_of(floor, real, real[:9])
