"""Networks that do not take a dataset's images: found at planning, with the sizes that work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_grid import phantom_dataset, write_grid
from torch import nn

from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe
from fgaug.training.pytorch import models, size_check
from fgaug.training.weights import SCRATCH


def check(model: str, size: int, channels: int = 1) -> None:
    recipe = Recipe(model=model, pretrained=False)
    size_check.check(recipe, SCRATCH, size, channels, labels=3)


def refused(model: str, size: int) -> str:
    with pytest.raises(GridError) as caught:
        check(model, size)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("model", "size", "smallest"),
    [
        ("convnext_femto", 24, 32),
        ("edgenext_xx_small", 16, 32),
        ("pvt_v2_b0", 24, 29),
    ],
)
def test_a_network_that_wants_larger_images(model: str, size: int, smallest: int) -> None:
    problem = refused(model, size)
    assert problem.startswith(f"`recipe.model`: {model} cannot train on images of {size} px (")
    assert f"The smallest size that works is {smallest} px" in problem
    check(model, smallest)
    with pytest.raises(GridError):
        check(model, smallest - 1)


def test_a_network_of_one_size() -> None:
    assert "The smallest size that works is 223 px" in refused("coatnet_pico_rw_224", 96)
    assert "223 px" in refused("coatnet_pico_rw_224", 192)
    check("coatnet_pico_rw_224", 224)


def test_a_network_of_some_sizes_names_those_nearby() -> None:
    problem = refused("dla34", 100)
    assert "Sizes nearby that work: 96 px and 128 px." in problem
    check("dla34", 96)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", ["resnet18", "mobilenetv3_small_050", "efficientnet_lite0"])
def test_networks_that_take_small_images(model: str, channels: int) -> None:
    check(model, 16, channels)


@pytest.mark.parametrize("model", ["efficientvit_b0", "lambda_resnet26t"])
def test_a_network_that_cannot_be_built_is_no_internal_error(model: str) -> None:
    with pytest.raises(GridError) as caught:
        check(model, 64)
    assert f"`recipe.model`: {model}" in caught.value.problems[0]


class _Body(nn.Module):
    """A body whose fault is told by a flag."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.norm = nn.InstanceNorm2d(3) if fault == "training only" else nn.Identity()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        if self.fault == "training only":
            x = self.norm(nn.functional.adaptive_avg_pool2d(x, 1))
        if self.fault == "one image":
            x = x.squeeze()
        if self.fault == "no meta tensors" and x.device.type == "meta":
            raise NotImplementedError("no such operator for meta tensors")
        return x


def made(fault: str) -> models.Classifier:
    body = _Body(fault)
    return models.Classifier(body, [body], 3, 2, 0.5, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("fault", ["training only", "one image", "no meta tensors", "none"])
def test_faults_of_one_mode_and_of_the_meta_device(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "build", lambda *_: made(fault))
    recipe = Recipe(model="resnet18", pretrained=False)
    if fault in ("none", "no meta tensors"):  # what meta tensors cannot do says nothing
        size_check.check(recipe, SCRATCH, 160, 3, labels=2)
        return
    with pytest.raises(GridError, match="No size up to 1024 px was found"):
        size_check.check(recipe, SCRATCH, 160, 3, labels=2)


def test_dry_run_and_search_refuse_the_same(fgaug: Any, tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    recipe = {"pretrained": False, "batch_size": 16, "augmentation": "none"}
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}
    several = {**axes, "recipe.model": ["resnet18", "coatnet_pico_rw_224"]}
    path = write_grid(tmp_path, recipe={**recipe, "model": "resnet18"}, axes=several)
    dry = fgaug("search", path, "--dry-run")
    real = fgaug("search", path, "--out", tmp_path / "run")
    assert dry == real
    assert dry[0] == 2
    assert "1 problem\n  - `recipe.model`: coatnet_pico_rw_224 cannot train on images" in dry[2]
    assert not (tmp_path / "run").exists()
