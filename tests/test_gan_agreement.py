"""Agreement of readers: kappas against other programs, and the images that the rule drops."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from small_grid import phantom_dataset
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as peer_of_fleiss

from fgaug.data import open_dataset
from fgaug.data.drop_list import read_drops
from fgaug.errors import DataError, UserError
from fgaug.quality.snapshots.readers import Readers, judge, kappas, readers_of
from fgaug.quality.snapshots.training_filter import filter_training_images
from fgaug.stats import cohen_kappa, fleiss_kappa
from gan_worker.training.images import training_images

DOCS = Path(__file__).parent.parent / "docs"


class TestKappas:
    @given(st.integers(0, 10**6), st.integers(2, 5), st.integers(4, 60))
    def test_cohen_against_scikit_learn(self, seed: int, labels: int, images: int) -> None:
        rng = np.random.RandomState(seed)
        one = rng.randint(labels, size=images)
        other = np.where(rng.rand(images) < 0.6, one, rng.randint(labels, size=images))
        one[:2], other[:2] = (0, 1), (1, 1)  # chance never explains all
        assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)
        assert cohen_kappa(one, other) == pytest.approx(cohen_kappa(other, one), abs=1e-12)

    @given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 6), st.integers(3, 40))
    def test_fleiss_against_statsmodels(
        self, seed: int, labels: int, readers: int, images: int
    ) -> None:
        rng = np.random.RandomState(seed)
        votes = np.where(
            rng.rand(images, readers) < 0.5,
            rng.randint(labels, size=(images, 1)),
            rng.randint(labels, size=(images, readers)),
        )
        votes[0, :2] = (0, 1)
        expected = peer_of_fleiss(aggregate_raters(votes)[0], method="fleiss")
        assert fleiss_kappa(votes) == pytest.approx(expected, abs=1e-12)

    def test_worked_examples(self) -> None:
        """20 both yes, 15 both no, 5 and 10 apart: p 0.7, e 0.5. Fleiss: by hand below."""
        one = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
        other = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
        assert cohen_kappa(one, other) == pytest.approx(0.4)
        # p = (1 + 1/3) / 2 = 2/3; shares 4/6 and 2/6, e = 5/9; (2/3 - 5/9) / (4/9) = 1/4
        assert fleiss_kappa([[0, 0, 0], [0, 1, 1]]) == pytest.approx(0.25)

    def test_what_is_undefined_or_perfect(self) -> None:
        assert math.isnan(cohen_kappa([1, 1, 1], [1, 1, 1]))
        assert math.isnan(fleiss_kappa([[1, 1], [1, 1]]))
        assert math.isnan(cohen_kappa([], []))
        assert math.isnan(fleiss_kappa(np.zeros((0, 3), int)))
        assert cohen_kappa([0, 1, 2], [0, 1, 2]) == 1
        assert fleiss_kappa([[0, 0, 0], [1, 1, 1]]) == 1
        assert cohen_kappa([0, 1], [1, 0]) == -1

    def test_what_is_refused(self) -> None:
        with pytest.raises(UserError, match="got 3 and 2 votes"):
            cohen_kappa([0, 1, 0], [0, 1])
        with pytest.raises(UserError, match="each of two readers or more"):
            fleiss_kappa([[0], [1]])
        with pytest.raises(UserError, match="class indices"):
            fleiss_kappa([[0, -1], [1, 1]])


class TestJudge:
    VOTES = np.array(
        [
            [0, 0, 0, 0],  # all agree on the label
            [0, 0, 0, 1],  # a majority does
            [0, 0, 1, 1],  # a tie
            [1, 1, 1, 0],  # a majority for another label
            [1, 1, 1, 1],  # all for another
            [0, 0, 0, -1],  # a vote is missing
            [0, 1, -1, -1],  # a tie of two
            [-1, -1, -1, -1],
        ]
    )

    @pytest.mark.parametrize(
        ("agree", "no_vote", "kept"),
        [
            ("all", "skip", [0, 5]),
            ("all", "drop", [0]),
            ("majority", "skip", [0, 1, 5]),
            ("majority", "drop", [0, 1]),
        ],
    )
    def test_kept_images(self, agree: str, no_vote: str, kept: list[int]) -> None:
        readers = Readers(csv=Path(), columns=("a", "b", "c", "d"), agree=agree, no_vote=no_vote)
        found = judge(self.VOTES, np.zeros(8, int), readers)
        assert np.flatnonzero(~found.dropped).tolist() == kept
        assert found.counts == {
            "agreed": len(kept),
            "agreed_on_another_label": 1 if agree == "all" else 2,
            "ties": 2,
            "incomplete": 3,
        }
        assert found.share.tolist() == [1, 0.75, 0.5, 0.25, 0, 1, 0.5, 0]

    def test_kappas_count_the_images_that_they_use(self) -> None:
        found = kappas(self.VOTES, "abcd")
        assert [pair["readers"] for pair in found["cohen"]][:2] == [["a", "b"], ["a", "c"]]
        assert [pair["images"] for pair in found["cohen"]] == [7, 6, 5, 6, 5, 5]
        assert found["fleiss"]["images"] == 5
        one, two = self.VOTES[:7, 0], self.VOTES[:7, 1]
        assert found["cohen"][0]["kappa"] == pytest.approx(cohen_kappa_score(one, two), abs=1e-6)
        assert kappas(np.zeros((3, 2), int), "ab")["fleiss"] == {"images": 3, "kappa": None}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_dataset(tmp_path_factory.mktemp("agreement"))


def readings(dataset: Path, seed: int = 0) -> pd.DataFrame:
    """Return votes of three readers on all images, half of each reader's at random."""
    table = open_dataset(dataset).manifest
    rng = np.random.RandomState(seed)
    votes = {
        name: np.where(rng.rand(len(table)) < 0.5, rng.choice(["dbp", "trv"], len(table)), label)
        for name, label in dict.fromkeys(("ann", "bea", "cem"), table["label"]).items()
    }
    return pd.DataFrame({"file": table["image_id"], **votes})


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False)
    return path


def refusal(dataset: Path, tmp_path: Path, table: pd.DataFrame, **options: Any) -> str:
    readers = readers_of(
        write(tmp_path / "r.csv", table), "ann,bea,cem", image_col="file", **options
    )
    with pytest.raises(DataError) as caught:
        filter_training_images(dataset, tmp_path / "o.json", rules=["agreement"], readers=readers)
    assert not (tmp_path / "o.json").exists()
    return str(caught.value)


class TestCommand:
    def test_the_command_of_the_page(
        self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        page = (DOCS / "train-networks.md").read_text(encoding="utf-8").replace("\\\n", " ")
        (line,) = [line for line in page.splitlines() if "--rule agreement --csv" in line]
        table = readings(dataset)
        images = training_images(open_dataset(dataset), ["dbp", "trv"])
        table.loc[table["file"] == images.table["image_id"][0], "cem"] = ""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "breast").symlink_to(dataset)
        write(tmp_path / "readings.csv", table)
        code, out, err = fgaug(*shlex.split(line)[1:])
        assert code == 0, err
        assert out.strip() == str(tmp_path / "agreed.json")
        drops = read_drops(tmp_path / "agreed.json").drops

        votes = table.set_index("file").loc[images.table["image_id"], ["ann", "bea", "cem"]]
        own = votes.eq(images.table["label"].to_numpy(), axis=0).sum(axis=1)
        lost = own <= votes.ne("").sum(axis=1) / 2
        assert {each.image_id for each in drops.images} == set(lost.index[lost])
        assert 0 < len(drops.images) < len(images)
        assert {tuple(each.reasons) for each in drops.images} == {("agreement",)}

        whole = votes[votes.ne("").all(axis=1)]
        fleiss = peer_of_fleiss(aggregate_raters(whole.to_numpy())[0])
        assert f"Fleiss' kappa: {fleiss:.3f} (3 readers, {len(whole)} images)" in err
        cohen = cohen_kappa_score(votes["ann"], votes["bea"])
        assert f"Cohen's kappa of ann and bea: {cohen:.3f} ({len(votes)} images)" in err
        assert "Readers (majority must agree)" in err

        after = training_images(
            open_dataset(dataset), ["dbp", "trv"], drop=read_drops(tmp_path / "agreed.json").images
        )
        assert len(after) == len(images) - len(drops.images)

    def test_all_is_stricter_than_a_majority(self, dataset: Path, tmp_path: Path) -> None:
        csv = write(tmp_path / "r.csv", readings(dataset))
        found = {}
        for agree in ("all", "majority"):
            readers = readers_of(csv, "ann,bea,cem", image_col="file", agree=agree)
            drops = filter_training_images(
                dataset, tmp_path / f"{agree}.json", rules=["agreement"], readers=readers
            )
            found[agree] = drops.images
        assert found["majority"] < found["all"]

    def test_rows_of_other_images_are_ignored(self, dataset: Path, tmp_path: Path) -> None:
        table = readings(dataset)
        other = pd.DataFrame({"file": ["elsewhere"], "ann": "femur", "bea": "", "cem": "dbp"})
        readers = readers_of(
            write(tmp_path / "r.csv", pd.concat([table, other])), "ann,bea", image_col="file"
        )
        drops = filter_training_images(
            dataset, tmp_path / "o.json", rules=["agreement"], readers=readers
        )
        assert drops.drops.rules["agreement"]["incomplete"] == 0


class TestRefusals:
    def test_words_that_are_no_labels(self, dataset: Path, tmp_path: Path) -> None:
        table = readings(dataset)
        table["bea"] = table["bea"].str.upper()
        text = refusal(dataset, tmp_path, table)
        assert 'column "bea" has the vote "DBP"' in text
        assert 'not a label of the dataset, did you mean "dbp"?' in text

    def test_empty_votes(self, dataset: Path, tmp_path: Path) -> None:
        table = readings(dataset)
        images = training_images(open_dataset(dataset), ["dbp", "trv"])
        row = table.index[table["file"] == images.table["image_id"][0]][0]
        table.loc[row, "cem"] = None
        text = refusal(dataset, tmp_path, table)
        assert f"1 empty vote: row {row + 2} (cem). Say what to do: --no-vote skip" in text

    def test_images_without_a_row_or_with_two(self, dataset: Path, tmp_path: Path) -> None:
        table = readings(dataset)
        images = training_images(open_dataset(dataset), ["dbp", "trv"]).table["image_id"]
        text = refusal(dataset, tmp_path, table[table["file"] != images[0]])
        assert f"1 training image without a row: {images[0]}" in text
        text = refusal(dataset, tmp_path, pd.concat([table, table[table["file"] == images[0]]]))
        assert f"{images[0]} has votes in row" in text

    def test_options(self, dataset: Path, tmp_path: Path, fgaug: Any) -> None:
        with pytest.raises(DataError, match="two different columns or more, got ann"):
            readers_of(tmp_path, "ann")
        with pytest.raises(DataError) as caught:
            readers_of(tmp_path, "ann,bea", agree="most", no_vote="ignore")
        assert '--agree "most" is unknown' in str(caught.value)
        assert '--no-vote "ignore" is unknown' in str(caught.value)
        with pytest.raises(DataError, match="needs both --csv"):
            readers_of(tmp_path, None)
        with pytest.raises(DataError, match="belong to --rule agreement"):
            readers_of(None, None, no_vote="skip")
        given = ("gan", "filter", "--dataset", dataset, "--out", tmp_path / "o.json")
        code, _, err = fgaug(*given, "--rule", "agreement")
        assert code == 2
        assert "--rule agreement needs the votes of readers" in err
        code, _, err = fgaug(*given, "--csv", tmp_path / "r.csv", "--reader-cols", "ann,bea")
        assert code == 2
        assert "belong to --rule agreement" in err
        table = write(tmp_path / "r.csv", readings(dataset))
        few = ("--csv", table, "--image-col", "file", "--reader-cols", "ann,dan")
        code, _, err = fgaug(*given, "--rule", "agreement", *few)
        assert code == 2
        assert 'column "dan" is missing' in err
