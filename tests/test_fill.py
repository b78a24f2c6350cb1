"""Filling: the bank holds what was wanted, made once, whatever was interrupted before."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bank import STUB_SPEC, STUBS, spec_of

from fgaug.bank import BankSpec, Demand, Shard, open_bank
from fgaug.bank.resize import fit_to_bank
from fgaug.core import files
from fgaug.data import draw_image
from fgaug.errors import BankError, DiskFullError, SnapshotError
from gan_worker.filling import label_generators
from gan_worker.filling.fill import Piece, ShardMaker, fill
from gan_worker.filling.label_generators import LabelGenerator, LabelSource, describe, open_sources
from gan_worker.generators.phantom import OFFSET, PhantomGenerator
from gan_worker.generators.stub import StubGenerator
from gan_worker.generators.stylegan2 import load_generator

NETWORKS = Path(__file__).parent / "data" / "stylegan2"
PHANTOMS = {label: LabelSource(kind="phantom") for label in ("dbp", "trv")}


def demand(**z_seeds: Sequence[int]) -> Demand:
    """Return z_seeds by label at psi 0.7."""
    return Demand.of((label, 0.7, np.array(wanted)) for label, wanted in z_seeds.items())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count how often each z_seed is generated."""
    counted: Counter[int] = Counter()
    generate = LabelGenerator.generate

    def counting(self: LabelGenerator, z_seeds: np.ndarray, psi: float) -> np.ndarray:
        counted.update(int(z_seed) for z_seed in z_seeds)
        return generate(self, z_seeds, psi)

    monkeypatch.setattr(LabelGenerator, "generate", counting)
    return counted


class TestFilling:
    def test_what_was_wanted_is_there(self, odd_root: Path) -> None:
        bank = fill(odd_root, STUB_SPEC, STUBS, demand(dbp=[5, 1, 9], trv=[2]))
        expected = StubGenerator(8, 1).generate([9, 1, 5], 0.7)
        assert (bank.read("dbp", 0.7, [9, 1, 5]) == expected).all()
        assert len(bank.index()) == 4
        assert (
            open_bank(odd_root).read("trv", 0.7, [2]) == StubGenerator(8, 1).generate([2], 0.7)
        ).all()

    def test_a_second_fill_makes_nothing(self, tmp_path: Path, made: Counter[int]) -> None:
        wanted = demand(dbp=range(1, 100), trv=[3])
        fill(tmp_path, STUB_SPEC, STUBS, wanted)
        assert set(made.values()) == {1, 2}  # z_seed 3 for both labels
        made.clear()
        again = fill(tmp_path, STUB_SPEC, STUBS, wanted)
        assert not made
        assert len(again.index()) == 100

    def test_only_what_lacks_is_made(self, tmp_path: Path, made: Counter[int]) -> None:
        fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[2, 4]))
        made.clear()
        bank = fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1, 2, 3, 4, 5]))
        assert sorted(made) == [1, 3, 5]
        assert len(bank.shards) == 2

    def test_nothing_wanted(self, tmp_path: Path) -> None:
        assert len(fill(tmp_path, STUB_SPEC, STUBS, Demand.of([])).index()) == 0

    def test_the_phantom(self, tmp_path: Path) -> None:
        spec = spec_of(PHANTOMS, size=16)
        bank = fill(tmp_path, spec, PHANTOMS, demand(dbp=[1, 2], trv=[1]))
        expected = draw_image("trv", 1 + OFFSET, size=16, spread=0.7)
        assert (bank.read("trv", 0.7, [1])[0] == expected).all()

    def test_a_network(self, tmp_path: Path) -> None:
        file = str(NETWORKS / "tiny.pkl")
        sources = {"dbp": LabelSource(kind="stylegan2", file=file)}
        bank = fill(tmp_path, spec_of(sources, noise="seeded"), sources, demand(dbp=[3, 1]))
        expected = load_generator(file, "seeded").generate([3, 1], 0.7)
        assert (bank.read("dbp", 0.7, [3, 1]) == expected).all()
        assert bank.spec.sources["dbp"].sha256 == files.sha256_of(Path(file))

    def test_progress(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 4)
        seen: list[tuple[int, int]] = []
        fill(
            tmp_path,
            STUB_SPEC,
            STUBS,
            demand(dbp=range(1, 11)),
            progress=lambda done, wanted: seen.append((done, wanted)),
        )
        assert seen[0] == (0, 10)
        assert seen[-1] == (10, 10)
        assert seen == sorted(seen)
        assert len(seen) >= 4

    def test_a_label_without_snapshot(self, tmp_path: Path) -> None:
        with pytest.raises(SnapshotError, match="no snapshot for label `other`"):
            fill(tmp_path, STUB_SPEC, STUBS, demand(other=[1]))
        assert not list(tmp_path.iterdir())

    def test_other_generators(self, tmp_path: Path) -> None:
        fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1]))
        with pytest.raises(BankError, match=r"its snapshot of `dbp` is stub .*, not phantom"):
            fill(tmp_path, spec_of(PHANTOMS), PHANTOMS, demand(dbp=[2]))


class TestByContent:
    """An image depends on its z_seed, psi and network, never on what is made beside it."""

    @pytest.mark.parametrize("kind", ["stub", "phantom", "stylegan2"])
    def test_whatever_the_shard_and_the_batch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        file = str(NETWORKS / "tiny.pkl") if kind == "stylegan2" else None
        sources = {"dbp": LabelSource(kind=kind, file=file)}
        spec = spec_of(sources, noise="seeded")
        asked = list(range(1, 30))
        whole = fill(tmp_path / "one", spec, sources, demand(dbp=asked)).read("dbp", 0.7, asked)
        monkeypatch.setattr(BankSpec, "shard_rows", 7)
        monkeypatch.setattr(label_generators, "_step", lambda kind, device: 3)
        fill(tmp_path / "two", spec, sources, demand(dbp=asked[5:9]))
        other = fill(tmp_path / "two", spec, sources, demand(dbp=asked))
        assert len(other.shards) > 3
        found = other.read("dbp", 0.7, asked)
        if kind == "stylegan2":  # torch may pick another algorithm for another batch
            assert np.abs(found.astype(int) - whole).max() <= 1
            assert (found != whole).mean() < 0.01
        else:
            assert (found == whole).all()

    def test_making_a_shard_again_gives_the_same_file(self, tmp_path: Path) -> None:
        maker = ShardMaker(tmp_path, STUB_SPEC, STUBS, "cpu")
        first = maker.make("dbp", 0.7, np.array([1, 2]))
        assert maker.make("dbp", 0.7, np.array([1, 2])) == first
        assert files.sha256_of(tmp_path / first.path) == first.sha256

    def test_pieces_in_any_order_give_one_bank(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 2)
        wanted = demand(dbp=range(1, 8), trv=[4, 5, 6])

        def backwards(
            pieces: list[Piece], made: Callable[[int], None]
        ) -> Iterator[tuple[Shard, np.ndarray]]:
            maker = ShardMaker(tmp_path / "b", STUB_SPEC, STUBS, "cpu")
            for label, psi, z_seeds in reversed(pieces):
                yield maker.make(label, psi, z_seeds), z_seeds

        fill(tmp_path / "a", STUB_SPEC, STUBS, wanted)
        fill(tmp_path / "b", STUB_SPEC, STUBS, wanted, run=backwards)
        one, two = ((tmp_path / name / "manifest.json").read_text() for name in "ab")
        assert one == two


class TestFitting:
    def test_colour_to_grey_is_luma(self) -> None:
        pixels = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [9, 8, 7]])
        colour = np.tile(pixels.astype(np.uint8)[:, None, None], (1, 2, 2, 1))
        grey = fit_to_bank(colour, 2, 1)
        assert grey.shape == (5, 2, 2, 1)
        assert grey[:, 0, 0, 0].tolist() == [76, 150, 29, 255, 8]
        official = [np.asarray(Image.fromarray(image).convert("L")) for image in colour]
        assert np.abs(np.stack(official).astype(int) - grey[..., 0]).max() <= 1

    def test_grey_to_colour_repeats(self) -> None:
        grey = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
        assert (fit_to_bank(grey, 2, 3) == grey).all()
        assert fit_to_bank(grey, 2, 3).shape == (2, 2, 2, 3)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_smaller_is_lanczos(self, channels: int) -> None:
        images = np.random.RandomState(0).randint(0, 256, (3, 32, 32, channels)).astype(np.uint8)
        small = fit_to_bank(images, 8, channels)
        assert small.shape == (3, 8, 8, channels)
        for image, found in zip(images, small, strict=True):
            for c in range(channels):
                plane = Image.fromarray(image[..., c])
                expected = plane.resize((8, 8), Image.Resampling.LANCZOS)
                assert (np.asarray(expected) == found[..., c]).all()

    def test_none(self) -> None:
        assert fit_to_bank(np.empty((0, 8, 8, 3), np.uint8), 4, 1).shape == (0, 4, 4, 1)

    def test_a_colour_network_in_a_small_grey_bank(self, tmp_path: Path) -> None:
        file = str(NETWORKS / "e_resnet.pkl")
        sources = {"dbp": LabelSource(kind="stylegan2", file=file)}
        bank = fill(tmp_path, spec_of(sources, size=16), sources, demand(dbp=[1]))
        native = load_generator(file, "none").generate([1], 0.7)
        assert native.shape == (1, 32, 32, 3)
        assert (bank.read("dbp", 0.7, [1]) == fit_to_bank(native, 16, 1)).all()


class TestRefusals:
    def test_a_network_smaller_than_the_dataset(self, tmp_path: Path) -> None:
        sources = {"dbp": LabelSource(kind="stylegan2", file=str(NETWORKS / "tiny.pkl"))}
        with pytest.raises(SnapshotError, match="makes images of 8 px, but the dataset has 16 px"):
            fill(tmp_path, spec_of(sources, size=16), sources, demand(dbp=[1]))
        assert not list(tmp_path.rglob("*.parquet"))

    def test_classes(self) -> None:
        file = str(NETWORKS / "c.pkl")  # 64 px, colour, two classes
        three = {
            "dbp": LabelSource(kind="stylegan2", file=file),
            "trv": LabelSource(kind="stylegan2", file=file, class_index=2),
            "x": LabelSource(kind="stylegan2", file=str(NETWORKS / "tiny.pkl"), class_index=0),
        }
        with pytest.raises(SnapshotError) as caught:
            open_sources(three, spec_of(three), "cpu")
        first, second, third = str(caught.value).splitlines()
        assert "has 2 classes. Choose one: `dbp: {file:" in first
        assert second.endswith("has 2 classes, class 2 is requested. Give 0 to 1.")
        assert third.endswith("has no classes, class 0 is requested. Omit the class.")

    def test_labels_of_one_conditional_network(self, tmp_path: Path) -> None:
        file = str(NETWORKS / "c.pkl")
        sources = {
            label: LabelSource(kind="stylegan2", file=file, class_index=number)
            for number, label in enumerate(("dbp", "trv"))
        }
        opened = open_sources(sources, spec_of(sources), "cpu")
        assert opened["dbp"].inner is opened["trv"].inner
        images = [each.generate(np.array([1]), 0.7) for each in opened.values()]
        assert (images[0] != images[1]).any()

    def test_a_missing_network(self) -> None:
        with pytest.raises(
            SnapshotError, match=r"the snapshot of `dbp`, none\.pkl, is not a file"
        ):
            describe("dbp", LabelSource(kind="stylegan2", file="none.pkl"))

    def test_a_phantom_of_another_label(self) -> None:
        with pytest.raises(
            SnapshotError, match="supports only the labels dbp and trv, not `benign`"
        ):
            PhantomGenerator("benign", 8)

    def test_a_network_that_was_replaced(self, tmp_path: Path) -> None:
        """A bank goes on with its own copy; a file of the same name is another network."""
        file = tmp_path / "net.pkl"
        shutil.copy(NETWORKS / "tiny.pkl", file)
        sources = {"dbp": LabelSource(kind="stylegan2", file=str(file))}
        spec = spec_of(sources)
        fill(tmp_path / "bank", spec, sources, demand(dbp=[1]))
        shutil.copy(NETWORKS / "a.pkl", file)
        grown = fill(tmp_path / "bank", spec, sources, demand(dbp=[1, 2]))
        own = load_generator(NETWORKS / "tiny.pkl", "none").generate([2], 0.7)
        assert (grown.read("dbp", 0.7, [2]) == own).all()
        old, new = (files.sha256_of(NETWORKS / f"{name}.pkl")[:12] for name in ("tiny", "a"))
        with pytest.raises(SnapshotError) as changed:
            fill(tmp_path / "late", spec, sources, demand(dbp=[1]))
        assert f"made from {old}, the file is {new}" in str(changed.value)
        with pytest.raises(BankError, match=f"{old}.*{new}"):
            fill(tmp_path / "bank", spec_of(sources), sources, demand(dbp=[2]))
        bank = fill(tmp_path / "bank of its own", spec_of(sources), sources, demand(dbp=[1]))
        expected = fit_to_bank(load_generator(file, "none").generate([1], 0.7), 8, 1)
        assert (bank.read("dbp", 0.7, [1]) == expected).all()

    def test_descriptions_tell_labels_and_kinds_apart(self) -> None:
        sources = [("dbp", "stub"), ("trv", "stub"), ("dbp", "phantom"), ("trv", "phantom")]
        found = {describe(label, LabelSource(kind=kind)).sha256 for label, kind in sources}
        assert len(found) == 4
        assert describe("dbp", STUBS["dbp"]) == describe("dbp", STUBS["dbp"])


class TestFullDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_whole_shards_are_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Counter[int], code: int
    ) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 4)
        bank_json_and_two_shards = iter([True, True, True])
        with monkeypatch.context() as patch:
            patch.setattr("fgaug.core.paths.os.fsync", self.full(code, bank_json_and_two_shards))
            with pytest.raises(DiskFullError, match=r"while writing .*-\d+\.parquet"):
                fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=range(1, 11)))
        with pytest.raises(BankError, match="unfinished"):
            open_bank(tmp_path)
        assert not list(tmp_path.rglob("*.tmp"))
        made.clear()
        bank = fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=range(1, 11)))
        assert sorted(made) in ([1, 2, 3, 4], [5, 6, 7, 8], [9, 10])  # two are written at once
        assert len(bank.read("dbp", 0.7, range(1, 11))) == 10

    def test_a_finished_bank_stays_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1]))
        with monkeypatch.context() as patch:
            patch.setattr("fgaug.core.paths.os.fsync", self.full(errno.ENOSPC, iter([])))
            with pytest.raises(DiskFullError):
                fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1, 2]))
        assert len(open_bank(tmp_path).index()) == 1

    @pytest.mark.parametrize("step", ["index.parquet", "manifest.json"])
    def test_full_while_committing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1]))
        replace = Path.replace

        def refused(self: Path, target: Path) -> Path:
            if Path(target).name == step:
                raise OSError(errno.ENOSPC, "No space left on device")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", refused)
            with pytest.raises(DiskFullError, match=step):
                fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1, 2]))
        assert len(open_bank(tmp_path).index()) == 1
        assert len(fill(tmp_path, STUB_SPEC, STUBS, demand(dbp=[1, 2])).index()) == 2

    def test_decoding_on_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bank = fill(tmp_path / "bank", STUB_SPEC, STUBS, demand(dbp=range(3000, 3200)))
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))

        def fsync(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(DiskFullError, match=r"No space left in the cache .* of "):
                bank.read("dbp", 0.7, [3000])
        assert not list((tmp_path / "cache").iterdir())
        assert len(bank.read("dbp", 0.7, [3000])) == 1

    def test_other_errors_keep_their_kind(self, tmp_path: Path) -> None:
        with pytest.raises(PermissionError), files.disk_errors(tmp_path):
            raise PermissionError(errno.EACCES, "denied")

    @staticmethod
    def full(code: int, fits: Iterator[bool]) -> Any:
        """Return an fsync for a disk that is full after so many files."""

        def fsync(handle: int) -> None:
            if not next(fits, False):
                raise OSError(code, "No space left on device")

        return fsync
