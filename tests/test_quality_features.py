"""Feature networks: labels that name them, features that depend on the image alone; refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import kept_classifier

from fgaug.core import files
from fgaug.errors import UserError
from fgaug.grid.recipe import Recipe
from fgaug.quality.features import networks
from fgaug.quality.features.extractors import SOURCES
from fgaug.quality.features.networks import FeatureNetwork, load_network, network_label
from fgaug.training import saved_model, weights
from fgaug.training.load_model import load_classifier
from fgaug.training.pytorch import models
from fgaug.training.weights import IMAGENET_MEAN


@pytest.fixture(scope="module")
def lite0() -> FeatureNetwork:
    return load_network()


def images(count: int, side: int = 48, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, channels), np.uint8)


def test_the_label_names_network_weights_and_size(lite0: FeatureNetwork) -> None:
    found = weights.find(Recipe(model=weights.LITE0))
    assert found.path is not None
    sha256 = files.sha256_of(found.path)
    assert lite0.label == f"lite0-{sha256[:8]}@224"
    assert lite0.label.split("-")[1][:8] in found.path.name, "the package names its digest too"
    assert "224 px, bilinear, antialiased" in lite0.description


def test_features_are_the_pooled_map_of_the_classifier_s_body(lite0: FeatureNetwork) -> None:
    recipe = Recipe(model=weights.LITE0)
    classifier = models.build(recipe, weights.find(recipe), labels=2).eval()
    pixels = images(3, side=224, channels=3)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = classifier.body.forward_features((x - classifier.mean) / classifier.std)
    found = lite0.features(pixels)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.mean(dim=(2, 3)).numpy(), rtol=1e-4, atol=1e-5)
    assert tuple(classifier.mean.flatten().tolist()) != IMAGENET_MEAN, "lite0 has 0.5 of its own"


def test_an_image_s_features_do_not_depend_on_the_others(
    lite0: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = images(7)
    whole = lite0.features(pixels)
    monkeypatch.setattr(networks, "_BATCH", {"cpu": 3})
    told: list[int] = []
    parts = lite0.features(pixels, told.append)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4)
    assert told == [3, 6, 7]


def test_gray_is_repeated(lite0: FeatureNetwork) -> None:
    gray = images(2)
    np.testing.assert_array_equal(lite0.features(gray), lite0.features(np.repeat(gray, 3, axis=3)))


def test_loading_draws_nothing_from_the_program_s_generator() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    load_network()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "pixels",
    [images(2).astype(np.float32), images(2)[..., 0], images(2, channels=2), images(0)],
    ids=["float", "no channels", "two channels", "none"],
)
def test_what_is_no_image(lite0: FeatureNetwork, pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"uint8 \[N, H, W, 1 or 3\]|at least one image"):
        lite0.features(pixels)


@pytest.mark.parametrize(
    "asked", ["", "lite1", "inception", "inception:", "lite0:x.pth", "clip:x"]
)
def test_networks_that_are_not_known(asked: str) -> None:
    with pytest.raises(UserError, match="lite0, inception:FILE, vgg16:FILE, dinov2:FILE or"):
        load_network(asked)


def test_a_file_that_is_not_there(odd_root: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        load_network(f"vgg16:{odd_root / 'w.pth'}")


class _Runs:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # making one is on its way out
@pytest.mark.parametrize("kind", ["pickle", "module", "script", "text"])
def test_files_that_hold_code_are_refused_and_not_run(kind: str, odd_root: Path) -> None:
    file, ran = odd_root / "w.pth", odd_root / "ran"
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"state_dict": _Runs(str(ran))}))
    elif kind == "module":
        torch.save({"fc.weight": torch.zeros(1), "x": _Runs(str(ran))}, file)
    elif kind == "script":
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(file))
    else:
        file.write_text("not weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_network(f"inception:{file}")
    assert not ran.exists()


@pytest.fixture(scope="module")
def dinov2() -> Any:
    """Return timm's network at its own 518 px, with random weights."""
    import timm

    torch.manual_seed(3)
    return timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)


class TestDinov2:
    """DINOv2 by timm's network of random weights: the file's format, not what it learned."""

    def test_the_class_token_of_images_of_224_px(self, dinov2: Any, tmp_path: Path) -> None:
        file = tmp_path / "dinov2.pth"
        torch.save({**dinov2.state_dict(), "mask_token": torch.zeros(1, 384)}, file)
        network = load_network(f"dinov2:{file}")
        assert network.label == f"dinov2-{files.sha256_of(file)[:8]}@224"
        pixels = images(2, side=224, channels=3)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in (IMAGENET_MEAN, weights.IMAGENET_STD)
        )
        dinov2.set_input_size(img_size=(224, 224))
        with torch.no_grad():
            tokens = dinov2.eval().forward_features((x - mean) / std)
        found = network.features(pixels)
        assert found.shape == (2, 384)
        np.testing.assert_allclose(found, tokens[:, 0].numpy(), rtol=1e-3, atol=1e-3)

    def test_other_weights_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "w.pth"
        torch.save({"fc.weight": torch.zeros(2, 2)}, path)
        with pytest.raises(UserError, match="does not hold the weights of vit_small"):
            load_network(f"dinov2:{path}")


class TestKeptClassifier:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return kept_classifier(tmp_path / "trial", size=32)

    def test_its_pooled_features(self, file: Path) -> None:
        network = load_network(f"model:{file}")
        kept = saved_model.read(file)
        assert network.label == f"model-{kept.card.sha256[:8]}@32"
        assert network.label == network_label(f"model:{file}")[0]
        classifier = load_classifier(kept, torch.device("cpu"))
        pixels = images(3, side=32)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            x = (x - classifier.mean) / classifier.std
            expected = classifier.head[0](classifier.body.forward_features(x))
        found = network.features(pixels)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)

    def test_a_file_without_card_is_refused(self, file: Path) -> None:
        file.with_suffix(".json").unlink()
        with pytest.raises(UserError, match=r"model\.json is missing"):
            load_network(f"model:{file}")


def test_the_cure_for_missing_weights_names_the_published_files() -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torchvision.models import VGG16_Weights

    from fgaug.analysis.published.thesis_networks import WEIGHTS

    published = {"inception": URL_INCEPTION_V3, "vgg16": VGG16_Weights.DEFAULT.url}
    for name, url in published.items():
        assert SOURCES[name].startswith(f"{url.rsplit('/', 1)[1]} from")
        assert WEIGHTS[name] in url
