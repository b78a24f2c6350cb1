"""The bank on disk: what is written is read, and what is torn, missing or foreign is said so."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgaug
from fgaug.bank import (
    Bank,
    BankSpec,
    BankWriter,
    Demand,
    Source,
    open_bank,
    open_store,
    write_shard,
)
from fgaug.core import files
from fgaug.errors import BankError

SIZE = 8


def source(sha256: str = "1" * 64, **changes: Any) -> Source:
    return Source(**{"kind": "stylegan2", "sha256": sha256, "name": "dbp.pkl", **changes})


SPEC = BankSpec(
    size=SIZE,
    channels=1,
    noise="seeded",
    sources={"dbp": source(), "trv": source("2" * 64, name="trv.pkl")},
)


def images(z_seeds: Any, psi: float = 0.7) -> np.ndarray:
    """Return an image a z_seed that no other z_seed or psi has."""
    made = [
        np.random.RandomState(int(z_seed) + int(psi * 1000)).bytes(SIZE * SIZE)
        for z_seed in z_seeds
    ]
    return np.frombuffer(b"".join(made), np.uint8).reshape(-1, SIZE, SIZE, 1)


def add(writer: BankWriter, label: str, psi: float, z_seeds: Any) -> Path:
    z_seeds = np.asarray(z_seeds, np.int64)
    writer.write(label, psi, z_seeds, images(z_seeds, psi))
    return Path(writer.store.place(list(writer.shards)[-1]))


def filled(root: Path) -> Bank:
    writer = BankWriter(open_store(root), SPEC)
    add(writer, "dbp", 0.7, [1, 2, 3, 5, 8])
    add(writer, "dbp", 0.7, [9, 11, 20])
    add(writer, "dbp", 1.0, [1, 2])
    add(writer, "trv", 0.7, [4, 5])
    return writer.commit()


@pytest.fixture
def bank(odd_root: Path) -> Bank:
    return filled(odd_root / "bank")


def state(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*.parquet"))
        if path.name != "index.parquet"
    }


class TestReading:
    def test_in_the_order_asked(self, bank: Bank) -> None:
        asked = [20, 1, 8, 9, 1]
        read = bank.read("dbp", 0.7, asked)
        assert (read == images(asked)).all()
        assert read.dtype == np.uint8
        assert (bank.read("dbp", 1, [2]) == images([2], 1.0)).all()
        assert (bank.read(label="trv", psi=0.7, z_seeds=np.array([5, 4])) == images([5, 4])).all()

    def test_nothing_asked(self, bank: Bank) -> None:
        assert bank.read("dbp", 0.7, []).shape == (0, SIZE, SIZE, 1)
        assert bank.read("no such label", 0.7, []).shape == (0, SIZE, SIZE, 1)

    @given(st.lists(st.sampled_from([1, 2, 3, 5, 8, 9, 11, 20])))
    def test_any_order(self, tmp_path_factory: pytest.TempPathFactory, asked: list[int]) -> None:
        root = tmp_path_factory.getbasetemp() / "any-order"
        bank = open_bank(root) if root.is_dir() else filled(root)
        assert (bank.read("dbp", 0.7, asked) == images(asked)).all()

    def test_paths_and_uris(self, bank: Bank) -> None:
        root = bank.store.folder
        for uri in (root, str(root), root.as_uri()):
            assert (fgaug.open_bank(uri).read("trv", 0.7, [4]) == images([4])).all()
        with pytest.raises(BankError, match="not a valid address"):
            open_bank("nowhere://bucket/bank")

    def test_missing_images(self, bank: Bank) -> None:
        with pytest.raises(BankError) as caught:
            bank.read("dbp", 0.7, [1, 4, 6])
        assert str(caught.value) == (
            f"{bank.store.folder} lacks 2 of 3 requested fakes of label dbp, psi 0.7 (the first "
            "is z_seed 4). Fill it with `fgaug bank fill`."
        )
        for label, psi in (("dbp", 0.71), ("bdp", 0.7)):
            with pytest.raises(BankError, match="lacks 1 of 1"):
                bank.read(label, psi, [1])

    def test_index(self, bank: Bank) -> None:
        index = bank.index()
        assert list(index.columns) == ["label", "psi", "z_seed", "shard", "row"]
        assert index["psi"].dtype == np.float64
        assert index["z_seed"].dtype == index["row"].dtype == np.int64
        assert len(index) == 12
        assert not index.duplicated(["label", "psi", "z_seed"]).any()
        for _, line in index.iterrows():
            held = bank.pixels(line["shard"])[line["row"]]
            assert (held == images([line["z_seed"]], line["psi"])[0]).all()


class TestFormat:
    def test_pandas_reads_a_shard_alone(self, bank: Bank) -> None:
        shard = next(s for s in bank.shards if s.label == "dbp" and s.first == 1 and s.psi == 0.7)
        frame = pd.read_parquet(bank.store.folder / shard.path)
        assert list(frame.columns) == ["label", "psi", "z_seed", "pixels"]
        assert frame["psi"].dtype == np.float64
        assert (frame["psi"] == 0.7).all()
        assert frame["label"].unique().tolist() == ["dbp"]
        assert frame["z_seed"].tolist() == [1, 2, 3, 5, 8]
        first = np.frombuffer(frame["pixels"][0], np.uint8).reshape(SIZE, SIZE, 1)
        assert (first == images([1])[0]).all()
        kept = pd.read_parquet(bank.store.folder / shard.path, filters=[("psi", "==", 0.7)])
        assert len(kept) == 5

    def test_pixels_take_a_byte(self, tmp_path: Path) -> None:
        z_seeds = np.arange(1, 2001)
        shard = write_shard(open_store(tmp_path), "dbp", 0.7, z_seeds, images(z_seeds))
        path = tmp_path / shard.path
        assert shard.bytes == path.stat().st_size
        assert path.stat().st_size < 1.5 * 2000 * SIZE * SIZE
        column = pq.read_schema(path).field("pixels")
        assert str(column.type) == f"fixed_size_binary[{SIZE * SIZE}]"
        assert json.loads(pq.read_schema(path).metadata[b"fgaug.shape"]) == [SIZE, SIZE, 1]

    def test_manifest(self, bank: Bank) -> None:
        manifest = json.loads((bank.store.folder / "manifest.json").read_text())
        assert [shard["path"] for shard in manifest["shards"]] == [
            "shards/dbp/psi_0.7/1-8.parquet",
            "shards/dbp/psi_0.7/9-20.parquet",
            "shards/dbp/psi_1/1-2.parquet",
            "shards/trv/psi_0.7/4-5.parquet",
        ]
        for shard in manifest["shards"]:
            path = bank.store.folder / shard["path"]
            assert shard["bytes"] == path.stat().st_size
            assert shard["sha256"] == files.sha256_of(path)

    def test_the_description_is_read_back(self, bank: Bank) -> None:
        assert open_bank(bank.store.folder).spec == SPEC

    def test_near_psis_have_folders_of_their_own(self, tmp_path: Path) -> None:
        near = (0.1234561, 0.1234562)
        writer = BankWriter(open_store(tmp_path), SPEC)
        for psi in near:
            add(writer, "dbp", psi, [1, 2])
        bank = writer.commit()
        assert [shard.psi for shard in bank.shards] == list(near)
        assert all(len(bank.read("dbp", psi, [2, 1])) == 2 for psi in near)

    @pytest.mark.parametrize(
        ("size", "channels", "rows"), [(8, 1, 8192), (128, 1, 2048), (1024, 3, 64)]
    )
    def test_shards_have_about_32_mb(self, size: int, channels: int, rows: int) -> None:
        assert dataclasses.replace(SPEC, size=size, channels=channels).shard_rows == rows


class TestRefusals:
    def test_no_bank(self, tmp_path: Path) -> None:
        with pytest.raises(BankError, match=r"is not a bank \(no bank.json\)"):
            open_bank(tmp_path / "none")

    def test_unfinished(self, odd_root: Path) -> None:
        writer = BankWriter(open_store(odd_root), SPEC)
        add(writer, "dbp", 0.7, [1])
        with pytest.raises(BankError, match=r"unfinished bank \(no manifest\.json\)"):
            open_bank(odd_root)

    def test_a_truncated_shard(self, bank: Bank) -> None:
        path = bank.store.folder / bank.shards[0].path
        path.write_bytes(path.read_bytes()[:-100])
        for opening in (open_bank, lambda root: BankWriter(open_store(root), SPEC)):
            with pytest.raises(
                BankError, match=r"damaged: it has \d+ bytes of \d+\. `fgaug bank verify"
            ):
                opening(bank.store.folder)

    def test_a_shard_of_other_bytes(
        self, bank: Bank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The decoded copy of this machine stays right; where there is none, damage is found."""
        path = bank.store.folder / bank.shards[0].path
        assert (bank.read("dbp", 0.7, [1]) == images([1])).all()
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data)
        assert (open_bank(bank.store.folder).read("dbp", 0.7, [1]) == images([1])).all()
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "other machine"))
        with pytest.raises(BankError, match="damaged: its SHA-256"):
            open_bank(bank.store.folder).read("dbp", 0.7, [1])

    def test_a_removed_shard_counts_as_not_made(self, bank: Bank) -> None:
        (bank.store.folder / bank.shards[0].path).unlink()
        again = open_bank(bank.store.folder)
        with pytest.raises(BankError, match="lacks 5 of 5"):
            again.read("dbp", 0.7, [1, 2, 3, 5, 8])
        writer = BankWriter(open_store(bank.store.folder), SPEC)
        add(writer, "dbp", 0.7, [1, 2, 3, 5, 8])
        assert (writer.commit().read("dbp", 0.7, [8, 1]) == images([8, 1])).all()

    @pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd", "shards/../../x"])
    def test_a_manifest_that_points_outside(self, bank: Bank, path: str) -> None:
        manifest = json.loads((bank.store.folder / "manifest.json").read_text())
        manifest["shards"][0]["path"] = path
        (bank.store.folder / "manifest.json").write_text(json.dumps(manifest))
        for opening in (open_bank, lambda root: BankWriter(open_store(root), SPEC)):
            with pytest.raises(BankError, match="names a shard outside the bank"):
                opening(bank.store.folder)

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("manifest.json", "{"),
            ("manifest.json", "[]"),
            ("manifest.json", '{"shards": [{"path": "x"}]}'),
            ("manifest.json", "\udcff"),
            ("bank.json", "{"),
            ("bank.json", "[]"),
            ("bank.json", '{"schema": 1}'),
            ("bank.json", '{"schema": 99}'),
        ],
    )
    def test_damaged_descriptions(self, bank: Bank, file: str, text: str) -> None:
        (bank.store.folder / file).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(BankError, match=file):
            open_bank(bank.store.folder)

    def test_other_snapshots(self, bank: Bank) -> None:
        other = {"dbp": source("3" * 64, name="new.pkl"), "trv": SPEC.sources["trv"]}
        with pytest.raises(BankError) as caught:
            BankWriter(open_store(bank.store.folder), dataclasses.replace(SPEC, sources=other))
        assert str(caught.value) == (
            f"{bank.store.folder} contains other fakes: its snapshot of `dbp` is dbp.pkl "
            "(111111111111), not new.pkl (333333333333). "
            "Give these fakes a separate bank."
        )

    def test_every_difference_is_named(self, bank: Bank) -> None:
        other = dataclasses.replace(
            SPEC,
            size=16,
            channels=3,
            noise="const",
            sources={"new": source(), "dbp": source(class_index=1)},  # a bank gains labels
        )
        assert bank.spec.differences(other) == [
            "its size is 8, not 16",
            "its channels is 1, not 3",
            "its noise is seeded, not const",
            "its `dbp` is class None, not class 1",
        ]
        assert bank.spec.differences(SPEC) == []

    @pytest.mark.parametrize("manifest", [True, False])
    def test_shards_of_unknown_origin(self, bank: Bank, manifest: bool) -> None:
        (bank.store.folder / "bank.json").unlink()
        if not manifest:
            (bank.store.folder / "manifest.json").unlink()
        other = {"dbp": source("3" * 64), "trv": source("4" * 64)}
        with pytest.raises(
            BankError, match=r"contains shards but no bank\.json, which records the"
        ):
            BankWriter(open_store(bank.store.folder), dataclasses.replace(SPEC, sources=other))
        assert not (bank.store.folder / "bank.json").exists()

    def test_places_that_are_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(BankError, match="is a file, and a bank is a folder"):
            BankWriter(open_store(tmp_path / "file"), SPEC)
        (tmp_path / "dataset.json").write_text("{}")
        with pytest.raises(BankError, match="is a dataset"):
            BankWriter(open_store(tmp_path), SPEC)

    def test_a_bank_without_images_binds_nobody(self, tmp_path: Path) -> None:
        BankWriter(open_store(tmp_path), SPEC)
        other = dataclasses.replace(SPEC, noise="const")
        assert BankWriter(open_store(tmp_path), other).commit().spec == other

    @pytest.mark.parametrize("label", ["", ".", "..", "a/b", "a\\b"])
    def test_labels_that_are_no_folder(self, tmp_path: Path, label: str) -> None:
        with pytest.raises(BankError, match="cannot be"):
            BankWriter(open_store(tmp_path), dataclasses.replace(SPEC, sources={label: source()}))
        assert not list(tmp_path.iterdir())


class TestInterruptions:
    def test_whole_orphans_are_adopted_and_torn_ones_removed(self, bank: Bank) -> None:
        before = state(bank.store.folder)
        seeds = np.array([30, 31, 32])
        root = bank.store.folder
        whole = root / write_shard(bank.store, "trv", 0.7, seeds, images(seeds)).path
        torn = whole.with_name("40-50.parquet")
        torn.write_bytes(whole.read_bytes()[:-9])
        other = whole.with_name("60-61.parquet")
        small = np.zeros((2, 4, 4, 1), np.uint8)
        shutil.move(root / write_shard(bank.store, "x", 1, np.array([60, 61]), small).path, other)
        foreign = whole.with_name("70-71.parquet")
        pd.DataFrame({"a": [1]}).to_parquet(foreign)
        assert len(open_bank(bank.store.folder).index()) == 12
        again = BankWriter(open_store(bank.store.folder), SPEC).commit()
        assert whole.is_file()
        assert not any(path.exists() for path in (torn, other, foreign))
        assert (again.read("trv", 0.7, [32, 4]) == images([32, 4])).all()
        after = state(bank.store.folder)
        assert {name: after[name] for name in before} == before

    def test_orphans_of_an_unfinished_bank(self, tmp_path: Path) -> None:
        add(BankWriter(open_store(tmp_path), SPEC), "dbp", 0.7, [1, 2])
        bank = BankWriter(open_store(tmp_path), SPEC).commit()
        assert (bank.read("dbp", 0.7, [2]) == images([2])).all()

    def test_two_fills_at_once_do_not_lock_the_bank_up(self, tmp_path: Path) -> None:
        one, two = BankWriter(open_store(tmp_path), SPEC), BankWriter(open_store(tmp_path), SPEC)
        add(one, "dbp", 0.7, [1, 2, 3])
        add(two, "dbp", 0.7, [2, 3, 4])
        one.commit()
        two.commit()
        bank = BankWriter(open_store(tmp_path), SPEC).commit()
        assert not bank.index().duplicated(["label", "psi", "z_seed"]).any()
        assert (bank.read("dbp", 0.7, [4, 2]) == images([4, 2])).all()

    def test_cut_off_between_index_and_manifest(self, bank: Bank) -> None:
        manifest = (bank.store.folder / "manifest.json").read_bytes()
        writer = BankWriter(open_store(bank.store.folder), SPEC)
        add(writer, "dbp", 0.7, [100, 101])
        writer.commit()
        (bank.store.folder / "manifest.json").write_bytes(manifest)
        old = open_bank(bank.store.folder)
        assert len(old.index()) == 12
        assert (old.read("dbp", 0.7, [20, 1]) == images([20, 1])).all()
        assert len(BankWriter(open_store(bank.store.folder), SPEC).commit().index()) == 14

    def test_an_index_ahead_of_its_manifest_names_no_other_shard(self, bank: Bank) -> None:
        """One shard was lost, another is not listed yet."""
        manifest = (bank.store.folder / "manifest.json").read_bytes()
        writer = BankWriter(open_store(bank.store.folder), SPEC)
        add(writer, "dbp", 0.7, [100, 101])
        writer.commit()
        (bank.store.folder / "manifest.json").write_bytes(manifest)
        (bank.store.folder / "shards/trv/psi_0.7/4-5.parquet").unlink()
        old = open_bank(bank.store.folder)
        assert set(old.index()["shard"]) == {shard.path for shard in old.shards}

    @pytest.mark.parametrize("damage", ["torn", "other shape", "other type", "no array"])
    def test_decoded_copies_are_made_again(
        self, bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
    ) -> None:
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "own cache"))
        shard = bank.shards[0]
        held = bank.pixels(shard.path)
        assert isinstance(held, np.memmap)
        path = Path(str(held.filename))
        if damage == "torn":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "no array":
            path.write_bytes(b"")
        else:
            kind = np.int16 if damage == "other type" else np.uint8
            np.save(path, np.zeros((5, SIZE, SIZE, 1 if kind is np.int16 else 3), kind))
        assert (open_bank(bank.store.folder).read("dbp", 0.7, [8]) == images([8])).all()

    @pytest.mark.parametrize("damage", ["missing", "torn", "foreign", "short"])
    def test_the_index_can_be_made_again(self, bank: Bank, damage: str) -> None:
        path, whole = (bank.store.folder / "index.parquet"), bank.index()
        if damage == "missing":
            path.unlink()
        elif damage == "torn":
            path.write_bytes(path.read_bytes()[:-20])
        elif damage == "foreign":
            pd.DataFrame({"a": [1]}).to_parquet(path)
        else:
            whole.iloc[:-1].to_parquet(path, index=False)
        found = open_bank(bank.store.folder).index()
        order = ["label", "psi", "z_seed"]
        pd.testing.assert_frame_equal(
            found.sort_values(order, ignore_index=True),
            whole.sort_values(order, ignore_index=True),
        )

    def test_an_extension_leaves_earlier_shards_untouched(self, bank: Bank) -> None:
        before = state(bank.store.folder)
        writer = BankWriter(open_store(bank.store.folder), SPEC)
        add(writer, "dbp", 0.7, [4, 6, 7])
        larger = writer.commit()
        after = state(bank.store.folder)
        assert {name: after[name] for name in before} == before
        assert len(after) == len(before) + 1
        assert (larger.read("dbp", 0.7, list(range(1, 10))) == images(range(1, 10))).all()

    def test_a_write_that_fails_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(handle: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("fgaug.core.paths.os.fsync", fails)
        with pytest.raises(KeyboardInterrupt):
            write_shard(open_store(tmp_path), "dbp", 0.7, np.array([1]), images([1]))
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_an_empty_bank(self, tmp_path: Path) -> None:
        bank = BankWriter(open_store(tmp_path), SPEC).commit()
        assert len(bank.index()) == 0
        assert Demand.of([("dbp", 1, np.array([1]))]).minus(bank.index()).count == 1


Z_SEEDS = st.lists(st.integers(1, 60), max_size=12)


class TestDemand:
    def test_union(self) -> None:
        parts = [("b", 1, [3, 1]), ("a", 0.5, [2]), ("b", 1.0, [1, 7]), ("c", 1, [])]
        found = Demand.of((label, psi, np.array(z, np.int64)) for label, psi, z in parts)
        assert {k: v.tolist() for k, v in found.wanted.items()} == {
            ("a", 0.5): [2],
            ("b", 1.0): [1, 3, 7],
        }
        assert list(found.wanted) == [("a", 0.5), ("b", 1.0)]
        assert found.count == 4

    def test_minus_what_is_held(self, bank: Bank) -> None:
        wanted = Demand.of(
            [
                ("dbp", 0.7, np.arange(1, 12)),
                ("dbp", 1, np.array([1, 2])),
                ("trv", 1.0, np.array([4, 5])),
            ]
        )
        left = wanted.minus(bank.index())
        assert {key: z_seeds.tolist() for key, z_seeds in left.wanted.items()} == {
            ("dbp", 0.7): [4, 6, 7, 10],
            ("trv", 1.0): [4, 5],
        }

    @given(wanted=Z_SEEDS, held=Z_SEEDS, rows=st.integers(1, 7))
    def test_pieces_are_what_is_missing(
        self, wanted: list[int], held: list[int], rows: int
    ) -> None:
        index = pd.DataFrame({"label": "a", "psi": 0.3, "z_seed": sorted(set(held))})
        left = Demand.of([("a", 0.3, np.array(wanted, np.int64))]).minus(index)
        pieces = list(left.pieces(rows))
        made = [int(z_seed) for _, _, z_seeds in pieces for z_seed in z_seeds]
        assert made == sorted(set(wanted) - set(held))
        assert all(len(z_seeds) <= rows for _, _, z_seeds in pieces)
        assert left.count == len(made)
