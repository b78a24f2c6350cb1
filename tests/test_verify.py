"""Verification: what is wrong with a bank is found, and mended from the bank alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fgaug.bank import Bank, BankSpec, BankWriter, Demand, Shard, open_bank, open_store
from fgaug.bank.verify import verify
from fgaug.bank.writer import write_shard
from fgaug.errors import BankError
from fgaug.study import banks
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe
from gan_worker.filling.rerender import differences
from gan_worker.generators.stub import StubGenerator

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "tiny.pkl"
SOURCES = {
    "dbp": LabelSource(kind="stylegan2", file=str(NETWORK)),
    "trv": LabelSource(kind="stub"),
}
SPEC = BankSpec(
    size=8,
    channels=1,
    noise="seeded",
    sources={label: describe(label, source) for label, source in SOURCES.items()},
)


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """Return a bank of four shards of a network and of a stub; its network file is not at hand."""
    monkeypatch.setattr(BankSpec, "shard_rows", 10)
    wanted = Demand.of((label, 0.7, np.arange(1, 19)) for label in SOURCES)
    return fill(tmp_path / "bank", SPEC, SOURCES, wanted)


def manifest_of(root: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((root / "manifest.json").read_text())
    return manifest


def state(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def flipped(root: Path) -> str:
    path = root / "shards/dbp/psi_0.7/1-10.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "shards/dbp/psi_0.7/1-10.parquet"


def truncated(root: Path) -> str:
    path = root / "shards/trv/psi_0.7/1-10.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return "shards/trv/psi_0.7/1-10.parquet"


def removed(root: Path) -> str:
    (root / "shards/dbp/psi_0.7/11-18.parquet").unlink()
    return "shards/dbp/psi_0.7/11-18.parquet"


def orphaned(root: Path) -> str:
    other = open_store(root)
    z_seeds = np.arange(30, 34)
    images = StubGenerator(8, 1).generate([int(z_seed) for z_seed in z_seeds], 0.7)
    write_shard(other, "trv", 0.7, z_seeds, images)
    return "shards/trv/psi_0.7/30-33.parquet"


def without_index(root: Path) -> str:
    (root / "index.parquet").unlink()
    return "index.parquet"


def with_a_wrong_index(root: Path) -> str:
    frame = pd.read_parquet(root / "index.parquet")
    frame.loc[3, "z_seed"] = 999
    frame.to_parquet(root / "index.parquet")
    return "index.parquet"


DAMAGES = [flipped, truncated, removed, orphaned, without_index, with_a_wrong_index]


class TestFiles:
    def test_a_clean_bank(self, bank: Bank) -> None:
        seen: list[tuple[int, int]] = []
        verified = verify(bank.store, lambda done, wanted: seen.append((done, wanted)))
        assert verified.bad == {}
        assert verified.images == 36
        assert seen[-1] == (36, 36)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_is_named(self, bank: Bank, damage: Callable[[Path], str]) -> None:
        assert bank.store.folder is not None
        name = damage(bank.store.folder)
        assert list(verify(bank.store).bad) == [name]

    def test_a_shard_of_another_label(self, bank: Bank) -> None:
        """Its bytes are those of the manifest, but not what the manifest says they are."""
        root = bank.store.folder
        assert root is not None
        manifest = manifest_of(root)
        for shard in manifest["shards"]:
            if shard["path"] == "shards/trv/psi_0.7/1-10.parquet":
                shard["label"] = "dbp"
        (root / "manifest.json").write_text(json.dumps(manifest))
        assert "another label or psi" in verify(bank.store).bad["shards/trv/psi_0.7/1-10.parquet"]

    def test_an_image_that_is_there_twice(self, bank: Bank) -> None:
        writer = BankWriter(bank.store, SPEC)
        z_seeds = np.array([18, 20])
        shard = write_shard(bank.store, "trv", 0.7, z_seeds, np.zeros((2, 8, 8, 1), np.uint8))
        writer.add(shard, z_seeds)
        with pytest.raises(AssertionError, match="an image twice"):
            writer.commit()
        root = bank.store.folder
        assert root is not None
        manifest = manifest_of(root)
        manifest["shards"].append(dataclasses.asdict(shard))
        (root / "manifest.json").write_text(json.dumps(manifest))
        assert "z_seed 18 of another shard" in verify(bank.store).bad[shard.path]

    def test_an_unfinished_bank(self, bank: Bank) -> None:
        assert bank.store.folder is not None
        (bank.store.folder / "manifest.json").unlink()
        with pytest.raises(BankError, match="unfinished"):
            verify(bank.store)


class TestRerendering:
    def compared(self, bank: Bank, spec: BankSpec, images: int = 5) -> dict[str, int]:
        rng = np.random.default_rng(0)
        found, skipped = differences(bank.store, spec, bank.shards, images, rng)
        assert not skipped
        assert all(each.images == min(images, 8) for each in found if "11-18" in each.shard)
        return {each.shard: each.largest for each in found}

    def test_the_same_images(self, bank: Bank) -> None:
        found = self.compared(bank, SPEC, images=20)
        assert set(found) == {shard.path for shard in bank.shards}
        assert max(found.values()) <= 1

    def test_another_noise_is_seen(self, bank: Bank) -> None:
        found = self.compared(bank, dataclasses.replace(SPEC, noise="none"))
        assert {name for name, largest in found.items() if largest > 2} == {
            "shards/dbp/psi_0.7/1-10.parquet",
            "shards/dbp/psi_0.7/11-18.parquet",
        }

    def test_roundings_of_bfloat16_are_allowed_and_another_noise_is_not(
        self, tmp_path: Path
    ) -> None:
        spec = dataclasses.replace(SPEC, precision="bfloat16")
        bank = fill(tmp_path, spec, SOURCES, Demand.of([("dbp", 0.7, np.arange(1, 33))]))
        for noise, allowed in (("seeded", True), ("none", False)):
            other = dataclasses.replace(spec, noise=noise)
            rng = np.random.default_rng(0)
            (found,), _ = differences(bank.store, other, bank.shards, 20, rng)
            assert found.tolerable is allowed
            assert found.limit == 16

    def test_a_shard_of_another_psi(self, tmp_path: Path) -> None:
        """The bytes are whole and well described, but the network makes other images."""
        with BankWriter.opened(tmp_path, SPEC) as writer:
            z_seeds = np.arange(1, 9)
            fill(tmp_path / "other", SPEC, SOURCES, Demand.of([("trv", 0.9, z_seeds)]))
            images = open_bank(tmp_path / "other").read("trv", 0.9, list(z_seeds))
            writer.write("trv", 0.7, z_seeds, images)
            writer.commit()
        verdict = banks.verify_bank(str(tmp_path), images=3, rng=0, console=quiet())
        assert (
            "regenerated images differ by up to" in verdict.bad["shards/trv/psi_0.7/1-8.parquet"]
        )

    def test_imported_images_are_left_out(self, tmp_path: Path) -> None:
        imported = dataclasses.replace(SPEC.sources["trv"], kind="imported")
        spec = dataclasses.replace(SPEC, sources={"trv": imported})
        with BankWriter.opened(tmp_path, spec) as writer:
            writer.write("trv", 0.7, np.array([1]), np.zeros((1, 8, 8, 1), np.uint8))
            bank = writer.commit()
        found, skipped = differences(bank.store, spec, bank.shards, 2, np.random.default_rng(0))
        assert found == []
        assert skipped == ["trv: imported images cannot be regenerated from the bank"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for the commands of this module."""
    from fgaug.core.cluster import started

    with started(cpus=2, gpus=0, dashboard=False):
        yield


def quiet() -> Any:
    from rich.console import Console

    return Console(quiet=True)


@pytest.mark.ray
class TestCommands:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_repair(
        self, bank: Bank, damage: Callable[[Path], str], fgaug: Any, cluster: Any
    ) -> None:
        root = bank.store.folder
        assert root is not None
        before = {**state(root), "index.parquet": b""}
        damage(root)
        code, out, _ = fgaug("bank", "verify", root)
        assert code == 1
        assert out.endswith("1 bad\n")
        code, out, _ = fgaug("bank", "verify", root, "--repair")
        assert code == 0
        assert out.endswith("clean\n")
        after = {**state(root), "index.parquet": b""}
        assert before.items() <= after.items()

    def test_extend_touches_nothing_that_is_there(
        self, bank: Bank, fgaug: Any, cluster: Any
    ) -> None:
        root = bank.store.folder
        assert root is not None
        held = {path: path.stat().st_mtime_ns for path in root.rglob("shards/**/*.parquet")}
        code, _, err = fgaug("bank", "extend", root, "--seeds", "1-25")
        assert code == 0, err
        assert held.items() <= {path: path.stat().st_mtime_ns for path in held}.items()
        index = open_bank(root).index()
        for label in SOURCES:
            assert sorted(index.loc[index["label"] == label, "z_seed"]) == list(range(1, 26))
        code, _, err = fgaug(
            "bank", "extend", root, "--seeds", "1-3", "--psi", "1", "--label", "dbp"
        )
        assert code == 0, err
        assert sorted(open_bank(root).index()["psi"].unique()) == [0.7, 1.0]
        code, _, err = fgaug("bank", "extend", root, "--seeds", "1", "--label", "x")
        assert code == 2
        assert "has no label `x`. Its labels: dbp, trv." in err


def test_lost_z_seeds_are_said(bank: Bank) -> None:
    """Without an index, a shard with gaps in its z_seeds cannot be known."""
    assert bank.store.folder is not None
    without_index(bank.store.folder)
    truncated(bank.store.folder)
    verified = verify(bank.store)
    shard = next(each for each in bank.shards if each.path.endswith("trv/psi_0.7/1-10.parquet"))
    assert verified.z_seeds_of(shard).tolist() == list(range(1, 11))
    gaps = Shard(**{**dataclasses.asdict(shard), "last": 40})
    with pytest.raises(BankError, match="does not list its z_seeds"):
        verified.z_seeds_of(gaps)


def test_index_is_plain_parquet(bank: Bank) -> None:
    assert bank.store.folder is not None
    table = pq.read_table(bank.store.folder / "index.parquet")
    assert table.column_names == ["label", "psi", "z_seed", "shard", "row"]
