"""Pretrained weights: local places only, the right network only, no pickled code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fgaug.errors import GridError, UserError
from fgaug.recipe import Recipe
from fgaug.training import models, weights
from fgaug.training.weights import Weights

SMALL = "resnet10t"
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
    for cure in ("nothing is downloaded", "`recipe.weights: FILE`", "`pretrained: false`"):
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
    with pytest.raises(UserError, match="holds a list, not a state dict"):
        weights.load(file_of(path), body())
