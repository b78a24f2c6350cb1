"""The calibration of the statistics: its truths, its bounds, and what it catches."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgaug import stats
from fgaug.bank import open_bank
from fgaug.data import draw_image
from fgaug.data.prepare import prepare

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import calibrate
    import calibrate_frames as frames
    import calibrate_phantom as phantom
    import calibrate_studies as studies
    import calibrate_table as table
    from calibrate_lines import lines
finally:
    sys.path.remove(BENCHMARKS)


def run_line(line: studies.Line, repetitions: int) -> dict[str, tuple[float, float]]:
    return studies.means_of([studies.run_part(line, 0, repetitions)])


SMALL = studies.Line(study="grid", patients=frames.Patients(count=100), seeds=5, arms=2)


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the cells of each table of a page, heads first, without the rule below them."""
    for block in text.split("\n\n"):
        rows = [line.strip("|").split(" | ") for line in block.splitlines()]
        if block.startswith("|"):
            yield [rows[0], *rows[2:]]


class TestFrames:
    @pytest.mark.parametrize("metric", stats.METRICS)
    def test_truth_is_what_many_patients_show(self, metric: str) -> None:
        noise = frames.Noise(seed_sd=0.4)
        if metric == "balanced_accuracy":
            metric, true = "accuracy", frames.truth("accuracy", 1.4, noise)
        else:
            true = frames.truth(metric, 1.4, noise)
        crowd = frames.Patients(count=4000, images=2, own_labels=True)
        rng = np.random.default_rng(3)
        drawn = frames.draw(rng, crowd, noise, np.full(1, 1.4), np.full(1, 60))
        score = drawn.score if metric == "auc" else drawn.probability
        found = stats.influence_of(metric, drawn.y, score, group=drawn.group)
        arms = stats.arms_of(found, drawn.arm)
        se = math.sqrt(arms.seed_variance[0] / 60 + arms.case[0, 0])
        assert abs(arms.mean[0] - true) < 3.5 * se
        assert se < 0.015

    def test_shifts_give_the_effects_asked_for(self) -> None:
        noise = frames.Noise()
        start = frames.shift_for(0.85, noise)
        assert frames.truth("auc", start, noise) == pytest.approx(0.85)
        for metric in ("auc", "accuracy", "brier", "log_loss"):
            better = frames.shift_apart(metric, start, 0.01, noise)
            gain = frames.truth(metric, better, noise) - frames.truth(metric, start, noise)
            assert gain == pytest.approx(0.01)
            assert (better > start) == (metric in ("auc", "accuracy"))

    def test_restless_arms_keep_their_auc(self) -> None:
        noise = frames.Noise()
        shift = np.array([frames.shift_for(0.85, noise, factor) for factor in (1, 3)])
        assert shift[1] > shift[0]
        rng = np.random.default_rng(5)
        crowd = frames.Patients(count=6000)
        drawn = frames.draw(rng, crowd, noise, shift, np.full(2, 30), np.array([1.0, 3.0]))
        arms = stats.arms_of(stats.influence_of("auc", drawn.y, drawn.score), drawn.arm)
        assert arms.mean == pytest.approx([0.85, 0.85], abs=0.02)
        assert arms.seed_variance[1] > 4 * arms.seed_variance[0]

    def test_patients_are_as_asked(self) -> None:
        for own, rare in ((True, 0.5), (False, 0.1)):
            who = frames.Patients(count=200, images=3, own_labels=own, positive=rare)
            drawn = frames.draw(
                np.random.default_rng(7), who, frames.Noise(), np.zeros(1), np.full(1, 2)
            )
            sizes = np.bincount(drawn.group)
            assert sizes.size == 200
            assert (sizes.min(), sizes.max()) == (1, 5)
            mixed = sum(len(set(drawn.y[drawn.group == g])) == 2 for g in range(200))
            assert (mixed > 50) == own
            assert drawn.y.mean() == pytest.approx(rare, abs=0.08)


class TestStudies:
    def test_seeds_only_is_caught_and_max_t_is_not(self) -> None:
        means = run_line(SMALL, 150)
        assert table.complaints(SMALL, means, 150).keys() <= {"covers_gain", "covers_none"}
        read_as_right = dataclasses.replace(table.RULES["grid"]["seeds_only"], kind="at most")
        assert "above 0.05" in str(read_as_right.complaint(means["seeds_only"][0], 150))

    def test_a_broken_instrument_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = stats.arms_of

        def blind(*arguments: Any) -> stats.Arms:
            """Forget the patients, as tests over seeds do."""
            arms = whole(*arguments)
            return dataclasses.replace(arms, case=0 * arms.case)

        monkeypatch.setattr(stats, "arms_of", blind)
        means = run_line(SMALL, 150)
        wrong = table.complaints(SMALL, means, 150)
        assert wrong.keys() == {"claims", "covers_none", "covers_gain", "together"}

    def test_an_instrument_that_claims_nothing_is_caught(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = stats.arms_of

        def timid(*arguments: Any) -> stats.Arms:
            arms = whole(*arguments)
            return dataclasses.replace(arms, case=4 * arms.case)

        monkeypatch.setattr(stats, "arms_of", timid)
        means = run_line(SMALL, 150)
        assert "covers_none" in table.complaints(SMALL, means, 150)

    def test_draws_follow_from_the_line_and_the_part(self) -> None:
        first = studies.run_part(SMALL, 0, 3)
        assert studies.run_part(SMALL, 0, 3) == first
        assert studies.run_part(SMALL, 1, 3) != first
        other = dataclasses.replace(SMALL, note="other")
        assert studies.run_part(other, 0, 3) != first

    def test_means_are_over_all_parts(self) -> None:
        parts = [{"x": [0.0, 1.0]}, {"x": [1.0]}]
        mean, error = studies.means_of(parts)["x"]
        assert mean == pytest.approx(2 / 3)
        assert error == pytest.approx(math.sqrt(2 / 9 / 3))

    def test_a_window_decides_as_the_exact_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = dataclasses.replace(SMALL, patients=frames.Patients(count=60), seeds=3)
        quick = run_line(line, 40)
        monkeypatch.setattr(studies, "FIRST", 10**6)
        assert run_line(line, 40) == quick

    @pytest.mark.parametrize("study", ["twin", "two", "replacement"])
    def test_measures_are_those_of_the_table(self, study: str) -> None:
        line = dataclasses.replace(SMALL, study=study, seeds=3, arms=4)
        found = run_line(line, 4)
        assert found.keys() == table.RULES[study].keys()
        assert all(0 <= mean <= 1 or math.isnan(mean) for mean, _ in found.values())

    def test_names_tell_lines_apart(self) -> None:
        names = [line.name for line in lines()]
        assert len(set(names)) == len(names)
        promised = [line for line in lines() if line.study == "grid" and not line.note]
        assert {line.patients.count for line in promised} == {60, 100, 150, 400}
        assert {line.seeds for line in promised} == {3, 5, 10}
        assert {line.arms for line in promised} == {12, 36}


class TestTable:
    @pytest.mark.parametrize(
        ("kind", "limits", "rate", "wrong"),
        [
            ("at most", (0, 0.05), 0.0, False),
            ("at most", (0, 0.05), 0.059, False),
            ("at most", (0, 0.05), 0.061, True),
            ("at least", (0.95, 1), 1.0, False),
            ("at least", (0.95, 1), 0.939, True),
            ("within", (0.93, 0.97), 0.93, False),
            ("within", (0.93, 0.97), 0.9705, True),
            ("within", (0.93, 0.97), 0.929, True),
            ("caught", (0, 0.05), 0.059, True),
            ("caught", (0, 0.05), 0.061, False),
            ("shown", (0, 1), 0.5, False),
            ("within", (0.93, 0.97), math.nan, False),
        ],
    )
    def test_bounds(self, kind: Any, limits: Any, rate: float, wrong: bool) -> None:
        rule = table.Rule(head="x", kind=kind, limits=limits)
        assert (rule.complaint(rate, 2000) is not None) == wrong

    def test_page_of_a_few_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(BENCHMARKS)  # the processes it starts look there too
        page, state = tmp_path / "page.md", tmp_path / "state"
        arguments = ["--part", "frames", "--only", "auc 60x1a 1x3", "--repetitions", "12"]
        arguments += ["--processes", "1", "--out", str(page), "--state", str(state)]
        status = calibrate.main(arguments)
        text = page.read_text(encoding="utf-8")
        assert status == int("**Outside their bounds:**" in text)
        assert "--repetitions 12" in text
        found = list(tables(text))
        assert [len(rows) for rows in found] == [2, 2]  # `two` and `replacement`
        for rows in found:
            assert {len(row) for row in rows} == {len(rows[0])}
            assert [cell.strip() for cell in rows[1][:5]] == ["60", "1", "auc", "1", "3 + 3"]
        kept = {path: path.stat().st_mtime_ns for path in state.iterdir()}
        assert calibrate.main(arguments) == status
        assert {path: path.stat().st_mtime_ns for path in state.iterdir()} == kept
        assert page.read_text(encoding="utf-8") == text

    def test_page_names_what_is_outside_but_not_beyond_the_promise(self) -> None:
        means = dict.fromkeys((*table.RULES["grid"], "seed_sd", "case_sd"), (0.95, 0.01))
        hard = dataclasses.replace(SMALL, note="hard")
        text = table.section("beyond", [(hard, means)], 2000)
        (rows,) = tables(text)
        assert rows[1][0].strip() == "hard"
        assert ".950 (.010) *outside*" in rows[1]  # 0.95 false claims
        assert {len(row) for row in rows} == {len(rows[0])}


class TestPhantom:
    def answer(self, **changes: Any) -> phantom.Answer:
        numbers = dict.fromkeys(("mean", "twin", "ci_low", "ci_high", "baseline"), 0.02)
        p = {"p_value": 0.01, "p_baseline": 1.0}
        fields = {"dataset": 1, "fakes": "copies", "verdict": "not shown", **numbers, **p}
        return phantom.Answer(**{**fields, **changes})

    @pytest.mark.parametrize(
        ("fakes", "right"),
        [
            ("copies", {"not shown", "worse"}),
            ("fresh", {"better"}),
            ("shuffled", {"worse"}),
        ],
    )
    def test_what_is_expected(self, fakes: str, right: set[str]) -> None:
        for verdict in ("better", "better on these patients only", "not shown", "worse"):
            answer = self.answer(fakes=fakes, verdict=verdict)
            assert (answer.complaint is None) == (verdict in right)

    def test_section_has_a_row_an_answer(self) -> None:
        text = phantom.section([self.answer(), self.answer(verdict="better", p_value=1e-9)])
        (rows,) = tables(text)
        assert {len(row) for row in rows} == {9}
        assert "better *outside*" in rows[2]
        assert rows[2][6] == "< .0001"
        assert rows[1][8].strip() == "1.0000"
        assert phantom.section([]) == ""

    def test_imported_fakes_are_what_they_are_called(self, tmp_path: Path) -> None:
        dataset = prepare(
            out=tmp_path / "dataset", size=32, preset="phantom", phantom={"images": 40}, valid=0.5
        )
        for name in ("copies", "shuffled"):
            phantom.import_bank(tmp_path, name, dataset)
        train = dataset.manifest["split"].eq("train").to_numpy()
        for label in dataset.spec.labels:
            own = dataset.manifest["label"].eq(label).to_numpy()
            reals = {image.tobytes() for image in dataset.pixels()[train & own]}
            seeds = list(range(1, phantom.POOL + 1))
            bank = open_bank(tmp_path / "banks" / "copies")
            copies = [image.tobytes() for image in bank.read(label=label, psi=1.0, z_seeds=seeds)]
            assert set(copies) == reals
            counts = [copies.count(image) for image in reals]
            assert max(counts) - min(counts) <= 1
            bank = open_bank(tmp_path / "banks" / "shuffled")
            drawn = bank.read(label=label, psi=1.0, z_seeds=seeds)
            first = phantom.FIRST_SEED + phantom.POOL * dataset.spec.labels.index(label)
            true = [(image == draw_image(label, first + number, size=32)).all()
                    for number, image in zip(seeds, drawn, strict=True)]  # fmt: skip
            assert 0.4 < np.mean(true) < 0.6

    @pytest.mark.slow
    @pytest.mark.ray
    def test_a_search_gives_an_answer_a_kind_of_fakes(self, tmp_path: Path) -> None:
        small = {"images": 400, "seeds": 2, "steps": 4, "model": "mobilenetv3_small_050"}
        found = phantom.answers(1, phantom.search(tmp_path, 1, **small))
        assert [answer.fakes for answer in found] == list(phantom.EXPECTED)
        assert all(0 <= answer.mean <= 1 for answer in found)
        assert all(answer.ci_low <= answer.twin <= answer.ci_high for answer in found)
