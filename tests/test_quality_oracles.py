"""Our measures and feature networks against torch-fidelity and prdc, which measures do not use."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torch_fidelity import metric_fid, metric_kid, metric_prc

from fgaug import quality
from fgaug.errors import UserError
from fgaug.quality.features.networks import load_network
from fgaug.training.weights import IMAGENET_MEAN, IMAGENET_STD

SHAPES = [(300, 260, 24), (90, 400, 12), (40, 50, 96)]


def sets(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return reals and fakes as a network gives them: not below 0, correlated, not centred."""
    rng = np.random.default_rng(n)
    mixed = rng.normal(0, 1, (d, d)) / d**0.5
    real = np.maximum(rng.normal(0.3, 1, (n, d)) @ mixed, 0)
    fake = np.maximum(rng.normal(0.5, 0.9, (m, d)) @ mixed, 0)
    return real.astype(np.float32), fake.astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_fid(shape: tuple[int, int, int]) -> None:
    real, fake = sets(*shape)
    statistics = [
        metric_fid.fid_features_to_statistics(torch.from_numpy(each.astype(np.float64)))
        for each in (fake, real)
    ]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    tolerance = 1e-4 if min(shape[:2]) < shape[2] else 1e-6
    (value,) = theirs.values()
    assert quality.fid(real, fake) == pytest.approx(value, rel=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_kid_subsets_draw_as_torch_fidelity_does(shape: tuple[int, int, int]) -> None:
    real, fake = sets(*shape)
    theirs = metric_kid.kid_features_to_metric(
        torch.from_numpy(real.astype(np.float64)),
        torch.from_numpy(fake.astype(np.float64)),
        kid_subsets=20,
        kid_subset_size=30,
        kid_degree=3,
        kid_gamma=None,
        kid_coef0=1,
        rng_seed=2020,
        verbose=False,
    )
    ours = quality.kid_subsets(real, fake, subsets=20, size=30)
    assert ours.mean == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-9)
    assert ours.sd == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_STD], rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(shape: tuple[int, int, int], k: int) -> None:
    real, fake = (torch.from_numpy(each.astype(np.float64)) for each in sets(*shape))
    theirs = metric_prc.calculate_precision_recall_full(fake, real, k, 10_000)  # generated first
    ours = quality.precision_recall(real.numpy(), fake.numpy(), k)
    assert ours == pytest.approx(theirs)
    assert ours[0] != ours[1], "or a swap would not be seen"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage(shape: tuple[int, int, int], k: int) -> None:
    real, fake = (each.astype(np.float64) for each in sets(*shape))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        theirs = compute_prdc(real, fake, k)
    ours = quality.density_coverage(real, fake, k)
    assert ours == pytest.approx((theirs["density"], theirs["coverage"]))
    ours = quality.precision_recall(real, fake, k)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the Inception network's tensors, drawn at random."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    path.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = inception.FeatureExtractorInceptionV3(
            "x", ["2048"], feature_extractor_weights_path=str(path)
        )
    torch.save(network.state_dict(), path)
    return path


def test_inception_is_torch_fidelity_s(weights: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 40, 40, 1), np.uint8)
    ours = load_network(f"inception:{weights}")
    network = inception.FeatureExtractorInceptionV3(
        "x", ["2048"], feature_extractor_weights_path=str(weights)
    )
    colour = torch.from_numpy(np.repeat(images, 3, axis=3)).permute(0, 3, 1, 2)
    found = ours.features(images)
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(found, network(colour)[0].numpy(), rtol=1e-5, atol=1e-7)
    assert ours.label == f"inception-{ours.sha256[:8]}@299"


def test_weights_as_safetensors_and_of_another_network(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    save_file(state, tmp_path / "w.safetensors")
    images = np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3), np.uint8)
    first, second = (
        load_network(f"inception:{path}") for path in (weights, tmp_path / "w.safetensors")
    )
    np.testing.assert_array_equal(first.features(images), second.features(images))
    assert first.label != second.label, "a label is of the file"
    state.pop("fc.weight")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"does not hold the weights.*fc\.weight"):
        load_network(f"inception:{tmp_path / 'w.safetensors'}")


@pytest.mark.slow
def test_vgg16_is_torchvision_s(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.vgg16(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "vgg16.pth")
    found = load_network(f"vgg16:{tmp_path / 'vgg16.pth'}")
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        hidden = torch.flatten(network.avgpool(network.features((x - mean) / std)), 1)
        expected = torch.relu(network.classifier[:4](hidden)).numpy()
    np.testing.assert_allclose(found.features(images), expected, rtol=1e-3, atol=1e-4)
