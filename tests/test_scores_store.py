"""Scores in a bank: written once, read in the order asked, refused where they do not fit."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bank import small_bank

from fgaug.bank import (
    Bank,
    Scorer,
    lock,
    open_bank,
    open_store,
    read_scores,
    unscored,
    write_scores,
)
from fgaug.bank.score_columns import COLUMNS, columns_of
from fgaug.bank.scores import scorers_of
from fgaug.core import lease
from fgaug.core.paths import BankNames
from fgaug.errors import BankError

AGREES = Scorer("classifier", "ab" * 32, ("confidence", "agrees"), "a made-up classifier")
NEAREST = Scorer("features", "cd" * 32, columns_of("features"))


def scored(z_seeds: list[int]) -> pd.DataFrame:
    seeds = np.array(z_seeds, np.int64)
    return pd.DataFrame(
        {"z_seed": seeds, "confidence": seeds / 1000, "agrees": [z % 2 == 0 for z in z_seeds]}
    )


@pytest.fixture
def bank(odd_root: Path) -> Bank:
    return small_bank(odd_root, z_seeds=range(1, 31))


class TestWrittenAndRead:
    def test_in_the_order_asked(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9, 2]))
        write_scores(bank.store, AGREES, "trv", 0.5, scored([1, 3]))
        found = read_scores(bank.store, AGREES, "trv", 0.5, [3, 4, 1, 2])
        pd.testing.assert_frame_equal(found, scored([3, 4, 1, 2]))
        assert found.dtypes.tolist() == [np.int64, np.float64, bool]

    def test_what_is_not_scored(self, bank: Bank) -> None:
        assert unscored(bank.store, AGREES, "trv", 0.5, [5, 4]) == [5, 4]
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        assert unscored(bank.store, AGREES, "trv", 0.5, [5, 4, 9, 1]) == [5, 1]
        assert unscored(bank.store, AGREES, "trv", 1.0, [4]) == [4]  # of another psi
        assert unscored(bank.store, AGREES, "dbp", 0.5, [4]) == [4]  # of another label
        other = Scorer("classifier", "ee" * 32, AGREES.columns)
        assert unscored(bank.store, other, "trv", 0.5, [4]) == [4]  # of another scorer

    def test_lacking_scores_name_their_number_and_the_command(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4]))
        told = r"of 2 of 3 fakes of label trv, psi 0\.5 \(the first is z_seed 7\).*bank score"
        with pytest.raises(BankError, match=told):
            read_scores(bank.store, AGREES, "trv", 0.5, [4, 7, 8])

    def test_every_kind_and_infinite_numbers(self, bank: Bank) -> None:
        row = {
            "z_seed": 3,
            "realism": np.inf,
            "density": 0.0,
            "nearest_distance": 0.0,
            "nearest": "Ü/7.png",
            "copy": True,
        }
        write_scores(bank.store, NEAREST, "dbp", 1, pd.DataFrame([row]))
        assert read_scores(bank.store, NEAREST, "dbp", 1.0, [3]).iloc[0].to_dict() == row

    def test_pandas_alone_reads_a_shard(self, bank: Bank, tmp_path: Path) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        (name,) = bank.store.sizes(BankNames.scores)
        assert name == "scores/classifier-abababababab/trv/psi_0.5/4-9.parquet"
        frame = pd.read_parquet(bank.store.place(name))
        assert frame.columns.tolist() == ["label", "psi", "z_seed", "confidence", "agrees"]
        assert frame["psi"].tolist() == [0.5, 0.5]

    def test_no_row_is_no_shard(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([]))
        assert not bank.store.sizes(BankNames.scores)

    @settings(max_examples=30)
    @given(st.lists(st.sets(st.integers(1, 40), min_size=1), min_size=1, max_size=5))
    def test_any_order_of_demands(self, demands: list[set[int]]) -> None:
        """Each demand writes what lacks; in the end all that was ever asked for is there."""
        with pytest.MonkeyPatch.context() as patch:
            store, files = open_store("unused"), dict[str, bytes]()
            patch.setattr(store, "write", lambda name, data: files.update({name: data}))
            patch.setattr(store, "sizes", lambda below: _below(files, below))
            patch.setattr(store, "open", lambda name: _buffer(files[name]))
            for asked in demands:
                lacking = unscored(store, AGREES, "trv", 0.5, sorted(asked))
                write_scores(store, AGREES, "trv", 0.5, scored(lacking), held=lambda: None)
                assert not unscored(store, AGREES, "trv", 0.5, sorted(asked))
            wanted = sorted(set.union(*demands))
            found = read_scores(store, AGREES, "trv", 0.5, wanted)
            pd.testing.assert_frame_equal(found, scored(wanted))


def _below(files: dict[str, bytes], below: str) -> dict[str, int]:
    return {name: len(files[name]) for name in sorted(files) if name.startswith(f"{below}/")}


def _buffer(data: bytes) -> pa.NativeFile:
    return pa.BufferReader(data)


class TestRefused:
    @pytest.mark.parametrize(
        ("frame", "told"),
        [
            (scored([1]).drop(columns="agrees"), "have the columns z_seed, confidence, margin"),
            (scored([1]).assign(realism=1.0), "have the columns"),
            (scored([1, 2, 1]), "z_seed 1 occurs more than once"),
            (scored([1]).assign(confidence=np.nan), "`confidence` must be of type number"),
            (scored([1]).assign(confidence=True), "`confidence` must be of type number"),
            (scored([1]).assign(agrees=1), "`agrees` must be of type boolean"),
        ],
    )
    def test_a_frame_that_does_not_fit(self, bank: Bank, frame: pd.DataFrame, told: str) -> None:
        with pytest.raises(BankError, match=told):
            write_scores(bank.store, AGREES, "trv", 0.5, frame)
        assert not bank.store.sizes(BankNames.scores)

    def test_columns_of_another_scorer(self, bank: Bank) -> None:
        mixed = Scorer("classifier", "ab" * 32, ("realism",))
        with pytest.raises(BankError, match="have the columns"):
            write_scores(
                bank.store, mixed, "trv", 0.5, pd.DataFrame({"z_seed": [1], "realism": [1.0]})
            )

    def test_a_fake_scored_twice(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        with pytest.raises(BankError, match="z_seed 9 already"):
            write_scores(bank.store, AGREES, "trv", 0.5, scored([8, 9]))
        assert unscored(bank.store, AGREES, "trv", 0.5, [8]) == [8]

    def test_a_damaged_shard(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        (name,) = bank.store.sizes(BankNames.scores)
        path = Path(bank.store.place(name))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(BankError, match="is not a valid Parquet file"):
            read_scores(bank.store, AGREES, "trv", 0.5, [4])

    def test_two_scorers_whose_digests_begin_alike(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        alike = Scorer("classifier", "ab" * 6 + "cd" * 26, AGREES.columns)
        with pytest.raises(BankError, match="belongs to another scorer"):
            read_scores(bank.store, alike, "trv", 0.5, [4])


class TestOneWriter:
    def test_waits_for_who_holds_the_bank(
        self, bank: Bank, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "POLL_S", 0.02)
        with lock.held(bank.store) as held:
            other = threading.Thread(
                target=write_scores, args=[bank.store, AGREES, "trv", 0.5, scored([1])]
            )
            other.start()
            write_scores(bank.store, AGREES, "trv", 0.5, scored([2]), held)
            assert unscored(bank.store, AGREES, "trv", 0.5, [1, 2]) == [1]
        other.join(20)
        assert unscored(bank.store, AGREES, "trv", 0.5, [1, 2]) == []

    def test_who_lost_the_bank_writes_nothing(self, bank: Bank) -> None:
        def lost() -> None:
            raise BankError("taken over")

        with pytest.raises(BankError, match="taken over"):
            write_scores(bank.store, AGREES, "trv", 0.5, scored([2]), lost)
        assert not bank.store.sizes(BankNames.scores)


class TestForPeople:
    def test_scores_beside_the_index(self, bank: Bank) -> None:
        write_scores(bank.store, AGREES, "trv", 0.5, scored([4, 9]))
        again = open_bank(bank.store.uri)
        index = again.index(scores=["classifier"])
        assert len(index) == len(again.index()) == 120
        assert index["agrees"].notna().sum() == 2
        chosen = index[index["agrees"].fillna(False)]
        assert chosen[["label", "psi", "z_seed"]].values.tolist() == [["trv", 0.5, 4]]
        assert "agrees" not in again.index()

    def test_by_name_and_by_folder(self, bank: Bank) -> None:
        other = Scorer("classifier", "ee" * 32, AGREES.columns)
        for scorer in (AGREES, other):
            write_scores(bank.store, scorer, "trv", 0.5, scored([4, 9]))
        assert scorers_of(bank.store) == [AGREES, other]
        assert scorers_of(bank.store)[0].words == "a made-up classifier"
        assert len(bank.scores(other.folder)) == 2
        with pytest.raises(BankError, match="has 2 sets of scores `classifier`"):
            bank.scores("classifier")
        with pytest.raises(BankError, match="has 0 sets of scores `features`"):
            bank.index(scores=["features"])

    def test_every_column_has_a_scorer_and_a_kind(self) -> None:
        assert {scorer for scorer, _ in COLUMNS.values()} == {
            "features",
            "classifier",
            "discriminator",
        }
        assert {kind for _, kind in COLUMNS.values()} == {"number", "boolean", "text"}
