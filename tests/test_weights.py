"""Pretrained weights: local places only, the right network only, no pickled code."""

from __future__ import annotations

import argparse
import datetime
import fractions
import functools
import gzip
import math
import os
import pickle
import re
import subprocess
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file

from fgaug.errors import GridError, UserError
from fgaug.grid.recipe import Recipe
from fgaug.training import weights
from fgaug.training.pytorch import models
from fgaug.training.weights import Weights

SMALL = "resnet10t"
TINY = "test_resnet"  # 0.5 million numbers
# kernel, stride, expansion and repeats of the stages of EfficientNet-Lite0
STAGES = [
    (3, 1, 1, 1),
    (3, 2, 6, 2),
    (5, 2, 6, 2),
    (3, 2, 6, 3),
    (5, 1, 6, 3),
    (5, 2, 6, 4),
    (3, 1, 6, 1),
]
PACKAGED = weights.find(Recipe(model=weights.LITE0))


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the libraries caches with nothing in them."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch_home = tmp_path / "torch"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(torch_home))
    return torch_home


def reference_lite0(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the packaged network's logits, written from its description and its own keys."""

    def convolve(x: torch.Tensor, name: str, kernel: int, stride: int) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        size = x.shape[-1]
        pad = max(0, (-(-size // stride) - 1) * stride + kernel - size)  # TensorFlow's "same"
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var"))
        scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.batch_norm(x, *parts, scale, shift, eps=1e-3)

    x = F.relu6(norm(convolve(x, "_conv_stem", 3, 2), "_bn0"))
    number = 0
    for kernel, first_stride, expansion, repeats in STAGES:
        for repeat in range(repeats):
            stride, block, kept = (1 if repeat else first_stride), f"_blocks.{number}.", x
            if expansion > 1:
                x = F.relu6(norm(convolve(x, f"{block}_expand_conv", 1, 1), f"{block}_bn0"))
            x = convolve(x, f"{block}_depthwise_conv", kernel, stride)
            x = norm(
                convolve(F.relu6(norm(x, f"{block}_bn1")), f"{block}_project_conv", 1, 1),
                f"{block}_bn2",
            )
            if repeat:
                x = x + kept
            number += 1
    x = F.relu6(norm(convolve(x, "_conv_head", 1, 1), "_bn1"))
    return F.linear(x.mean(dim=(2, 3)), state["_fc.weight"], state["_fc.bias"])


def test_packaged_weights_fit_timms_network_one_to_one() -> None:
    assert PACKAGED.path is not None
    state = torch.load(PACKAGED.path, weights_only=True)
    net = timm.create_model(weights.LITE0, pretrained=False).eval()
    renamed = {weights.lite0_key(name): value for name, value in state.items()}
    assert len(renamed) == len(state) == 296
    assert {name: value.shape for name, value in renamed.items()} == {
        name: value.shape for name, value in net.state_dict().items()
    }
    net.load_state_dict(renamed)
    torch.manual_seed(0)
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        ours, reference = net(x), reference_lite0(state, x)
    assert float(reference.std()) > 0.1
    assert torch.allclose(ours, reference, rtol=0, atol=1e-4)


def test_the_packaged_weights_reach_the_classifier() -> None:
    assert PACKAGED.path is not None
    state = torch.load(PACKAGED.path, weights_only=True)
    model = models.build(Recipe(model=weights.LITE0), PACKAGED, 2)
    assert torch.equal(model.body.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(model.body.bn2.running_var, state["_bn1.running_var"])
    assert torch.equal(
        model.body.blocks[6][0].conv_pwl.weight, state["_blocks.15._project_conv.weight"]
    )


def test_lite0_needs_no_network() -> None:
    assert not PACKAGED.scratch
    assert PACKAGED.packaged_lite0
    assert PACKAGED.identity == "imagenet:efficientnet-lite0-57934424.pth"


def test_not_pretrained_is_from_scratch() -> None:
    assert weights.find(Recipe(pretrained=False)) == weights.SCRATCH


@pytest.mark.parametrize("model", ["resnet18", "densenet121", f"timm/{SMALL}"])
def test_without_a_cache_the_message_says_what_to_do(model: str) -> None:
    with pytest.raises(GridError) as caught:
        weights.find(Recipe(model=model))
    message = str(caught.value)
    for cure in ("fgaug downloads nothing", "`recipe.weights: FILE`", "`pretrained: false`"):
        assert cure in message
    assert weights.LITE0 in message
    assert weights.find(Recipe(model=model, allow_scratch=True)) == weights.SCRATCH


def test_torchvisions_cache_is_used(empty_caches: Path) -> None:
    path = empty_caches / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    found = weights.find(Recipe(model="resnet18"))
    assert (found.path, found.identity) == (path, f"imagenet:{path.name}")


def test_timms_cache_is_used_also_for_names_that_torchvision_shares(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    file = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    asked = []

    def cached(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(file)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    found = weights.find(Recipe(model="densenet121"))
    assert found.path == file
    assert asked == [("timm/densenet121.ra_in1k", "model.safetensors")]
    assert found.identity.startswith("imagenet:timm/densenet121.ra_in1k:")


def file_of(path: Path) -> Weights:
    return weights.find(Recipe(model=SMALL, weights=str(path)))


def body() -> torch.nn.Module:
    return models.build(Recipe(model=SMALL, pretrained=False), weights.SCRATCH, 2).body


def state_of(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone().contiguous() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("kind", ["plain", "wrapped", "parallel", "safetensors", "old", "extra"])
def test_a_file_is_loaded_however_it_was_saved(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    saved = state_of(body())
    path = tmp_path / "weights.pth"
    content: dict[str, Any] = saved
    if kind == "wrapped":
        content = {"state_dict": saved, "epoch": 3}
    elif kind == "parallel":
        content = {"model": {f"module.{name}": value for name, value in saved.items()}}
    elif kind == "old":  # before PyTorch 0.4.1 norm layers had no counter
        content = {k: v for k, v in saved.items() if not k.endswith("num_batches_tracked")}
    elif kind == "extra":
        content = {**saved, "fc.weight": torch.zeros(1000, 512), "model": "its name"}
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(saved, path)
    else:
        torch.save(content, path)
    torch.manual_seed(2)
    net = body()
    weights.load(file_of(path), net)
    loaded = net.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in saved.items())


def test_the_identity_is_of_the_content(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"one")
    copy.write_bytes(b"one")
    other.write_bytes(b"two")
    assert file_of(first).identity == file_of(copy).identity != file_of(other).identity


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="is not a file"):
        file_of(tmp_path / "none.pth")


def test_the_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state_of(timm.create_model("resnet14t", pretrained=False)), path)
    with pytest.raises(UserError, match="of another model"):
        weights.load(
            file_of(path),
            models.build(Recipe(model=weights.LITE0, pretrained=False), weights.SCRATCH, 2).body,
        )


def test_tensors_of_other_shapes_are_named(tmp_path: Path) -> None:
    state = state_of(body())
    state["conv1.0.weight"] = torch.zeros(7)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=r"conv1\.0\.weight is \(7,\), the model has \(24, 3"):
        weights.load(file_of(path), body())


class Hostile:
    """Unpickled, it writes a file: what a network file from elsewhere could do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_hostile_files_are_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {"x": torch.zeros(1), "y": Hostile(marker)}
    if kind == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="can run code"):
        weights.load(file_of(path), body())
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.load(file_of(path), body())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="contains a list, not a state dict"):
        weights.load(file_of(path), body())


# ---- files of other programs


def vary(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of the same names and shapes that differ."""
    return {name: value + 1 for name, value in tensors.items()}


def tiny() -> torch.nn.Module:
    return timm.create_model(TINY, pretrained=False, num_classes=0, global_pool="")


def under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def loaded(path: Path, model: str = TINY) -> tuple[torch.nn.Module, Any]:
    """Return a body with a file's weights, and what was taken of the file."""
    net = models.build(Recipe(model=model, pretrained=False), weights.SCRATCH, 2).body
    recipe = Recipe(model=model, weights=str(path))
    return net, weights.load(weights.find(recipe), net)


def holds(net: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    state = net.state_dict()
    return all(torch.equal(state[name], value) for name, value in tensors.items() if name in state)


def by_index(model: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return a network's tensors, and the same in a Sequential of its modules without the last."""
    net = (
        torchvision.models.get_model(model, weights=None)
        if weights.is_torchvision_resnet(model)
        else timm.create_model(model, pretrained=False, num_classes=3)
    )
    return net.state_dict(), torch.nn.Sequential(*list(net.children())[:-1]).state_dict()


@pytest.mark.parametrize(
    "prefix",
    [
        "net.",
        "encoder.",
        "_orig_mod.module.",
        "module.backbone.",
        "model.backbone.body.",
        "backbone.model.",
        "module._orig_mod.model.encoder.",
        "student.trunk.",
    ],
)
def test_one_prefix_of_all_names_is_stripped(tmp_path: Path, prefix: str) -> None:
    saved = state_of(tiny())
    head = {"head.weight": torch.zeros(3, 8), "fc.bias": torch.zeros(3)}
    path = tmp_path / "w.pth"
    for content in (under(prefix, saved) | head, {"state_dict": under(prefix, saved), "n": 3}):
        torch.save(content, path)
        net, match = loaded(path)
        assert holds(net, saved)
        assert match.prefix == prefix
        assert match.unused == (2 if content.keys() >= head.keys() else 0)


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        ("resnet18", "0."),
        (TINY, "backbone."),
        (TINY, ""),
        ("test_efficientnet", "module.encoder."),
    ],
)
def test_modules_by_index_are_those_of_a_sequential(
    tmp_path: Path, model: str, prefix: str
) -> None:
    saved, numbered = by_index(model)
    torch.save(under(prefix, numbered), tmp_path / "w.pth")
    net, match = loaded(tmp_path / "w.pth", model)
    assert holds(net, saved)
    assert (match.prefix, match.unused) == (prefix, 0)


@pytest.mark.parametrize(
    "part",
    [
        "model_state_dict",
        "net",
        "weights",
        "params",
        "network",
        "model_weights",
        "backbone",
        "teacher",
        "checkpoint.state_dict",
        "model.net",
    ],
)
def test_the_part_that_fits_is_found(tmp_path: Path, part: str) -> None:
    saved, content = state_of(tiny()), {"epoch": 3, "optimizer": {"state": {0: torch.zeros(3)}}}
    outer, _, inner = part.partition(".")
    content[outer] = {inner: saved, "lr": 0.1} if inner else saved  # type: ignore[assignment]
    torch.save(content, tmp_path / "w.pth")
    net, match = loaded(tmp_path / "w.pth")
    assert holds(net, saved)
    assert match.part == part


@pytest.mark.parametrize("part", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_where_timm_takes_them(tmp_path: Path, part: str) -> None:
    plain = state_of(tiny())
    average = vary(plain)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": plain, part: under("module.", average)}, path)
    net, match = loaded(path)
    assert holds(net, average)
    assert match.part == part
    assert file_of(path).identity.endswith(":ema")
    assert timm.models.load_state_dict(str(path)).keys() == average.keys()
    torch.save({"state_dict": plain, part: None}, path)
    assert holds(loaded(path)[0], plain)
    assert ":ema" not in file_of(path).identity


@pytest.mark.parametrize(
    ("learned", "copy"),
    [
        ("module.encoder_q.", "module.encoder_k."),
        ("module.base_encoder.", "module.momentum_encoder."),
        ("online_encoder.net.", "target_encoder.net."),
    ],
)
def test_of_a_network_and_its_slow_copy_the_network_is_taken(
    tmp_path: Path, learned: str, copy: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved = state_of(tiny())
    content = under(copy, vary(saved)) | under(learned, saved) | {"queue": torch.zeros(8, 9)}
    torch.save({"state_dict": content}, tmp_path / "w.pth")
    net, match = loaded(tmp_path / "w.pth")
    assert holds(net, saved)
    assert match.prefix == learned
    assert f"ignoring its momentum copy under 'state_dict' with the prefix '{copy}'" in caplog.text


@pytest.mark.parametrize(
    ("first", "second"), [("teacher.", "student."), ("a.", "b."), ("branch1.x.", "branch2.x.")]
)
def test_two_networks_that_both_fit_are_refused_by_name(
    tmp_path: Path, first: str, second: str
) -> None:
    saved = state_of(tiny())
    path = tmp_path / "w.pth"
    for content in (
        under(first, saved) | under(second, vary(saved)),
        {first.rstrip("."): saved, second.rstrip("."): vary(saved)},
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match="2 times, and they differ") as raised:
            loaded(path)
        assert all(repr(name.split(".")[0])[:-1] in str(raised.value) for name in (first, second))
    torch.save(under(first, saved) | under(second, saved), path)
    assert holds(loaded(path)[0], saved)  # the same twice is no question


def test_a_network_that_is_there_in_part_is_refused(tmp_path: Path) -> None:
    saved = under("backbone.", state_of(tiny()))
    path = tmp_path / "w.pth"
    name = "backbone.layer4.0.conv2.weight"
    for change, words in [
        ({name: None}, rf"{name} is missing\)"),
        ({name: torch.zeros(5)}, rf"{name} is \(5,\), the model has \(96, 96, 3, 3\)"),
    ]:
        content = {key: value for key, value in (saved | change).items() if value is not None}
        torch.save(content, path)
        with pytest.raises(UserError, match=words):
            loaded(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"a.b": torch.zeros(3), "c": torch.zeros(1)},
            r"its 2 tensors are called a\.b, c; the mod",
        ),
        (
            {"x": {"y.z": torch.zeros(3)}},
            r"its one under 'x' is called y\.z; the model's \d+ are",
        ),
        ({"epoch": 3}, "it contains no named tensors"),
        ({"state_dict": {}}, "it contains no named tensors"),
    ],
)
def test_names_that_do_not_fit_are_shown(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        loaded(tmp_path / "w.pth")


def quantised(tensor: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, kind)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (1, r"takes 1 channel, the model's 3; the rest fits.*\.repeat\(1, 3, 1, 1\) / 3"),
        (2, r"takes 2 channels, the model's 3; the rest fits"),
        (4, r"takes 4 channels, the model's 3; the rest fits"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_a_first_layer_of_other_channels_gets_a_way_on(
    tmp_path: Path, channels: int, words: str, prefix: str
) -> None:
    saved = state_of(tiny())
    first = next(iter(saved))
    kernel = saved[first]
    changed = saved | {first: torch.rand(len(kernel), channels, *kernel.shape[2:])}
    torch.save(under(prefix, changed), tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        loaded(tmp_path / "w.pth")
    if channels == 1:
        mended = changed | {first: changed[first].repeat(1, 3, 1, 1) / 3}
        torch.save(under(prefix, mended), tmp_path / "w.pth")
        assert holds(loaded(tmp_path / "w.pth")[0], mended)


@pytest.mark.parametrize("part", ["state_dict_ema", "model_ema"])
@pytest.mark.parametrize("plain", ["state_dict", "model", "net"])
def test_averaged_weights_that_do_not_fit_beside_others_that_do(
    tmp_path: Path, part: str, plain: str
) -> None:
    saved = state_of(tiny())
    other = dict(list(saved.items())[:-4])
    path = tmp_path / "w.pth"
    torch.save({plain: saved, part: other}, path)
    with pytest.raises(UserError, match=f"averaged weights, under '{part}'") as caught:
        loaded(path)
    assert f"those under '{plain}' do fit" in str(caught.value)
    assert f"torch.load(FILE, weights_only=False)['{plain}']" in str(caught.value)
    torch.save({plain: other, part: other}, path)
    with pytest.raises(UserError, match="is missing") as caught:
        loaded(path)
    assert "do fit" not in str(caught.value)


# torch warns that it will drop quantised tensors; files that hold them stay
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.to("meta"), "no numbers"),
        (lambda x: x.to(torch.int8), r"torch\.int8 numbers"),
        (lambda x: x.to(torch.complex64), r"torch\.complex64 numbers"),
        (lambda x: quantised(x, torch.qint8), r"torch\.qint8 numbers"),
        (lambda x: quantised(x, torch.quint8), r"torch\.quint8 numbers"),
        (lambda x: x * float("nan"), r"1 of its \d+ tensors contain NaN or infinite values"),
        (lambda x: x / 0, "that training diverged"),
    ],
)
def test_numbers_that_no_network_can_start_from_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    saved = state_of(tiny())
    name = max(saved, key=lambda each: saved[each].ndim)
    torch.save({"state_dict": saved | {name: change(saved[name])}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words) as caught:
        loaded(tmp_path / "w.pth")
    assert name in str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickle_protocols(tmp_path: Path, protocol: int, legacy: bool) -> None:
    saved, path = state_of(tiny()), tmp_path / "w.pth"
    torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    if protocol == 3:
        assert holds(loaded(path)[0], saved)
        return
    with pytest.raises(UserError, match=f"with `pickle_protocol={protocol}`.*Save it again"):
        loaded(path)


class Settings(dict[str, Any]):
    """A dict class of a program that is not here when the file is read."""


BESIDE: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, path=Path("a")),
    "numpy scalars": [np.float64(0.9), np.int64(3), np.bool_(True), np.str_("x")],
    "numpy arrays": [np.arange(3), np.zeros((2, 2), bool), np.array(["a"], object)],
    "paths": [Path("a/b"), PureWindowsPath("a")],
    "times": [datetime.datetime(2024, 1, 1), datetime.timedelta(1)],
    "counter": Counter("aab"),
    "plain data": [
        {1, 2},
        frozenset({3}),
        slice(1, 2),
        complex(1, 2),
        range(3),
        b"abc",
        (1, None),
    ],
    "objects": [SimpleNamespace(a=1), fractions.Fraction(1, 3), uuid.UUID(int=1)],
    "keys": {Path("a"): 1, np.int64(3): 2, (1, "a"): 3},
    "functions by name": [torch.nn.functional.relu, math.sqrt, datetime.datetime, type(None)],
    "a partial": functools.partial(math.hypot, 1),
    "dicts of other classes": [defaultdict(list, a=[1]), Settings(a=1, b=Settings(c=2))],
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_tensors_does_no_harm(
    tmp_path: Path, name: str, legacy: bool
) -> None:
    saved, path = state_of(tiny()), tmp_path / "w.pth"
    content = {"args": BESIDE[name], "state_dict": saved, "more": BESIDE[name]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    net, match = loaded(path)
    assert holds(net, saved)
    assert match.part == "state_dict"


def test_tensors_in_dicts_of_other_classes_are_found(tmp_path: Path) -> None:
    saved, path = state_of(tiny()), tmp_path / "w.pth"
    for made in (OrderedDict(saved), defaultdict(list, saved), Settings(saved)):
        torch.save(made, path)
        assert holds(loaded(path)[0], saved)
        torch.save({"state_dict": made}, path)
        assert holds(loaded(path)[0], saved)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_model_is_told_how_to_be_saved(tmp_path: Path, legacy: bool) -> None:
    layer = torch.nn.Linear(2, 2)
    torch.save(layer, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"a pickled model.*torch\.save\(model\.state_dict\(\)"):
        loaded(tmp_path / "w.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("call", [os.mkdir, eval, getattr, open, os.system, subprocess.check_call])
def test_names_that_data_never_need_are_refused(tmp_path: Path, call: Any, legacy: bool) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return call, (str(tmp_path / "ran"),)

    path = tmp_path / "w.pth"
    content = {"state_dict": state_of(tiny()), "args": Attack()}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"it names .* can run code"):
        loaded(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!doctype html><title>Sign in</title>", "an HTML page titled 'Sign in'"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "For Keras weights, use `backend: keras`"),
        (gzip.compress(b"x", mtime=0), "gunzip"),
        (pickle.dumps({"a": 1}), "a pickle. Load it with its original program"),
    ],
)
def test_well_known_other_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(words)):
        loaded(tmp_path / "w.pth")


def test_a_wrong_suffix_does_no_harm(tmp_path: Path) -> None:
    saved = state_of(tiny())
    save_file(saved, tmp_path / "w.pth")
    torch.save(saved, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert holds(loaded(tmp_path / name)[0], saved)


def test_a_file_of_torchvision_goes_through_timms_own_filter(tmp_path: Path) -> None:
    net = torchvision.models.densenet121(weights=None)
    # as its published file is named
    saved = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", k): v for k, v in net.state_dict().items()}
    torch.save({"state_dict": under("module.", saved)}, tmp_path / "w.pth")
    assert holds(loaded(tmp_path / "w.pth", "densenet121")[0], net.state_dict())
