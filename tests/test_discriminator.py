"""The discriminator: against logits of the official program, and its parts against formulas."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fgaug.errors import SnapshotError
from gan_worker.files.discriminators import read_discriminator
from gan_worker.networks.discriminator import (
    DiscriminatorConfig,
    DiscriminatorNetwork,
    halved,
    spread,
)

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import golden_training  # a script, found once its folder is

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
SMALL = DiscriminatorConfig(resolution=16, img_channels=1, labels=0, widths=(5, 4, 3))


@pytest.mark.parametrize("name", ["tiny", "a", "c", "e_resnet"])
def test_logits_penalties_lengths_and_augmented_images_are_the_official_programs(
    name: str,
) -> None:
    case = golden_training.Case(
        name, GOLDENS / f"{name}.pkl", GOLDENS / "training" / f"{name}.npz"
    )
    rows = list(case.rows())
    assert {row.key for row in rows} >= {"d_logits_batch8", "d_logits_batch4", "d_logits_single"}
    if name in ("a", "c"):
        assert len(rows) == 10
    for row in rows:
        assert row.ok, row


@pytest.mark.parametrize("name", ["a", "e_resnet"])
def test_the_discriminator_of_a_tensorflow_file_is_that_of_the_pytorch_file(name: str) -> None:
    ours = read_discriminator(GOLDENS / "tf" / f"{name}.pkl")
    theirs = read_discriminator(GOLDENS / f"{name}.pkl")
    assert ours.tensors.keys() == theirs.tensors.keys()
    for key, tensor in theirs.tensors.items():
        np.testing.assert_array_equal(ours.tensors[key].numpy(), tensor.numpy(), key)
    assert dataclasses.replace(ours.config, group_size=4, mapping_layers=0) == (
        dataclasses.replace(theirs.config, group_size=4, mapping_layers=0)
    )


def test_a_file_without_a_discriminator_is_refused(tmp_path: Path) -> None:
    from gan_worker.files.snapshot import read_snapshot, write_safetensors

    write_safetensors(read_snapshot(GOLDENS / "tiny.pkl"), tmp_path / "x.safetensors")
    with pytest.raises(SnapshotError, match="was refused"):
        read_discriminator(tmp_path / "x.safetensors")


def test_spread_is_the_deviation_within_each_group_of_images() -> None:
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    told = spread(x, 4)
    assert told.shape == (8, 1, 4, 4)
    for first in (0, 1):
        group = x[[first, first + 2, first + 4, first + 6]].numpy()
        expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(told[first::2].numpy(), expected, rtol=1e-5)
    assert torch.allclose(spread(x[:1].expand(8, -1, -1, -1), 4), torch.full_like(told, 1e-4))
    with pytest.raises(ValueError, match="multiple of the group size 4, got 6"):
        spread(x[:6], 4)


def test_halving_weighs_neighbours_by_1_3_3_1() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3, 3] = 64
    row = torch.tensor([0.0, 3.0, 3.0, 0.0])  # px 3 is next to the middle of both
    taps = torch.tensor([0.0, 3.0, 1.0, 0.0])
    assert torch.equal(halved(x)[0, 0], torch.outer(taps, taps)), row


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("labels", [0, 3])
def test_every_architecture_trains_all_its_weights(architecture: str, labels: int) -> None:
    config = dataclasses.replace(SMALL, architecture=architecture, labels=labels)
    network = DiscriminatorNetwork(config)
    one_hot = torch.eye(3)[[0, 1, 2, 0]] if labels else None
    logits = network(torch.randn(4, 1, 16, 16), one_hot)
    assert logits.shape == (4, 1)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 12}, "power of two"),
        ({"resolution": 4, "widths": (5,)}, "power of two from 8"),
        ({"widths": (5, 4)}, "must list 3 widths"),
        ({"architecture": "unet"}, "must be one of"),
        ({"group_size": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
