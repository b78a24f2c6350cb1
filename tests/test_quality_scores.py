"""Scores of single fakes: against the measures of sets, by hand, and with planted copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgaug.errors import UserError
from fgaug.quality import density_coverage, realism
from fgaug.quality.scoring.image_scores import Reference, copies, copy_threshold, of_own_label


def drawn(seed: int, reals: int = 60, fakes: int = 40, features: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, features)) for count in (reals, fakes)]


class TestNeighbours:
    @settings(max_examples=25)
    @given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))
    def test_the_measures_of_the_set_are_those_of_its_fakes(
        self, seed: int, k: int, k_density: int
    ) -> None:
        real, fake = drawn(seed)
        found = Reference(real, k, k_density).scores(fake)
        np.testing.assert_allclose(found.realism, realism(real, fake, k, prune_median=True))
        density, _ = density_coverage(real, fake, k_density)
        assert found.density.mean() == pytest.approx(density)

    @settings(max_examples=25)
    @given(st.integers(0, 10**6), st.integers(1, 39))
    def test_a_fake_s_scores_are_its_own(self, seed: int, cut: int) -> None:
        real, fake = drawn(seed)
        reference = Reference(real)
        whole, parts = reference.scores(fake), [fake[:cut], fake[cut:]]
        for name in ("realism", "density", "nearest_distance", "nearest"):
            cut_up = np.concatenate([getattr(reference.scores(part), name) for part in parts])
            np.testing.assert_allclose(getattr(whole, name), cut_up, rtol=1e-9)

    def test_the_nearest_real_and_its_distance(self) -> None:
        real, fake = drawn(1)
        found = Reference(real).scores(fake)
        distance = np.linalg.norm(fake[:, None] - real[None], axis=2)
        np.testing.assert_array_equal(found.nearest, distance.argmin(axis=1))
        np.testing.assert_allclose(found.nearest_distance, distance.min(axis=1))

    def test_a_copy_lies_at_no_distance_and_is_endlessly_real(self) -> None:
        real, _ = drawn(2, features=300)
        real = real.astype(np.float32) + 100
        found = Reference(real).scores(real[[7, 3]])
        assert found.nearest.tolist() == [7, 3]
        assert found.nearest_distance.tolist() == [0, 0]
        assert np.isinf(found.realism).any()  # of those that keep their ball

    def test_a_fake_far_away_is_neither_real_nor_dense(self) -> None:
        real, _ = drawn(3)
        found = Reference(real).scores(np.full((1, 5), 50.0))
        assert found.realism[0] < 0.05
        assert found.density[0] == 0

    def test_features_of_another_network_are_refused(self) -> None:
        with pytest.raises(UserError, match="features of the same network, got 4 and 5"):
            Reference(drawn(0)[0]).scores(np.zeros((1, 4)))
        with pytest.raises(UserError, match="at least 6 images"):
            Reference(np.zeros((5, 3)))


class TestCopies:
    @pytest.mark.parametrize(
        ("count", "alpha", "rank"), [(99, 0.01, 1), (98, 0.01, 0), (199, 0.01, 2), (19, 0.05, 1)]
    )
    def test_the_rank_of_the_threshold(self, count: int, alpha: float, rank: int) -> None:
        distances = np.arange(1.0, count + 1)
        assert copy_threshold(distances[::-1], alpha) == rank  # rank 0: exact copies alone

    def test_no_more_false_alarms_than_stated_whatever_the_distribution(self) -> None:
        """In expectation over held-out sets, of images that come as near as these do."""
        rng = np.random.default_rng(5)
        rates = []
        for _ in range(400):
            distances = rng.lognormal(0, 2, 150 + 300)
            threshold = copy_threshold(distances[:150], 0.05)
            rates.append(copies(distances[150:], threshold).mean())
        error = np.std(rates) / np.sqrt(len(rates))
        assert np.mean(rates) <= 0.05 + 3 * error
        assert np.mean(rates) > 0.035  # and not by calling nothing a copy

    def test_an_exact_copy_is_one_whatever_the_threshold(self) -> None:
        assert copies([0.0, 1e-9, 2.0], 0.0).tolist() == [True, False, False]
        assert copies([0.0, 1.0, 2.0], copy_threshold([])).tolist() == [True, False, False]

    @pytest.mark.parametrize("alpha", [0, 1, -0.1, np.nan])
    def test_an_alpha_out_of_range(self, alpha: float) -> None:
        with pytest.raises(UserError, match="alpha must lie between 0 and 1"):
            copy_threshold([1.0], alpha)


class TestOwnLabel:
    def test_by_hand(self) -> None:
        probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
        confidence, margin, agrees = of_own_label(probabilities, 0)
        np.testing.assert_allclose(confidence, [0.7, 0.3, 0.2])
        np.testing.assert_allclose(margin, [0.5, -0.1, -0.3])
        assert agrees.tolist() == [True, False, False]

    def test_each_image_with_a_class_of_its_own(self) -> None:
        probabilities = np.array([[0.9, 0.1], [0.9, 0.1]])
        confidence, margin, agrees = of_own_label(probabilities, np.array([0, 1]))
        np.testing.assert_allclose(confidence, [0.9, 0.1])
        np.testing.assert_allclose(margin, [0.8, -0.8])
        assert agrees.tolist() == [True, False]
