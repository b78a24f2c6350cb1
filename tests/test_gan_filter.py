"""Which images networks should not learn from: the rules on arrays, the list, and its use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from small_grid import phantom_dataset

from fgaug.cli import gan
from fgaug.data import make_phantom, open_dataset
from fgaug.data.dataset import write_dataset
from fgaug.data.drop_list import Drops, read_drops
from fgaug.errors import DataError, UserError
from fgaug.quality.snapshots.training_filter import (
    filter_training_images,
    label_errors,
    log_density,
    out_of_fold,
    skill,
    thinnest,
)
from gan_worker.training.export import export_training_images
from gan_worker.training.images import training_images, write_trained_on

HEADS = 240


def command(*arguments: object) -> None:
    gan.app([*map(str, arguments)], standalone_mode=False)


def patients(count: int, each: int) -> np.ndarray:
    return np.repeat(np.arange(count), each)


class TestOutOfFold:
    def test_a_patient_is_judged_by_others_alone(self) -> None:
        """Features that name the patient tell nothing of a patient that was not seen."""
        groups = patients(60, 4)
        labels = np.random.RandomState(0).permutation(np.repeat([0, 1], 30))[groups]
        named = np.eye(60)[groups]
        found = out_of_fold(named, labels, groups)
        right = (found.argmax(axis=1) == labels).mean()
        assert right < 0.6
        alone = out_of_fold(named, labels, np.arange(240))
        assert (alone.argmax(axis=1) == labels).mean() > 0.95, "the foil: images as patients"

    def test_probabilities_of_what_can_be_told(self) -> None:
        rng = np.random.RandomState(1)
        groups, labels = patients(40, 3), patients(40, 3) % 3
        features = rng.standard_normal((120, 20))
        features[np.arange(120), labels] += 4
        found = out_of_fold(features, labels, groups)
        assert found.shape == (120, 3)
        assert np.allclose(found.sum(axis=1), 1)
        assert (found.argmax(axis=1) == labels).mean() > 0.9
        assert (found == out_of_fold(features, labels, groups)).all()

    def test_few_patients_mean_fewer_folds(self) -> None:
        groups, labels = patients(6, 5), np.array([0, 0, 0, 1, 1, 1]).repeat(5)
        features = np.random.RandomState(2).standard_normal((30, 4)) + 5 * labels[:, None]
        assert (out_of_fold(features, labels, groups).argmax(axis=1) == labels).all()

    def test_labels_that_cannot_be_judged(self) -> None:
        features = np.random.RandomState(3).standard_normal((20, 4))
        with pytest.raises(DataError, match=r"two labels or more.* got 1 .* rule `thin`"):
            out_of_fold(features, np.zeros(20, int), np.arange(20))
        labels = (np.arange(20) < 5).astype(int)
        with pytest.raises(DataError, match="got 2 with at least 1"):
            out_of_fold(features, labels, np.where(labels, 99, np.arange(20)))


def naive_errors(probabilities: np.ndarray, classes: np.ndarray) -> list[bool]:
    """Confident learning by the letter of the paper, an image after the other."""
    labels = range(probabilities.shape[1])
    threshold = {}
    for label in labels:
        own = [p[label] for p, c in zip(probabilities, classes, strict=True) if c == label]
        threshold[label] = np.mean(own)
    found = []
    for p, c in zip(probabilities, classes, strict=True):
        confident = [label for label in labels if p[label] >= threshold[label]]
        best = max(confident, key=lambda label: p[label]) if confident else c
        found.append(best != c and max(labels, key=lambda label: p[label]) != c)
    return found


class TestLabelErrors:
    def test_a_worked_example(self) -> None:
        own = np.array([0.9, 0.8, 0.1, 0.45, 0.7, 0.9, 0.2, 0.6])  # of the second label's images
        probabilities = np.column_stack([own, 1 - own])
        classes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        # thresholds 0.5625 and 0.4: of the first label's, 0.1 and 0.45 are confidently the second
        assert label_errors(probabilities, classes).tolist() == [
            *(False, False, True, True),
            *(True, True, False, True),
        ]

    def test_a_likely_label_stays_where_the_other_is_likelier_than_usual(self) -> None:
        """Off the diagonal of the joint, but the classifier does not disagree."""
        probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.8, 0.2], [0.7, 0.3]])
        classes = np.array([0, 0, 1, 1])
        assert label_errors(probabilities, classes).tolist() == [False, False, True, False]

    @given(st.integers(0, 10**6), st.integers(2, 4), st.integers(8, 40))
    def test_against_the_definition(self, seed: int, labels: int, count: int) -> None:
        rng = np.random.RandomState(seed)
        probabilities = rng.dirichlet(np.ones(labels), count)
        classes = np.concatenate([np.arange(labels), rng.randint(labels, size=count - labels)])
        found = label_errors(probabilities, classes)
        assert found.tolist() == naive_errors(probabilities, classes)

    def test_cleanlab_finds_the_same(self) -> None:
        """Its 2.9.0, `find_label_issues(..., filter_by="confident_learning")`, run once."""
        found = []
        for seed in range(60):
            rng = np.random.RandomState(seed)
            classes = np.arange(200) % (2 + seed % 3)
            probabilities = rng.dirichlet(np.ones(2 + seed % 3), 200)
            probabilities[np.arange(200), classes] += rng.rand()
            probabilities /= probabilities.sum(axis=1, keepdims=True)
            found.append(label_errors(probabilities, classes))
        assert np.sum(found) == 2033
        digest = hashlib.sha256(np.packbits(found).tobytes()).hexdigest()
        assert digest == "41232afc04bed4381a8a8e50b5893d002dff412f2e0f7f37d6c17dc5dd5c7940"

    def test_planted_errors_are_found(self) -> None:
        rng = np.random.RandomState(4)
        truth, groups = patients(200, 2) % 2, patients(200, 2)
        features = rng.standard_normal((400, 50)) + 1.5 * (truth[:, None] == [[0, 1] * 25])
        wrong = rng.permutation(400)[:40]
        labels = truth.copy()
        labels[wrong] = 1 - labels[wrong]
        found = label_errors(out_of_fold(features, labels, groups), labels)
        assert np.isin(np.flatnonzero(found), wrong).mean() > 0.9
        assert found[wrong].mean() > 0.8


class TestSkill:
    def test_labels_count_alike_whatever_their_number(self) -> None:
        probabilities = np.tile([0.9, 0.1], (10, 1))
        assert skill(probabilities, np.array([0] * 9 + [1])) == (0.5, pytest.approx(0.6))
        assert skill(np.eye(3), np.arange(3)) == (1.0, pytest.approx(1 / 3 + 0.4 / 3))


class TestDensity:
    def test_against_scipy(self) -> None:
        rng = np.random.RandomState(5)
        features = rng.standard_normal((50, 8)) @ rng.standard_normal((8, 8)) + 3
        units = (features - features.mean(axis=0)) / features.std(axis=0)
        covariance = LedoitWolf(assume_centered=True).fit(units).covariance_
        expected = multivariate_normal(np.zeros(8), covariance).logpdf(units)
        assert log_density(features) == pytest.approx(expected, rel=1e-9)

    def test_planted_outliers_come_first_with_more_features_than_images(self) -> None:
        rng = np.random.RandomState(6)
        features = (rng.standard_normal((80, 10)) @ rng.standard_normal((10, 300))).astype("f4")
        features += 0.3 * rng.standard_normal(features.shape)
        features[[7, 40]] += 2 * rng.standard_normal((2, 300)) * features.std()
        assert np.flatnonzero(thinnest(log_density(features), 0.025)).tolist() == [7, 40]

    def test_dead_features_and_equal_images_tell_nothing(self) -> None:
        features = np.random.RandomState(7).standard_normal((20, 5))
        dead = np.column_stack([features, np.full(20, 3.0)])
        assert log_density(dead) == pytest.approx(log_density(features))
        assert log_density(np.ones((4, 3))).tolist() == [0.0] * 4

    @given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0, 0.99))
    def test_the_share_is_rounded_down_and_of_the_lowest(
        self, density: list[float], share: float
    ) -> None:
        chosen = thinnest(np.array(density), share)
        assert chosen.sum() == int(share * len(density))
        left = np.array(density)[~chosen]
        assert not chosen.any() or np.array(density)[chosen].max() <= left.min()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gan-filter")
    phantom_dataset(root, images=HEADS, valid=0.3)
    return root


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset too small for a classifier to learn from."""
    return phantom_dataset(tmp_path_factory.mktemp("gan-filter-few"))


@pytest.fixture(scope="module")
def listed(root: Path) -> Path:
    """Return a drop list by both rules."""
    path = root / "drops.json"
    filter_training_images(root / "dataset", path, rules=["label", "thin"], share=0.1)
    return path


class TestCommand:
    def test_wrong_labels_are_found_more_often_than_right_ones(
        self, root: Path, listed: Path
    ) -> None:
        images = training_images(open_dataset(root / "dataset"), ["dbp", "trv"])
        truth = make_phantom(HEADS, size=32).table.set_index("image_id")["plane"]
        wrong = images.table["label"].to_numpy() != truth[images.table["image_id"]].to_numpy()
        drops = read_drops(listed).drops.images
        flagged = {each.image_id for each in drops if "label" in each.reasons}
        flags = images.table["image_id"].isin(flagged).to_numpy()
        assert flags[wrong].mean() > 2 * flags[~wrong].mean()

    def test_the_list_says_why(self, root: Path, listed: Path) -> None:
        drops = read_drops(listed).drops
        data = open_dataset(root / "dataset")
        images = training_images(data, ["dbp", "trv"])
        assert drops.dataset_digest == data.spec.digest
        assert drops.considered == images.counts
        assert set(drops.rules) == {"features", "label", "thin"}
        assert drops.rules["features"].startswith("lite0-")
        assert 0.6 < drops.rules["label"]["balanced_accuracy"] < 1
        known = images.table.set_index("image_id")
        for each in drops.images:
            assert known.loc[each.image_id, ["sha256", "label"]].tolist() == [
                each.sha256,
                each.label,
            ]
        for label, count in images.counts.items():
            thin = [i for i in drops.images if "thin" in i.reasons and i.label == label]
            assert len(thin) == int(0.1 * count)
        doubted = [i.reasons["label"] for i in drops.images if "label" in i.reasons]
        assert doubted
        assert max(doubted) < 0.5

    def test_a_network_learns_from_the_rest_and_its_record_says_so(
        self, root: Path, listed: Path, tmp_path: Path
    ) -> None:
        data, drops = open_dataset(root / "dataset"), read_drops(listed)
        before = training_images(data, ["trv"])
        after = training_images(data, ["trv"], drop=drops.images)
        assert after.dropped == drops.drops.counts()["trv"] > 0
        assert len(after) == len(before) - after.dropped
        record = pd.read_parquet(write_trained_on(tmp_path / "x.pkl", after))
        assert set(record["sha256"]) == set(before.table["sha256"]) - drops.images
        done = export_training_images(root / "dataset", ["trv"], tmp_path / "o", drop=listed)
        assert pd.read_parquet(done.record).equals(record)
        assert done.dropped == after.dropped

    def test_a_line_taken_out_by_hand_keeps_its_image(
        self, root: Path, listed: Path, tmp_path: Path
    ) -> None:
        raw = json.loads(listed.read_bytes())
        kept = raw["images"].pop()
        edited = tmp_path / "edited.json"
        edited.write_text(json.dumps(raw))
        before, after = read_drops(listed), read_drops(edited)
        assert before.images - after.images == {kept["sha256"]}
        assert before.sha256 != after.sha256

    def test_the_same_images_at_another_size_take_the_list(
        self, root: Path, listed: Path, tmp_path: Path
    ) -> None:
        rows = open_dataset(root / "dataset")
        small = [rows.pixels()[:, ::2, ::2]]
        spec = dataclasses.replace(rows.spec, size=16)
        data = write_dataset(tmp_path / "small", spec, rows.manifest, small)
        assert data.spec.digest != rows.spec.digest
        drops = read_drops(listed)
        images = training_images(data, ["dbp", "trv"], drop=drops.images)
        assert images.dropped == len(drops.drops.images)

    @pytest.mark.slow
    def test_what_the_commands_print(self, few: Path, odd_root: Path, capsys: Any) -> None:
        out = odd_root / "drops.json"
        command("filter", "--dataset", few, "--out", out, "--rule", "thin")
        text = capsys.readouterr()
        assert text.out == f"{out}\n"
        counts = read_drops(out).drops.considered
        assert [line for line in text.err.splitlines() if " of " in line] == [
            f"{label}: {int(0.1 * count)} of {count} training images"
            for label, count in counts.items()
        ]
        place = ["--dataset", few, "--label", "trv", "--out", odd_root / "o"]
        command("export", *place, "--drop", out)
        gone = int(0.1 * counts["trv"])
        assert f"Excluded {gone} images listed in {out}\n" in capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"rules": ["labels"]}, "--rule must be label, thin or agreement, got labels"),
            ({"rules": []}, "got none"),
            ({"share": 0.0}, "--share must lie between 0 and 1, got 0"),
            ({"seed": -1}, "--seed must be from 0"),
            ({"network": "resnet"}, "--features must be lite0"),
            ({"device": "cuda:99"}, "this machine has .* CUDA devices"),
        ],
    )
    def test_what_cannot_be(
        self, root: Path, tmp_path: Path, asked: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(UserError, match=words):
            filter_training_images(root / "dataset", tmp_path / "d.json", **asked)
        assert not list(tmp_path.iterdir())

    def test_a_classifier_at_chance_judges_no_label(self, few: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"60% or more; this one has [345]\d%, so its"):
            filter_training_images(few, tmp_path / "d.json", rules=["label"], seed=1)
        assert not list(tmp_path.iterdir())

    def test_a_list_that_exists_stays(self, root: Path, listed: Path) -> None:
        before = listed.read_bytes()
        with pytest.raises(DataError, match=r"exists\. Choose another name"):
            filter_training_images(root / "dataset", listed)
        assert listed.read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("not json", "is not a drop list"),
            ("[" * 100_000, "is not a drop list"),
            ("[]", "is not a drop list"),
            ("{}", "dataset_digest: Field required"),
        ],
    )
    def test_files_that_are_no_list(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "d.json").write_text(text)
        with pytest.raises(DataError, match=rf"{words}.*Create it with `fgaug gan filter`"):
            read_drops(tmp_path / "d.json")

    @pytest.mark.parametrize(
        "change",
        [
            {"schema_version": 2},
            {"more": 1},
            {"images": [{"image_id": "a", "sha256": "x", "label": "b", "reasons": {"thin": 1.0}}]},
            {"images": [{"image_id": "a", "sha256": "0" * 64, "label": "b", "reasons": {}}]},
            {"images": [{"image_id": 1, "sha256": "0" * 64, "label": "b", "reasons": {"x": 1}}]},
        ],
    )
    def test_lists_that_say_something_else(
        self, listed: Path, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        raw = Drops.model_validate_json(listed.read_bytes()).model_dump(mode="json")
        (tmp_path / "d.json").write_text(json.dumps(raw | change))
        with pytest.raises(DataError, match="is not a drop list"):
            read_drops(tmp_path / "d.json")

    def test_a_list_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"d\.json is not a file"):
            read_drops(tmp_path / "d.json")
        with (tmp_path / "big").open("wb") as file:
            file.truncate((256 << 20) + 1)
        with pytest.raises(DataError, match=r"too large for a drop list"):
            read_drops(tmp_path / "big")
