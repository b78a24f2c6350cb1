"""Images: rows of several sources in any order, and the two orders of batches."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgaug.training.images import Images, epochs, stream

CPU = torch.device("cpu")


def numbered(*lengths: int) -> list[np.ndarray]:
    """Return sources whose pixels say where they are from: source number, then row."""
    made = []
    for number, length in enumerate(lengths):
        source = np.zeros((length, 4, 5, 3), np.uint8)
        source[..., 0] = number
        source[..., 1] = np.arange(length)[:, None, None]
        source[:, 0, 4, 2] = 9
        made.append(source)
    return made


def mixed(count: int = 30) -> Images:
    draw = np.random.RandomState(0)
    source = draw.randint(0, 3, count)
    row = np.array([draw.randint(0, (7, 1, 5)[which]) for which in source])
    return Images(sources=numbered(7, 1, 5), source=source, row=row, label=source % 2)


def test_take_keeps_the_order_asked() -> None:
    images = mixed()
    index = np.array([29, 3, 3, 0, 11, 28])
    taken = images.take(index)
    assert taken.dtype == np.uint8
    assert taken.shape == (6, 4, 5, 3)
    assert taken[:, 2, 2, 0].tolist() == images.source[index].tolist()
    assert taken[:, 2, 2, 1].tolist() == images.row[index].tolist()
    assert len(images) == 30


def test_take_reads_memory_mapped_sources(tmp_path: object) -> None:
    path = f"{tmp_path}/pixels.npy"
    (source,) = numbered(6)
    np.save(path, source)
    images = Images(
        sources=[np.load(path, mmap_mode="r")],
        source=np.zeros(6, int),
        row=np.arange(6)[::-1],
        label=np.zeros(6, int),
    )
    taken = images.take(np.arange(6))
    assert taken[:, 0, 0, 1].tolist() == [5, 4, 3, 2, 1, 0]
    taken[:] = 0  # a copy: the file is left alone
    assert np.array_equal(np.load(path), source)


def test_a_batch_is_channels_first_with_its_labels() -> None:
    images = mixed()
    index = np.array([4, 0, 9])
    batch = images.batch(index, CPU)
    assert batch.dtype == torch.uint8
    assert batch.shape == (3, 3, 4, 5)
    assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), images.take(index))
    assert images.labels(index, CPU).tolist() == images.label[index].tolist()


@given(count=st.integers(1, 50), batch_size=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_epochs_leave_the_incomplete_batch_out(count: int, batch_size: int, seed: int) -> None:
    each = max(1, count // batch_size)
    order = epochs(count, batch_size, seed)
    for _ in range(3):
        seen = np.concatenate(list(islice(order, each)))
        assert len(seen) == each * min(batch_size, count)
        assert len(set(seen.tolist())) == len(seen)
        assert set(seen.tolist()) <= set(range(count))


def test_epochs_reshuffle_and_leave_others_out() -> None:
    order = epochs(10, 4, 0)
    passes = [np.concatenate(list(islice(order, 2))).tolist() for _ in range(30)]
    assert len({tuple(one) for one in passes}) == 30
    assert set().union(*passes) == set(range(10))


@given(count=st.integers(1, 50), batch_size=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_a_stream_runs_passes_end_to_end(count: int, batch_size: int, seed: int) -> None:
    batches = list(islice(stream(count, batch_size, seed), 3 * count // batch_size + 2))
    assert {len(batch) for batch in batches} == {batch_size}
    flat = np.concatenate(batches)
    for start in range(0, 3 * count, count):
        assert sorted(flat[start : start + count].tolist()) == list(range(count))


@pytest.mark.parametrize("make", [epochs, stream])
def test_a_seed_names_its_order(make: object) -> None:
    assert callable(make)
    first, again, other = (list(islice(make(40, 8, seed), 20)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
