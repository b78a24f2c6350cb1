"""Measures of fakes: stored numbers, known answers, invariances; and that the script can fail."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fgaug import quality
from fgaug.errors import UserError
from fgaug.quality import kernel, neighbours

FOLDER = Path(__file__).parent / "data" / "quality"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
golden_quality: Any = importlib.import_module("golden_quality")


def case(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays), json.loads((FOLDER / f"{name}.json").read_text())


def draws(seed: int, n: int, d: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (n, d)).astype(np.float32)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return distances one difference at a time: slow, and without cancellation."""
    return np.array([np.sqrt(np.square(b - row).sum(axis=1)) for row in a.astype(np.float64)])


class TestGoldens:
    def test_every_kind_of_case_is_stored(self) -> None:
        assert CASES == ["copies", "few_many_dims", "narrow", "overlap"]

    @pytest.mark.parametrize("name", CASES)
    def test_stored_numbers_are_ours(self, name: str) -> None:
        row = golden_quality.row_of(FOLDER, name)
        assert row.ok, row.misses
        assert row.keys == row.total == 17

    @pytest.mark.parametrize("name", CASES)
    def test_swapped_sets_miss(self, name: str) -> None:
        arrays, numbers = case(name)
        real, fake = arrays["real"], arrays["fake"]
        found = golden_quality.compared(name, {**arrays, "real": fake, "fake": real}, numbers)
        missed = {line.split(":")[0] for line in found.misses}
        assert {"precision_k3", "prdc_recall_k3", "realism_k3"} <= missed
        assert not missed & {"fid", "kid"}, "these two are symmetric"

    def test_swapped_sets_change_precision_for_recall(self) -> None:
        arrays, _ = case("narrow")
        precision, recall = quality.precision_recall(arrays["real"], arrays["fake"])
        assert (recall, precision) == quality.precision_recall(arrays["fake"], arrays["real"])
        assert precision == 1
        assert recall == pytest.approx(0.0933, abs=1e-4)


class TestScript:
    def run(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr(sys, "argv", ["golden_quality.py", str(folder)])
        return int(golden_quality.main())

    def test_a_row_a_case_and_exit_0(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], odd_root: Path
    ) -> None:
        for name in ("copies", "overlap"):
            for end in ("json", "npz"):
                shutil.copy(FOLDER / f"{name}.{end}", odd_root)
        assert self.run(odd_root, monkeypatch) == 0
        out = capsys.readouterr().out
        assert out.count("17/17") == 2
        assert out.endswith("2 of 2 cases agree\n")

    def test_every_number_can_miss(self) -> None:
        arrays, numbers = case("overlap")
        for key, value in numbers.items():
            off = {**numbers, key: value * 1.0001 + (value == int(value))}
            row = golden_quality.compared("off", arrays, off)
            assert [line.split(":")[0] for line in row.misses] == [key]
        for key in ("realism_k3", "realism_k3_median"):
            moved = arrays[key].copy()
            moved[7] *= 1.0001
            row = golden_quality.compared("off", {**arrays, key: moved}, numbers)
            assert [line.split(":")[0] for line in row.misses] == [key]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, 0.5], "0.5", None])
    def test_what_is_no_such_number_misses(self, value: Any) -> None:
        arrays, numbers = case("copies")
        with contextlib.suppress(TypeError, ValueError):  # `row_of` makes a miss of them
            assert not golden_quality.compared("off", arrays, {**numbers, "kid": value}).ok

    def test_an_infinite_realism_is_a_number(self) -> None:
        arrays, numbers = case("copies")
        infinite = np.isinf(arrays["realism_k3"])
        assert infinite.sum() == 5
        for replaced in (np.where(infinite, 9.0, arrays["realism_k3"]), -arrays["realism_k3"]):
            row = golden_quality.compared("off", {**arrays, "realism_k3": replaced}, numbers)
            assert not row.ok

    @pytest.mark.parametrize(
        "key", ["is", "prdc_f1_k3", "fid_k3", "precision", "realism_k3_mean", "swav"]
    )
    def test_a_kind_that_is_not_known_misses(self, key: str) -> None:
        arrays, numbers = case("copies")
        row = golden_quality.compared("more", arrays, {**numbers, key: 0.5})
        assert row.misses == [f"no such number here: {key}"]
        row = golden_quality.compared("more", {**arrays, key: np.ones(3)}, numbers)
        assert row.misses == [f"no such number here: {key}"]

    def test_halves_broken_files_and_an_empty_folder_miss(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, monkeypatch) == 1
        assert "No *.npz" in capsys.readouterr().err
        shutil.copy(FOLDER / "copies.npz", tmp_path)
        shutil.copy(FOLDER / "narrow.json", tmp_path)
        for end in ("json", "npz"):
            shutil.copy(FOLDER / f"overlap.{end}", tmp_path)
        (tmp_path / "cut.json").write_text('{"fid": 1')
        shutil.copy(FOLDER / "copies.npz", tmp_path / "cut.npz")
        assert self.run(tmp_path, monkeypatch) == 1
        out = capsys.readouterr().out
        assert "1 of 4 cases agree" in out
        assert "JSONDecodeError" in out

    def test_a_case_without_features_or_numbers_misses(self) -> None:
        arrays, numbers = case("copies")
        row = golden_quality.compared("no", {"real": arrays["real"]}, numbers)
        assert row.misses == ["no array fake"]
        bare = {name: arrays[name] for name in ("real", "fake")}
        assert not golden_quality.compared("no", bare, {}).ok


class TestFid:
    def test_of_known_gaussians(self) -> None:
        a = draws(1, 400, 12).astype(np.float64)
        variance = a.var(axis=0, ddof=1).sum()
        mean = a.mean(axis=0)
        assert quality.fid(a, a) == pytest.approx(0, abs=1e-10)
        assert quality.fid(a, a + 3) == pytest.approx(9 * 12)
        # N(m, S) and N(3 m, 9 S): |2 m|^2 + tr(S + 9 S - 6 S)
        assert quality.fid(a, 3 * a) == pytest.approx(4 * mean @ mean + 4 * variance)

    @pytest.mark.parametrize(("n", "m"), [(9, 200), (200, 9), (14, 11), (2, 2)])
    def test_fewer_images_than_features(self, n: int, m: int) -> None:
        """Against the root of a covariance, which is exact enough where it has no small values."""
        a, b = draws(2, n, 20).astype(np.float64), draws(3, m, 20, 0.4).astype(np.float64)
        s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        values, vectors = np.linalg.eigh(s)
        root = vectors * np.sqrt(values.clip(0)) @ vectors.T
        shared = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
        shift = a.mean(axis=0) - b.mean(axis=0)
        expected = shift @ shift + np.trace(s) + np.trace(t) - 2 * shared
        assert quality.fid(a, b) == pytest.approx(expected, rel=1e-5)

    def test_features_that_are_always_0_add_nothing(self) -> None:
        a, b = draws(4, 300, 10), draws(5, 250, 10, 0.2)
        more = [np.hstack([each, np.zeros((len(each), 500))]) for each in (a, b)]
        assert quality.fid(*more) == pytest.approx(quality.fid(a, b), rel=1e-12)

    @settings(max_examples=25)
    @given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 40), st.integers(1, 12))
    def test_symmetric_and_blind_to_rotations(self, seed: int, n: int, m: int, d: int) -> None:
        a, b = draws(seed, n, d).astype(float), draws(seed + 1, m, d, 0.5).astype(float)
        found = quality.fid(a, b)
        assert found == pytest.approx(quality.fid(b, a), abs=1e-9)
        turn = np.linalg.qr(draws(seed + 2, d, d).astype(float))[0]
        assert found == pytest.approx(quality.fid(a @ turn, b @ turn), abs=1e-8)
        assert found >= 0

    def test_a_gaussian_is_made_once_for_several_sets(self) -> None:
        a, b = draws(6, 60, 8), draws(7, 70, 8)
        assert quality.Gaussian.of(a).distance(quality.Gaussian.of(b)) == quality.fid(a, b)


class TestKid:
    @pytest.mark.parametrize("block", [1, 7 * 23, 10**6])
    def test_over_all_pairs_in_blocks_of_any_size(
        self, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b = draws(1, 23, 6).astype(float), draws(2, 31, 6, 0.3).astype(float)
        monkeypatch.setattr(kernel, "_BLOCK", block)
        within = [
            np.mean(
                [(x @ y / 6 + 1) ** 3 for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
            )
            for s in (a, b)
        ]
        across = np.mean([(x @ y / 6 + 1) ** 3 for x in a for y in b])
        assert quality.kid(a, b) == pytest.approx(sum(within) - 2 * across, rel=1e-10)

    def test_has_no_bias_where_the_sets_are_alike(self) -> None:
        values = [quality.kid(draws(2 * i, 30, 5), draws(2 * i + 1, 40, 5)) for i in range(400)]
        assert abs(np.mean(values)) < 3 * np.std(values) / 20
        assert min(values) < 0

    def test_subsets_spread_about_the_whole(self) -> None:
        a, b = draws(3, 400, 8), draws(4, 300, 8, 0.5)
        found = quality.kid_subsets(a, b, subsets=60, size=100)
        assert found.mean == pytest.approx(quality.kid(a, b), abs=3 * found.sd / 60**0.5)
        assert (found.size, found.subsets) == (100, 60)
        again = quality.kid_subsets(a, b, subsets=60, size=100)
        assert again == found
        assert quality.kid_subsets(a, b, subsets=60, size=100, seed=1) != found

    def test_subsets_of_all_images_do_not_spread(self) -> None:
        a, b = draws(3, 40, 8), draws(4, 40, 8)
        found = quality.kid_subsets(a, b, subsets=3)
        assert found.size == 40
        assert found.mean == pytest.approx(quality.kid(a, b))
        assert found.sd == pytest.approx(0, abs=1e-12)


def with_copies(seed: int, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return reals, some of them twice or five times, and fakes, some of them copies of reals."""
    rng = np.random.default_rng(seed)
    real, fake = draws(seed, n, d), draws(seed + 1, m, d)
    real[: n // 4] = real[rng.integers(n // 4, n, n // 4)]
    real[-5:] = real[-1]
    fake[: m // 3] = real[rng.integers(0, n, m // 3)]
    return real, fake


class TestNeighbours:
    @settings(max_examples=25)
    @given(
        st.integers(0, 10_000),
        st.integers(12, 60),
        st.integers(8, 60),
        st.sampled_from([2, 8, 300]),
        st.integers(1, 6),
        st.sampled_from([0.0, 1e3]),
    )
    @example(3882, 37, 8, 2, 2, 1e3)  # the median radius is that of two neighbours
    def test_against_one_difference_at_a_time(
        self, seed: int, n: int, m: int, d: int, k: int, offset: float
    ) -> None:
        """Ties and copies too: what lies exactly on a ball is in a closed one alone."""
        real, fake = (each + np.float32(offset) for each in with_copies(seed, n, m, d))
        within_real, within_fake = distances(real, real), distances(fake, fake)
        across = distances(fake, real)
        of_real = np.sort(within_real, axis=1)[:, k]
        of_fake = np.sort(within_fake, axis=1)[:, k]
        precision = (across <= of_real).any(axis=1).mean()
        recall = (across <= of_fake[:, None]).any(axis=0).mean()
        assert quality.precision_recall(real, fake, k) == pytest.approx((precision, recall))
        density = (across < of_real).sum() / k / m
        coverage = (across.min(axis=0) < of_real).mean()
        assert quality.density_coverage(real, fake, k) == pytest.approx((density, coverage))
        for pruned in (False, True):
            kept = of_real <= np.median(of_real) if pruned else np.ones(n, bool)
            gap = across[:, kept]
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = np.where(gap == 0, np.inf, of_real[kept] / gap).max(axis=1)
            found = quality.realism(real, fake, k, prune_median=pruned)
            np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_blocks_of_any_size_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, fake = with_copies(5, 700, 900, 12)
        measures = (quality.precision_recall, quality.density_coverage, quality.realism)
        whole = [measure(real, fake, 3) for measure in measures]
        monkeypatch.setattr(neighbours, "_BLOCK_MB", 700 * 8 * 13 / 2**20)  # 13 fakes a block
        for measure, before in zip(measures, whole, strict=True):
            # products of other shapes may round otherwise, by the processor's own kernels
            np.testing.assert_allclose(measure(real, fake, 3), before, rtol=1e-13)

    def test_a_fake_in_a_real_s_ball_has_realism_1(self) -> None:
        real, fake = draws(1, 200, 10), draws(2, 300, 10, 0.4)
        precision, _ = quality.precision_recall(real, fake)
        assert (quality.realism(real, fake) >= 1).mean() == precision
        pruned = quality.realism(real, fake, prune_median=True)
        assert (pruned <= quality.realism(real, fake)).all()

    def test_copies_are_at_distance_0_whatever_the_rounding(self) -> None:
        real = draws(1, 300, 1280, 40)
        found = quality.realism(real, real[::-1].copy())
        assert np.isinf(found).all()
        near = real + np.float32(1e-3)
        assert np.isfinite(quality.realism(real, near)).all()

    def test_noise_is_not_real_and_collapse_does_not_recall(self) -> None:
        real = draws(1, 200, 16)
        noise = 20 * draws(2, 100, 16)
        assert quality.precision_recall(real, noise) == (0, pytest.approx(1, abs=0.2))
        assert quality.realism(real, noise).max() < 1
        collapsed = real[:1] + 1e-3 * draws(3, 100, 16)
        assert quality.precision_recall(real, collapsed)[0] == 1
        assert quality.precision_recall(real, collapsed)[1] < 0.02
        assert quality.density_coverage(real, noise) == (0, 0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("features", "words"),
        [
            (np.zeros(4), r"shape \[images, features\]"),
            (np.zeros((3, 2, 2)), r"shape \[images, features\]"),
            (np.zeros((5, 0)), r"shape \[images, features\]"),
            (np.zeros((1, 8)), "at least 2 images"),
            ([["a", "b"]] * 9, "must be numbers"),
            (np.full((9, 8), np.nan), "9 of 9 images"),
            (np.where(np.eye(9, 8) > 0, np.inf, 1.0), r"8 of 9 images.*row 0"),
            (np.zeros((9, 7)), "from the same network, got 7 and 8"),
        ],
    )
    def test_what_is_no_set_of_features(self, features: Any, words: str) -> None:
        with pytest.raises(UserError, match=words):
            quality.fid(features, np.ones((9, 8)))

    def test_too_few_images_for_k(self) -> None:
        a, b = draws(1, 4, 3), draws(2, 3, 3)
        assert quality.precision_recall(a, a, 3)
        for measure in (quality.precision_recall, quality.density_coverage, quality.realism):
            with pytest.raises(UserError, match="fake must have at least 4 images"):
                measure(a, b, 3)
            with pytest.raises(UserError, match="k must be at least 1"):
                measure(a, b, 0)

    def test_no_subsets(self) -> None:
        with pytest.raises(UserError, match="100 of 1000"):
            quality.kid_subsets(draws(1, 4, 3), draws(2, 4, 3), size=1)
