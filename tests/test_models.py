"""Classifiers: fastai's head, groups and freezing; grey as repeated RGB; refused names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe
from fgaug.training import weights
from fgaug.training.pytorch import models
from fgaug.training.pytorch.models import Classifier, ConcatPool

SMALL = "resnet10t"  # of timm, 5 million parameters


def scratch(model: str, labels: int = 2) -> Classifier:
    torch.manual_seed(0)
    return models.build(Recipe(model=model, pretrained=False), weights.SCRATCH, labels)


@pytest.fixture(scope="module")
def resnet18() -> Classifier:
    return scratch("resnet18")


@pytest.fixture(scope="module")
def lite0() -> Classifier:
    recipe = Recipe(model=weights.LITE0)
    return models.build(recipe, weights.find(recipe), 2)


def size(parameters: object) -> int:
    return sum(parameter.numel() for parameter in parameters)


def sizes_by_rate(model: Classifier) -> dict[int, int]:
    found: dict[int, int] = {}
    for group in model.parameter_groups(0.01):
        found[group["rate"]] = found.get(group["rate"], 0) + size(group["params"])
    return found


def test_resnet18_has_fastais_parameters(resnet18: Classifier) -> None:
    resnet18.unfreeze()
    assert size(resnet18.parameters()) == 11_704_896
    assert sizes_by_rate(resnet18) == {0: 683_072, 1: 10_493_440, 2: 528_384}
    assert resnet18.group_count == 3


def test_lite0_has_fastais_parameters(lite0: Classifier) -> None:
    lite0.unfreeze()
    assert sizes_by_rate(lite0) == {0: 3_371_008, 1: 1_317_888}
    assert lite0.group_count == 2


def test_every_parameter_is_in_one_group(resnet18: Classifier, lite0: Classifier) -> None:
    for model in (resnet18, lite0):
        model.unfreeze()
        grouped = [id(p) for group in model.parameter_groups(0.01) for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_a_frozen_body_learns_by_its_norm_layers_alone(
    resnet18: Classifier, lite0: Classifier
) -> None:
    resnet18.freeze()
    lite0.freeze()
    assert sizes_by_rate(resnet18) == {0: 1_920, 1: 7_680, 2: 528_384}
    assert sizes_by_rate(lite0) == {0: 42_016, 1: 1_317_888}
    for model in (resnet18, lite0):
        for name, module in model.body.named_modules():
            for parameter in module.parameters(recurse=False):
                assert parameter.requires_grad == isinstance(module, nn.BatchNorm2d), name
        model.unfreeze()
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_norms_and_biases_are_not_decayed(resnet18: Classifier, lite0: Classifier) -> None:
    for model in (resnet18, lite0):
        model.unfreeze()
        free = {
            id(p)
            for group in model.parameter_groups(0.01)
            if group["weight_decay"] == 0
            for p in group["params"]
        }
        for name, parameter in model.named_parameters():
            # what is neither a convolution nor a matrix is a norm or a bias
            assert (id(parameter) in free) == (parameter.ndim == 1), name


def test_the_head_is_fastais() -> None:
    torch.manual_seed(3)
    head = scratch("resnet18", labels=5).head
    kinds = [type(layer) for layer in head]
    linear, norm = nn.Linear, nn.BatchNorm1d
    assert kinds == [ConcatPool, norm, nn.Dropout, linear, nn.ReLU, norm, nn.Dropout, linear]
    assert (head[2].p, head[6].p) == (0.25, 0.5)
    assert head[3].weight.shape == (512, 1024)
    assert head[7].weight.shape == (5, 512)
    assert head[3].bias is None
    assert head[7].bias is None
    for layer, fan_in in ((head[3], 1024), (head[7], 512)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    for layer in (head[1], head[5]):
        assert torch.equal(layer.bias, torch.full_like(layer.bias, 1e-3))
        assert torch.equal(layer.weight, torch.ones_like(layer.weight))


def test_pooling_gives_maxima_then_means() -> None:
    x = torch.randn(2, 3, 4, 5)
    pooled = ConcatPool()(x)
    assert torch.equal(pooled[:, :3], nn.AdaptiveMaxPool2d(1)(x).flatten(1))
    assert torch.allclose(pooled[:, 3:], nn.AdaptiveAvgPool2d(1)(x).flatten(1))


@pytest.mark.parametrize("name", ["resnet18", "lite0"])
def test_grey_is_repeated_rgb(name: str, request: pytest.FixtureRequest) -> None:
    model: Classifier = request.getfixturevalue(name).eval()
    grey = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(grey), model(grey.expand(-1, 3, -1, -1)))


def test_a_pretrained_model_normalises_itself_and_a_new_one_does_not(
    resnet18: Classifier, lite0: Classifier
) -> None:
    assert lite0.mean.flatten().tolist() == lite0.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert resnet18.mean.flatten().tolist() == [0, 0, 0]
    assert resnet18.std.flatten().tolist() == [1, 1, 1]


def test_the_seed_names_the_weights() -> None:
    first, second = scratch(SMALL).state_dict(), scratch(SMALL).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_saved_weights_hold_the_whole_model() -> None:
    model, other = scratch(SMALL).eval(), scratch(SMALL).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
        other.load_state_dict(model.state_dict())
        x = torch.rand(2, 1, 32, 32)
        assert torch.equal(model(x), other(x))


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet81", "resnet18"), ("tf_efficientnet_lite_0", "tf_efficientnet_lite0")],
)
def test_unknown_models_are_refused_with_near_misses(name: str, near: str) -> None:
    with pytest.raises(GridError, match="did you mean") as caught:
        scratch(name)
    assert f"`{near}`" in str(caught.value)
    assert models.check_name(name) == caught.value.problems[0]


def test_a_name_like_nothing_is_refused_without_a_guess() -> None:
    assert models.check_name("zzz///").endswith("`zzz///`")


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2", SMALL, f"timm/{SMALL}"])
def test_known_names(name: str) -> None:
    assert models.check_name(name) is None


def test_a_model_without_feature_map_is_refused() -> None:
    with pytest.raises(GridError, match="has no feature map"):
        scratch("vit_tiny_patch16_224")


def test_a_near_miss_is_named_once() -> None:
    problem = models.check_name("resnet1888")
    assert problem is not None
    assert problem.count("`resnet18`") == 1
