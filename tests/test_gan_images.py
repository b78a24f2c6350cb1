"""What a network learns from: the right images, in an order that a position alone decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_grid import phantom_dataset

from fgaug.core.paths import record_of
from fgaug.data import Dataset, open_dataset
from fgaug.errors import DataError, DiskFullError, SnapshotError
from gan_worker.training import images as gan_images
from gan_worker.training.images import (
    Subset,
    TrainingBatches,
    TrainingImages,
    training_images,
    write_trained_on,
)
from gan_worker.training.sampler import Sampler

counts = st.integers(1, 40)
seeds = st.integers(0, 2**31 - 1)
positions = st.integers(0, 10**9)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(phantom_dataset(tmp_path_factory.mktemp("gan-images"), test=0.2))


def changed(data: Dataset, **columns: Any) -> Dataset:
    """Return a dataset with columns of its manifest replaced."""
    return dataclasses.replace(data, manifest=data.manifest.assign(**columns))


def of_label(data: Dataset, label: str) -> pd.DataFrame:
    table = data.manifest
    return table[(table["split"] == "train") & (table["label"] == label)]


class TestChoice:
    @pytest.mark.parametrize("label", ["dbp", "trv"])
    def test_a_label_gives_its_training_images_and_no_other(
        self, data: Dataset, label: str
    ) -> None:
        images = training_images(data, [label])
        assert sorted(images.table["image_id"]) == sorted(of_label(data, label)["image_id"])
        assert set(images.table["label"]) == {label}
        assert images.labels == (label,)
        assert images.classes.tolist() == [0] * len(images)
        assert images.counts == {label: len(images)}
        assert (images.size_px, images.channels, images.flagged) == (32, 1, False)
        assert images.dataset_digest == data.spec.digest

    def test_pixels_belong_to_their_rows(self, data: Dataset) -> None:
        images = training_images(data, ["trv"])
        every = data.pixels()
        for number, image_id in enumerate(images.table["image_id"]):
            (row,) = data.manifest.index[data.manifest["image_id"] == image_id]
            (pixels,) = images.take(np.array([number]))
            assert (pixels == every[row]).all()
        assert images.take(np.array([3, 0])).dtype == np.uint8

    def test_classes_follow_the_dataset_whatever_the_order_asked(self, data: Dataset) -> None:
        images = training_images(data, ["trv", "dbp"])
        assert images.labels == ("dbp", "trv")
        assert [images.labels[index] for index in images.classes] == images.table["label"].tolist()
        assert sum(images.counts.values()) == len(images)

    def test_gan_flags_decide_where_any_training_image_has_one(self, data: Dataset) -> None:
        rows = of_label(data, "trv").index
        flags = data.manifest.index.isin([*rows[:10], *of_label(data, "dbp").index])
        images = training_images(changed(data, gan=flags), ["trv"])
        assert images.flagged
        assert set(images.table["image_id"]) == set(data.manifest.loc[rows[:10], "image_id"])
        held_out = (data.manifest["split"] != "train").to_numpy()
        images = training_images(changed(data, gan=held_out), ["trv"])
        assert len(images) == len(rows), "a flag outside the training part counts for nothing"

    def test_the_order_is_of_content_not_of_names(self, data: Dataset) -> None:
        back = data.manifest["image_id"].to_numpy()[::-1]
        renamed = training_images(changed(data, image_id=back), ["dbp", "trv"])
        images = training_images(data, ["dbp", "trv"])
        assert renamed.table["sha256"].equals(images.table["sha256"])
        assert (renamed.rows == images.rows).all()

    def test_another_split_gives_its_training_images(self, data: Dataset) -> None:
        divided = data.with_split(3)
        images = training_images(divided, ["trv"])
        assert set(images.table["image_id"]) == set(of_label(divided, "trv")["image_id"])
        assert set(images.table["image_id"]) != set(of_label(data, "trv")["image_id"])

    def test_dropped_images_are_gone_and_counted(self, data: Dataset) -> None:
        both = [of_label(data, label)["sha256"].iloc[0] for label in ("dbp", "trv")]
        images = training_images(data, ["trv"], drop=both)
        assert images.dropped == 1
        assert not images.table["sha256"].isin(both).any()
        assert len(images) == len(of_label(data, "trv")) - 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(phantom_dataset(tmp_path_factory.mktemp("large"), images=240, test=0.2))


class TestSubset:
    """Part of the training images, of whole patients: how many images are enough?"""

    def test_patients_are_whole_and_a_small_part_lies_in_a_larger(self, large: Dataset) -> None:
        every = of_label(large, "trv")
        before: set[str] = set()
        most = int(every.groupby("group").size().max())
        for amount in (8, 13, 30, len(every)):
            images = training_images(large, ["trv"], subset=Subset(amount=amount))
            chosen = set(images.table["sha256"])
            assert amount <= len(images) < amount + most
            patients = every["group"].isin(images.table["group"])
            assert set(every.loc[patients, "sha256"]) == chosen
            assert before <= chosen
            before = chosen
        assert before == set(every["sha256"])

    def test_a_share_is_of_each_label(self, large: Dataset) -> None:
        images = training_images(large, ["dbp", "trv"], subset=Subset(amount=0.5))
        for label in ("dbp", "trv"):
            every = of_label(large, label)
            most = int(every.groupby("group").size().max())
            assert round(len(every) / 2) <= images.counts[label] < round(len(every) / 2) + most
        alone = training_images(large, ["trv"], subset=Subset(amount=0.5)).table
        together = images.table[images.table["label"] == "trv"].reset_index(drop=True)
        assert together.equals(alone)

    def test_seeds_differ_and_names_do_not_matter(self, large: Dataset) -> None:
        first, other = (
            training_images(large, ["trv"], subset=Subset(amount=8, seed=seed)).table["sha256"]
            for seed in (0, 1)
        )
        assert set(first) != set(other)
        back = large.manifest["image_id"].to_numpy()[::-1]
        renamed = training_images(changed(large, image_id=back), ["trv"], subset=Subset(amount=8))
        assert renamed.table["sha256"].equals(first)

    def test_it_is_taken_of_what_a_drop_list_leaves(self, large: Dataset) -> None:
        dropped = of_label(large, "trv")["sha256"].iloc[:3].tolist()
        left = len(of_label(large, "trv")) - 3
        images = training_images(large, ["trv"], drop=dropped, subset=Subset(amount=left))
        assert len(images) == left
        with pytest.raises(DataError, match=f"--images {left + 1} is more than the {left} train"):
            training_images(large, ["trv"], drop=dropped, subset=Subset(amount=left + 1))

    def test_a_part_that_is_too_small(self, large: Dataset) -> None:
        with pytest.raises(DataError, match="at least 8 are needed"):
            training_images(large, ["trv"], subset=Subset(amount=1))

    def test_its_record_names_these_images_alone(self, large: Dataset, tmp_path: Path) -> None:
        images = training_images(large, ["trv"], subset=Subset(amount=10))
        record = pd.read_parquet(write_trained_on(tmp_path / "x.pkl", images))
        assert record["sha256"].tolist() == images.table["sha256"].tolist()
        assert 10 <= len(record) < len(of_label(large, "trv"))


class TestRefusals:
    def test_an_unknown_label_comes_with_the_nearest(self, data: Dataset) -> None:
        with pytest.raises(
            DataError, match=r'no label "tvr", did you mean "trv"\? Choose from: dbp'
        ):
            training_images(data, ["tvr"])
        with pytest.raises(DataError, match=r"no label is given. Choose from: dbp, trv"):
            training_images(data, [])

    def test_sizes_are_powers_of_two(self, data: Dataset) -> None:
        odd = dataclasses.replace(data, spec=dataclasses.replace(data.spec, size=48))
        with pytest.raises(DataError, match=r"have 48 px\. Prepare the dataset with --size 32 or"):
            training_images(odd, ["trv"])

    def test_a_few_images_teach_nothing(self, data: Dataset) -> None:
        rows = of_label(data, "trv").index
        flags = data.manifest.index.isin([*rows[:8], *of_label(data, "dbp").index])
        flagged = changed(data, gan=flags)
        assert len(training_images(flagged, ["trv"])) == 8
        last = data.manifest.loc[rows[:1], "sha256"]
        with pytest.raises(DataError) as refused:
            training_images(flagged, ["dbp", "trv", "x"], drop=list(last))
        assert (
            'label "trv" has 7 training images with gan flag after 1 were dropped, at least 8 are'
            in str(refused.value)
        )
        assert "2 problems" in str(refused.value)
        assert 'no label "x"' in str(refused.value)
        assert 'label "dbp"' not in str(refused.value)

    def test_a_drop_list_of_other_images(self, data: Dataset) -> None:
        valid = data.manifest.loc[data.manifest["split"] == "valid", "sha256"].iloc[:2].tolist()
        with pytest.raises(
            DataError, match=r"names 2 images that are not .* and others\)\. It belongs"
        ):
            training_images(data, ["trv"], drop=valid)


class TestRecord:
    def test_it_names_exactly_what_was_learned_from(self, data: Dataset, odd_root: Path) -> None:
        dropped = of_label(data, "trv")["sha256"].iloc[:2].tolist()
        images = training_images(data, ["trv"], drop=dropped)
        path = write_trained_on(odd_root / "network-000100.v2.pkl", images)
        assert path == odd_root / "network-000100.v2.trained_on.parquet"
        record = pd.read_parquet(path)
        assert list(record.columns) == ["sha256", "group", "label"]
        expected = of_label(data, "trv").sort_values("sha256")
        expected = expected[~expected["sha256"].isin(dropped)]
        assert record["sha256"].tolist() == expected["sha256"].tolist()
        assert record["group"].tolist() == expected["group"].tolist()

    @pytest.mark.parametrize("kind", ["int64", "string"])
    def test_groups_keep_their_type(self, data: Dataset, tmp_path: Path, kind: str) -> None:
        groups = data.manifest["group"].astype(int)
        text = kind == "string"
        table = changed(data, group=groups.map("p{:03d}".format) if text else groups)
        path = write_trained_on(tmp_path / "x.pkl", training_images(table, ["dbp"]))
        found = str(pq.read_schema(path).field("group").type)
        assert found.removeprefix("large_") == kind

    def test_what_the_start_has_seen_counts_too(self, data: Dataset, tmp_path: Path) -> None:
        start, file = tmp_path / "start.pkl", tmp_path / "x.pkl"
        before, images = (training_images(of, ["trv"]) for of in (data.with_split(3), data))
        write_trained_on(start, before)
        record = pd.read_parquet(write_trained_on(file, images, start))
        assert set(record["sha256"]) == {*images.table["sha256"], *before.table["sha256"]}
        assert not record["sha256"].duplicated().any()
        assert record.iloc[: len(images)].equals(images.table[["sha256", "group", "label"]])
        write_trained_on(tmp_path / "y.pkl", images, tmp_path / "nothing.pkl")
        assert len(pd.read_parquet(tmp_path / "y.trained_on.parquet")) == len(images)

    def test_a_start_of_another_dataset_may_have_other_kinds_of_groups(
        self, data: Dataset, tmp_path: Path
    ) -> None:
        old = pd.DataFrame({"sha256": ["0" * 64], "group": ["p7"]})  # written without labels
        old.to_parquet(record_of(tmp_path / "start.pkl"))
        images = training_images(data, ["trv"])
        path = write_trained_on(tmp_path / "x.pkl", images, tmp_path / "start.pkl")
        record = pd.read_parquet(path)
        assert record["group"].tolist() == [*images.table["group"].astype(str), "p7"]
        record_of(tmp_path / "start.pkl").write_bytes(b"torn")
        with pytest.raises(SnapshotError, match="not a valid Parquet file"):
            write_trained_on(tmp_path / "x.pkl", images, tmp_path / "start.pkl")

    def test_a_full_disk_leaves_the_old_record(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_trained_on(tmp_path / "x.pkl", training_images(data, ["dbp"]))
        before = path.read_bytes()

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(DiskFullError):
            write_trained_on(tmp_path / "x.pkl", training_images(data, ["trv"]))
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


class TestSampler:
    @given(counts, seeds, st.booleans(), st.integers(0, 1000))
    def test_every_pass_shows_every_item_once(
        self, count: int, seed: int, mirror: bool, number: int
    ) -> None:
        sampler = Sampler(count=count, seed=seed, mirror=mirror)
        numbers, mirrored = sampler.at(number * sampler.items, sampler.items)
        shown = sorted(zip(numbers.tolist(), mirrored.tolist(), strict=True))
        assert shown == [(n, m) for n in range(count) for m in ((False, True)[: 1 + mirror])]

    @given(counts, seeds, st.booleans(), positions, st.lists(st.integers(0, 50), max_size=6))
    def test_a_position_tells_all_that_follows(
        self, count: int, seed: int, mirror: bool, position: int, cuts: list[int]
    ) -> None:
        """However a stretch is cut into batches, and whatever was asked for before."""
        whole = Sampler(count=count, seed=seed, mirror=mirror).at(position, sum(cuts))
        parts = []
        for size in cuts:
            parts.append(Sampler(count=count, seed=seed, mirror=mirror).at(position, size))
            position += size
        for column in range(2):
            joined = np.concatenate([part[column] for part in parts] or [whole[column]])
            assert joined.tolist() == whole[column].tolist()

    def test_passes_and_seeds_differ(self) -> None:
        sampler = Sampler(count=50, seed=1)
        orders = {tuple(sampler.at(50 * number, 50)[0]) for number in range(20)}
        orders |= {tuple(Sampler(count=50, seed=seed).at(0, 50)[0]) for seed in range(2, 20)}
        assert len(orders) == 38

    def test_the_order_never_changes(self) -> None:
        """A training goes on from a snapshot of an older version, on another machine."""
        numbers, mirrored = Sampler(count=5, seed=7, mirror=True).at(18, 6)
        assert (numbers.tolist(), mirrored.tolist()) == (
            [1, 2, 1, 0, 4, 3],
            [False, False, True, False, True, False],
        )


class TestBatches:
    @pytest.fixture
    def images(self, data: Dataset) -> TrainingImages:
        return training_images(data, ["dbp", "trv"])

    def test_pixels_become_minus_one_to_one(self, images: TrainingImages) -> None:
        pixels, classes = TrainingBatches(images, seed=3).batch(5, 12)
        assert (pixels.shape, pixels.dtype) == ((12, 1, 32, 32), torch.float32)
        assert pixels.is_contiguous()
        numbers, _ = Sampler(count=len(images), seed=3).at(5, 12)
        expected = images.take(numbers).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        assert np.abs(pixels.numpy() - expected).max() < 1e-6
        assert classes.tolist() == images.classes[numbers].tolist()
        assert classes.dtype == torch.int64

    def test_levels_0_and_255(self, images: TrainingImages) -> None:
        pixels = np.zeros_like(images.pixels)
        pixels[:, :, ::2] = 255
        made, _ = TrainingBatches(dataclasses.replace(images, pixels=pixels), seed=0).batch(0, 2)
        assert made.unique().tolist() == [-1.0, 1.0]

    def test_mirrored_items_are_mirrored(self, images: TrainingImages) -> None:
        batches = TrainingBatches(images, seed=3, mirror=True)
        size = batches.sampler.items
        pixels, classes = batches.batch(0, size)
        numbers, mirrored = batches.sampler.at(0, size)
        assert mirrored.sum() == len(images)
        as_it_is = torch.from_numpy(images.take(numbers)).permute(0, 3, 1, 2) / 127.5 - 1
        for made, plain, flipped in zip(pixels, as_it_is, mirrored, strict=True):
            assert torch.equal(made, plain.flip(2) if flipped else plain)
        assert classes.tolist() == images.classes[numbers].tolist()

    def test_labels_are_drawn_as_often_as_they_occur(self, images: TrainingImages) -> None:
        batches = TrainingBatches(images, seed=0)
        drawn = batches.labels(torch.Generator().manual_seed(1), 20_000)
        share = images.counts["trv"] / len(images)
        assert float(drawn.float().mean()) == pytest.approx(share, abs=0.02)
        again = batches.labels(torch.Generator().manual_seed(1), 20_000)
        assert torch.equal(drawn, again)

    @pytest.mark.gpu
    def test_a_gpu_gives_the_same_batch(
        self, images: TrainingImages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, _ = TrainingBatches(images, seed=3, mirror=True).batch(7, 20)
        resident, _ = TrainingBatches(images, seed=3, mirror=True, device="cuda").batch(7, 20)
        monkeypatch.setattr(gan_images, "RESIDENT_BYTES", 0)
        copied, _ = TrainingBatches(images, seed=3, mirror=True, device="cuda").batch(7, 20)
        assert torch.equal(resident, copied)
        assert (resident.cpu() - here).abs().max() < 1e-6
