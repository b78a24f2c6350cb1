"""Sets of fakes: measures beside reals, copies among them, machines and high frequencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.ndimage import gaussian_filter
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from fgaug import quality
from fgaug.data import make_phantom
from fgaug.data.phantom import PhantomSet
from fgaug.errors import DataError, UserError
from fgaug.quality.copies import Copies, authentic, closest, copies_of
from fgaug.quality.kernel import kid_error
from fgaug.quality.scoring.image_scores import ALPHA, copies
from fgaug.quality.set_measures import MEASURES, RealFeatures, drawn, measures_of, shortfall
from fgaug.quality.spectrum import halves, high_frequencies, radial_power, real_or_fake
from fgaug.quality.strata import Machines, Shares, appearance, learn_machines, shares_of
from fgaug.quality.two_sample import two_sample_test


def draws(seed: int, n: int, shift: float = 0.0, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


class TestMeasures:
    def test_all_six_agree_with_those_that_they_are_made_of(self) -> None:
        real, fake = draws(0, 90), draws(1, 70, 0.4)
        found = measures_of(real, fake)
        assert tuple(found) == MEASURES
        assert found["fid"] == pytest.approx(quality.fid(real, fake))
        three, five = (compute_prdc(real, fake, nearest_k=k) for k in (3, 5))
        for name in ("precision", "recall"):
            assert found[name] == pytest.approx(three[name])
        for name in ("density", "coverage"):
            assert found[name] == pytest.approx(five[name])

    def test_fakes_of_the_reals_own_source_score_the_floor_and_others_do_not(self) -> None:
        patients = np.arange(120) // 2
        reals = RealFeatures(draws(0, 120), patients)
        good, bad = reals.measured(draws(1, 80)), reals.measured(draws(2, 80, 1.5))
        assert (good["n_real"], good["n_fake"], good["floor_by"]) == (120, 80, "group")
        for name in MEASURES:
            spread = good[f"{name}_at_floor_sd"] + good[f"floor_{name}_sd"]
            assert abs(shortfall(good, name)) < 4 * spread + 1e-9, name
            assert shortfall(bad, name) > 2 * abs(shortfall(good, name)), name

    def test_a_floor_is_measured_once_for_sets_that_share_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fgaug.quality import floors, set_measures

        made = []
        known = floors.real_floor
        monkeypatch.setattr(
            set_measures, "real_floor", lambda *a, **k: (made.append(1), known(*a, **k))[1]
        )
        reals = RealFeatures(draws(0, 60), np.arange(60))
        for n in (40, 30, 200, 20):  # no floor stands for more than half of the reals
            reals.measured(draws(n, n))
        assert len(made) == 2

    def test_too_few_are_refused(self) -> None:
        reals = RealFeatures(draws(0, 60), np.arange(60))
        with pytest.raises(UserError, match="at least 12 images"):
            reals.measured(draws(1, 11))
        with pytest.raises(UserError, match="--images must be at least 12, got 4"):
            drawn(np.arange(50), 4)
        assert drawn(np.array([9, 2, 5]), 100).tolist() == [2, 5, 9]


class TestKidError:
    def test_it_is_the_jackknife_of_both_sets(self) -> None:
        real, fake = draws(0, 30), draws(1, 20, 0.3)
        patients = np.random.default_rng(2).integers(0, 9, 30)
        of_patients = [quality.kid(real[patients != i], fake) for i in np.unique(patients)]
        of_fakes = [quality.kid(real, np.delete(fake, i, axis=0)) for i in range(20)]

        def variance(values: list[float]) -> float:
            return (len(values) - 1) * np.var(values)

        expected = np.sqrt(variance(of_patients) + variance(of_fakes))
        assert kid_error(real, fake, patients) == pytest.approx(expected)

    def test_it_is_the_spread_of_fresh_draws(self) -> None:
        values, errors = [], []
        for seed in range(80):
            rng = np.random.default_rng(seed)
            patients = np.repeat(np.arange(20), 3)
            real = 0.7 * rng.normal(size=(20, 4))[patients] + 0.7 * rng.normal(size=(60, 4))
            fake = rng.normal(0.5, 1, (50, 4))
            values.append(quality.kid(real, fake))
            errors.append(kid_error(real, fake, patients))
        assert 0.75 < np.mean(errors) / np.std(values) < 1.35
        with pytest.raises(UserError, match="at least 3 patients, got 2"):
            kid_error(draws(0, 9), draws(1, 9), np.arange(9) % 2)


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(among).kneighbors(images)
    return found[0][:, 0], found[1][:, 0]


@pytest.fixture(scope="module")
def heads() -> PhantomSet:
    return make_phantom(700, 19, size=32, machines=4)


@pytest.fixture(scope="module")
def parts(heads: PhantomSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which heads train, which are held out, and which stand for fakes: by patient."""
    groups = heads.table["group"].to_numpy()
    third = np.quantile(groups, [1 / 3, 2 / 3])
    return groups <= third[0], (groups > third[0]) & (groups <= third[1]), groups > third[1]


class TestCopies:
    @pytest.mark.parametrize("planted", [0.01, 0.05, 0.2])
    def test_planted_copies_are_found_at_the_stated_rate_of_false_alarms(
        self, heads: PhantomSet, parts: tuple[np.ndarray, ...], planted: float
    ) -> None:
        pixels = heads.images.reshape(len(heads.images), -1).astype(float)
        train, held, new = (pixels[part] for part in parts)
        fakes = new.copy()
        count = round(planted * len(fakes))
        fakes[:count] = train[:count]
        distance, which = nearest(fakes, train)
        groups = heads.table["group"].to_numpy()[parts[1]]
        found = copies_of(distance, nearest(held, train)[0], groups, resamples=400)
        called = copies(distance, found.threshold)
        assert called[:count].mean() >= 0.95
        assert called[count:].mean() <= max(ALPHA, found.false_alarms_high)
        assert found.alpha == ALPHA
        assert ALPHA < found.false_alarms_high < 0.1
        assert found.share == pytest.approx(called.mean())
        assert found.share_low <= found.share <= found.share_high
        assert found.near_low <= found.near <= found.near_high
        assert found.p_value < 0.01 or planted < 0.2
        assert found.exact == count
        pairs = closest(distance, which, min(3, count))
        assert set(pairs) <= set(range(count)), "the closest are copies"

    def test_new_patients_are_called_copies_as_often_as_stated(self) -> None:
        """Of fakes as far from the training images as held-out reals, alpha are called copies."""
        shares, small = [], 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            groups = np.repeat(np.arange(50), 3)
            held = rng.normal(10, 1, 50)[groups] + rng.normal(0, 1, 150)
            fake = rng.normal(10, np.sqrt(2), 300)
            found = copies_of(fake, held, groups, resamples=100)
            shares.append(found.near)
            small += found.p_value <= 0.05
            assert found.nearer_low < 0.62
        assert 0.03 < np.mean(shares) < 0.08
        assert small <= 8  # of 60: 5 % would be 3

    def test_nearer_is_the_rank_statistic(self) -> None:
        rng = np.random.default_rng(1)
        fake, held = rng.integers(0, 9, 40).astype(float), rng.integers(2, 11, 60).astype(float)
        found = copies_of(fake, held, np.arange(60), resamples=50)
        expected = mannwhitneyu(held, fake).statistic / (40 * 60)
        assert found.nearer == pytest.approx(expected)

    def test_authentic_images_are_further_than_the_neighbours_of_what_they_resemble(self) -> None:
        train = np.array([[0.0], [1.0], [10.0]])
        radius = np.array([1.0, 1.0, 9.0])
        distance, which = nearest(np.array([[0.5], [-1.5], [14.0], [2.5]]), train)
        assert authentic(distance, which, radius) == 0.5
        assert closest(distance, which, 9) == [0, 3, 2]

    def test_few_patients_are_refused(self) -> None:
        with pytest.raises(UserError, match="at least 10 patients, got 9"):
            copies_of(np.ones(5), np.ones(18), np.arange(18) // 2)
        with pytest.raises(UserError, match="got none"):
            copies_of(np.ones(0), np.ones(18), np.arange(18))


def machines_of(heads: PhantomSet, rows: np.ndarray) -> Machines:
    table = heads.table[rows]
    inputs = {"appearance": appearance(heads.images[rows]), "noise": draws(0, rows.sum())}
    return learn_machines(inputs, table["machine"].tolist(), table["group"].to_numpy())


@pytest.fixture(scope="module")
def learnt(heads: PhantomSet, parts: tuple[np.ndarray, ...]) -> Machines:
    return machines_of(heads, parts[0] | parts[1])


class TestMachines:
    def shares(self, heads: PhantomSet, learnt: Machines, rows: np.ndarray) -> Shares:
        called = learnt.call({"appearance": appearance(heads.images[rows])})
        return shares_of(learnt, np.ones(len(learnt.rows), bool), called)

    def test_the_machines_of_reals_are_told_by_the_better_inputs(self, learnt: Machines) -> None:
        assert learnt.strata == tuple(f"machine {n}" for n in range(1, 5))
        assert learnt.inputs == "appearance"
        assert learnt.tells
        assert learnt.accuracy > 0.7

    @pytest.mark.parametrize("lacking", [None, 1, 2, 3, 4])
    def test_a_bank_that_lacks_a_machine_is_found_out(
        self,
        heads: PhantomSet,
        parts: tuple[np.ndarray, ...],
        learnt: Machines,
        lacking: int | None,
    ) -> None:
        """New patients of the same machines stand for fakes."""
        machine = heads.table["machine"].to_numpy()
        rows = parts[2] & (machine != f"machine {lacking}")
        found = self.shares(heads, learnt, rows)
        names = [f"machine {n}" for n in range(1, 5)]
        true = np.array([(machine[rows] == name).mean() for name in names])
        assert np.abs(found.fake - true).max() < 0.12
        assert found.missing == tuple(name == f"machine {lacking}" for name in names)
        assert (found.p_value < 0.01) == (lacking is not None)
        assert (found.low <= found.fake).all()
        assert (found.fake <= found.high).all()
        assert found.tv_low <= found.total_variation <= found.tv_high

    def test_machines_that_cannot_be_told_apart_are_said_to_be(self) -> None:
        rng = np.random.default_rng(0)
        groups = np.arange(200) // 4
        strata = np.array(["a", "b"])[rng.integers(0, 2, 50)][groups]
        found = learn_machines({"noise": draws(1, 200)}, strata.tolist(), groups)
        assert not found.tells
        assert found.accuracy < found.least == pytest.approx(0.6)

    def test_rare_and_unknown_strata_are_left_out(self) -> None:
        groups = np.arange(120) // 2
        strata = np.array(["a"] * 60 + ["b"] * 54 + ["rare"] * 4 + [None, None], dtype=object)
        features = draws(1, 120) + 3 * (strata == "a")[:, None]
        found = learn_machines({"x": features}, strata.tolist(), groups)
        assert (found.strata, found.left_out, len(found.rows)) == (("a", "b"), ("rare",), 114)
        with pytest.raises(UserError, match="their patients are: a 30"):
            learn_machines({"x": features[:60]}, ["a"] * 60, groups[:60])


class TestHighFrequencies:
    def test_blurred_images_are_told_apart_and_halves_of_the_reals_are_not(
        self, heads: PhantomSet, parts: tuple[np.ndarray, ...]
    ) -> None:
        rows = parts[0] | parts[1]
        groups = heads.table["group"].to_numpy()[rows]
        real = high_frequencies(heads.images[rows])
        blurred = gaussian_filter(heads.images[parts[2]].astype(float), (0, 0.5, 0.5, 0))
        found = real_or_fake(real, groups, high_frequencies(blurred.astype(np.uint8)))
        assert found.auc_low > 0.9
        chance = halves(real, groups)
        assert chance.auc_low < 0.5 < chance.auc_high
        assert (chance.n_first + chance.n_second, found.n_second) == (len(real), parts[2].sum())

    def test_a_wave_lies_at_its_own_radius(self) -> None:
        x = np.arange(32)
        for cycles in (3, 9, 14):
            wave = 128 + 100 * np.sin(2 * np.pi * cycles * x / 32)
            images = np.broadcast_to(wave[None, :, None], (1, 32, 32))[..., None].astype(np.uint8)
            assert radial_power(images)[0].argmax() == cycles
        assert high_frequencies(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 9)
        with pytest.raises(UserError, match="at least 16 px, got 8"):
            radial_power(np.zeros((1, 8, 8, 1), np.uint8))

    @settings(max_examples=20)
    @given(st.integers(0, 10**6), st.integers(-40, 40))
    def test_brightness_is_no_frequency(self, seed: int, brighter: int) -> None:
        images = np.random.default_rng(seed).integers(60, 200, (2, 16, 16, 1)).astype(np.uint8)
        changed = (images.astype(int) + brighter).astype(np.uint8)
        both = (radial_power(each) for each in (images, changed))
        assert np.allclose(*both)


class TestToldApart:
    def test_two_networks_of_one_label_share_their_z_seeds(self) -> None:
        """Features that name the z_seed alone tell no networks apart, unless folds split them."""
        z_seeds = np.arange(60)
        named = np.eye(60)
        found = two_sample_test(named, named, z_seeds, z_seeds, shared=True)
        assert found.auc_low <= 0.5 <= found.auc_high
        apart = two_sample_test(
            named, named + draws(1, 60, 1.0, 60), z_seeds, z_seeds, shared=True
        )
        assert apart.auc_low > 0.9
        assert apart.accuracy_low > 0.8

    def test_too_few_are_refused(self) -> None:
        with pytest.raises(UserError, match="at least 10 patients"):
            two_sample_test(draws(0, 20), draws(1, 20), np.arange(20) // 4, np.arange(20))
        with pytest.raises((UserError, DataError), match="at least 20 patients, got 12"):
            halves(draws(0, 12), np.arange(12))


def test_copies_are_values() -> None:
    found = copies_of(np.arange(9.0), np.arange(30.0), np.arange(30), resamples=20)
    assert isinstance(found, Copies)
    assert (found.n_fake, found.n_held, found.n_patients) == (9, 30, 30)
