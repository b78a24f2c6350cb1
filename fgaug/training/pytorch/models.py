"""Build classifiers from a torchvision or timm backbone and fastai's head.

A model takes float images in [0, 1] with 1 or 3 channels. It repeats grey channels and normalises
inputs itself, so a saved model is self-contained.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from fgaug.errors import GridError
from fgaug.grid.recipe import Recipe
from fgaug.training.pytorch import mixed_precision
from fgaug.training.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Weights,
    is_torchvision_resnet,
    load,
)

HIDDEN = 512  # width of the head's inner layer
# body, its groups by learning rate, channels of its feature map, input mean and std
_Backbone = tuple[Any, list[nn.Module], int, tuple[float, ...], tuple[float, ...]]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.InstanceNorm2d)


class ConcatPool(nn.Module):
    """Max and average pooling of a feature map, in this order: [N, C, H, W] to [N, 2C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)


class Classifier(nn.Module):
    """Backbone and head; `groups` are their modules by learning rate, first layers first.

    With `in_bfloat16`, the backbone's products and convolutions are computed in bfloat16, see
    `mixed_precision`; the head, all weights and the logits stay float32.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        body: Any,  # an nn.Module whose forward_features returns [N, C, H, W]
        groups: list[nn.Module],
        features: int,
        labels: int,
        dropout: float,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.in_bfloat16 = False
        self.body = body
        self.head = _head(features, labels, dropout)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self._groups = [*groups, self.head]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, labels] of images [N, 1 or 3, H, W] in [0, 1]."""
        x = (x - self.mean) / self.std  # broadcasting repeats a grey channel
        x = x.contiguous(memory_format=torch.channels_last)
        with mixed_precision.bfloat16(x.device.type, self.in_bfloat16):
            features = self.body.forward_features(x)
        logits: torch.Tensor = self.head(features.float() if self.in_bfloat16 else features)
        return logits

    def freeze(self) -> None:
        """Make only the head and the body's norm layers trainable, as fastai does."""
        self.body.requires_grad_(False)
        for module in self.body.modules():
            if isinstance(module, _NORMS):
                module.requires_grad_(True)

    def unfreeze(self) -> None:
        """Make all parameters trainable."""
        self.requires_grad_(True)

    @property
    def group_count(self) -> int:
        return len(self._groups)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return AdamW's groups: per learning rate, with decay, then without (norms and biases).

        Each has a key `rate`, the index of its learning rate. Frozen parameters are excluded.
        """
        result = []
        for rate, group in enumerate(self._groups):
            decayed, free = _split_by_decay(group)
            result.append({"params": decayed, "weight_decay": weight_decay, "rate": rate})
            result.append({"params": free, "weight_decay": 0.0, "rate": rate})
        return [group for group in result if group["params"]]


def build(recipe: Recipe, weights: Weights, labels: int) -> Classifier:
    """Return the classifier of a recipe; torch's global generator initialises the head."""
    body, groups, features, mean, std = _backbone(recipe.model)
    if weights.scratch:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # fastai normalises only if pretrained
    else:
        load(weights, body)
    model = Classifier(body, groups, features, labels, recipe.dropout, mean, std)
    if recipe.precision != "float32":
        assert recipe.precision == "bfloat16", "the planner resolves `auto`"
        mixed_precision.keep_float32(body)
        model.in_bfloat16 = True
    return model.to(memory_format=torch.channels_last)


def check_name(model: str) -> str | None:
    """Return the problem with a model's name, with suggestions, or None."""
    import timm
    import torchvision

    if is_torchvision_resnet(model) or timm.is_model(model.removeprefix("timm/")):
        return None
    known = sorted({*torchvision.models.list_models(), *timm.list_models()})
    near = difflib.get_close_matches(model, known, n=3)
    hint = f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
    return f"`recipe.model`: neither torchvision's resnets nor timm have `{model}`{hint}"


def _backbone(
    name: str,
) -> _Backbone:
    if is_torchvision_resnet(name):
        return _torchvision_resnet(name)
    problem = check_name(name)
    if problem is not None:
        raise GridError([problem])
    return _timm_body(name.removeprefix("timm/"))


class _ResNetBody(nn.Module):
    """A torchvision resnet up to its last feature map, with torchvision's tensor names."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        for name, child in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, child)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x


def _torchvision_resnet(
    name: str,
) -> _Backbone:
    """Return a resnet's body in fastai's two groups: up to layer2, and layer3 with layer4."""
    import torchvision

    net = torchvision.models.get_model(name, weights=None)
    body = _ResNetBody(net)
    children = list(body.children())
    groups: list[nn.Module] = [nn.ModuleList(children[:6]), nn.ModuleList(children[6:])]
    return body, groups, net.fc.in_features, IMAGENET_MEAN, IMAGENET_STD


def _timm_body(
    name: str,
) -> _Backbone:
    """Return a timm network's body as one group, fastai's default for timm."""
    import timm

    net: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    net.eval()
    config = net.default_cfg
    with torch.no_grad():  # at the network's default size: transformers accept no other
        shape = net.forward_features(torch.zeros(1, *config["input_size"])).shape
    if len(shape) != 4 or shape[1] != net.num_features:
        cure = "choose a convolutional model"
        raise GridError([f"`recipe.model`: {name} has no feature map [N, C, H, W]; {cure}"])
    return net, [net], net.num_features, config["mean"], config["std"]


def _head(features: int, labels: int, dropout: float) -> nn.Sequential:
    """Return fastai's head: concat pool, BN, dropout, linear, ReLU, BN, dropout, linear."""
    head = nn.Sequential(
        ConcatPool(),
        nn.BatchNorm1d(2 * features),
        nn.Dropout(dropout / 2),
        nn.Linear(2 * features, HIDDEN, bias=False),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(HIDDEN),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, labels, bias=False),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm1d):
            nn.init.constant_(layer.bias, 1e-3)  # fastai's start
    return head


def _split_by_decay(group: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    norms = {
        id(parameter)
        for module in group.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in group.named_parameters():
        if parameter.requires_grad:
            plain = id(parameter) in norms or name.rsplit(".", 1)[-1] == "bias"
            (free if plain else decayed).append(parameter)
    return decayed, free
