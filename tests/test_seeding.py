"""Streams of a seed: their names and numbers never change, and none equals another."""

from __future__ import annotations

import hashlib

import numpy as np

from fgaug.core.seeding import Stream, permutation, stream_seed

NAMES = {
    "fakes",
    "repeats",
    "removed",
    "removed-groups",
    "real-fraction",
    "weights",
    "augmentation",
    "order",
    "fold",
    "gan-patients",
}


def test_the_names_are_those_of_every_run_so_far() -> None:
    assert {str(stream) for stream in Stream} == NAMES
    assert Stream.FAKES.of_round(3) == "fakes of round 3"


def test_a_stream_gives_what_its_name_gives() -> None:
    """The formula of every number so far: SHA-256 of purpose, label and seed."""
    digest = hashlib.sha256(b"order\n7").digest()
    assert stream_seed(7, Stream.ORDER) == int.from_bytes(digest[:4], "big")
    digest = hashlib.sha256(b"removed\nbenign\n7").digest()
    expected = np.random.RandomState(int.from_bytes(digest[:4], "big")).permutation(9)
    assert permutation(7, Stream.REMOVED, "benign", 9).tolist() == expected.tolist()


def test_no_two_streams_of_a_seed_are_one() -> None:
    names = [*Stream, *(Stream.FAKES.of_round(n) for n in (1, 2)), Stream.ORDER.of_round(2)]
    assert len({stream_seed(7, name) for name in names}) == len(names)
