"""Training of networks in bfloat16: close to float32, resumable, chosen once by measuring."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fgaug.core import files
from fgaug.data import open_dataset
from fgaug.data.prepare import prepare
from fgaug.errors import UserError
from gan_worker.training import precision
from gan_worker.training.folder import TrainingFolder
from gan_worker.training.images import TrainingBatches, training_images
from gan_worker.training.options import TrainingOptions, resolve
from gan_worker.training.precision import settled
from gan_worker.training.state import restore, state_of
from gan_worker.training.trainer import Trainer

TINY = {
    "batch": 8, "group_size": 4, "fmaps": 0.01, "channel_max": 16, "z_dim": 16, "w_dim": 16,
    "mapping_layers": 2, "augment": "bg", "gamma": 0.1, "p": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan") / "dataset"
    prepare(out=folder, size=16, preset="phantom", phantom={"images": 80})
    return folder


def options(**changes: Any) -> TrainingOptions:
    return resolve("auto", resolution=16, img_channels=1, changes={**TINY, **changes})


def trainer(data: Path, **changes: Any) -> Trainer:
    chosen = options(**changes)
    batches = TrainingBatches(training_images(open_dataset(data), ["trv"]), seed=chosen.seed)
    return Trainer(chosen, batches, torch.device("cpu"))


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = nn.ModuleDict({"g": trainer.generator, "d": trainer.discriminator})
    return {name: each.clone() for name, each in networks.state_dict().items()}


def test_losses_and_gradients_are_close_to_those_of_float32(data: Path) -> None:
    exact, rough = trainer(data, precision="float32"), trainer(data, precision="bfloat16")
    slopes = []
    for each in (exact, rough):
        each.generator.requires_grad_(True)
        each.discriminator.requires_grad_(True)
        reals, labels = each._reals()
        loss = each._discriminator_r1(reals, labels) + each._generator_main()
        (loss + each._generator_paths()).backward()
        parts = (each.generator.parameters(), each.discriminator.parameters())
        slopes.append([[p.grad for p in part if p.grad is not None] for part in parts])
    theirs, ours = exact.means(), rough.means()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    assert ours != theirs
    for one, other in zip(*slopes, strict=True):
        assert len(one) == len(other)
        flat, rounded = (torch.cat([each.flatten() for each in part]) for part in (one, other))
        assert torch.cosine_similarity(flat, rounded, dim=0) > 0.995
        assert rounded.dtype == torch.float32


def test_convolutions_round_and_the_images_do_not(data: Path) -> None:
    rough = trainer(data, precision="bfloat16")
    kinds: dict[str, set[torch.dtype]] = {}

    def note(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        kinds.setdefault(type(layer).__name__, set()).add(out.dtype)

    for layer in (*rough.generator.modules(), *rough.discriminator.modules()):
        if not list(layer.children()) or type(layer).__name__ in ("SynthesisLayer", "ToRgb"):
            layer.register_forward_hook(note)
    images, _, _ = rough._fakes(rough._chance("generator"), 8)
    rough._critic(images, None, rough._chance("generator"))
    assert {kind for each in kinds.values() for kind in each} == {torch.float32}
    assert {"SynthesisLayer", "ToRgb", "Convolution", "FullyConnected"} <= kinds.keys()


def test_resumed_in_bfloat16_it_ends_at_the_same_weights(data: Path) -> None:
    whole = trainer(data, precision="bfloat16")
    for _ in range(2):
        whole.step()
    state, iteration = state_of(whole), whole.iteration
    state = {name: tensor.clone() for name, tensor in state.items()}
    for _ in range(3):  # one with path lengths
        whole.step()
    resumed = trainer(data, precision="bfloat16")
    restore(resumed, state, iteration)
    for _ in range(3):
        resumed.step()
    exact = trainer(data, precision="float32")
    restore(exact, state, iteration)
    for _ in range(3):
        exact.step()
    theirs = weights_of(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in weights_of(resumed).items())
    assert any(not torch.equal(v, theirs[name]) for name, v in weights_of(exact).items())


class TestAuto:
    def settle(self, root: Path, asked: str = "auto") -> str:
        return settled(options(precision=asked), TrainingFolder(root), "cpu").precision

    def test_it_is_the_faster_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(precision, "bfloat16_unit", lambda kind: "AMX")
        for times, found in ((1.05, "float32"), (1.6, "bfloat16")):
            monkeypatch.setattr(precision, "speed", lambda *_, times=times: times)
            assert self.settle(tmp_path) == found

    def test_without_a_unit_nothing_is_measured(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precision, "bfloat16_unit", lambda kind: None)
        monkeypatch.setattr(precision, "speed", lambda *_: pytest.fail("measured"))
        assert self.settle(tmp_path) == "float32"

    def test_a_begun_training_keeps_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.write_json(tmp_path / "options.json", {"options": {"precision": "bfloat16"}})
        monkeypatch.setattr(precision, "bfloat16_unit", lambda kind: None)
        assert self.settle(tmp_path) == "bfloat16"
        assert self.settle(tmp_path, "float32") == "float32"  # and is then refused

    def test_the_speed_is_measured(self) -> None:
        chosen = options(labels=2)
        times = precision.speed.__wrapped__(
            chosen.generator(), chosen.discriminator(), images=4, kind="cpu"
        )
        assert math.isfinite(times)
        assert times > 0


def test_the_command_prints_what_was_chosen(
    fgaug: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bfloat16_unit", lambda kind: "AMX")
    monkeypatch.setattr(precision, "speed", lambda *_: 2.0)
    asked = ["gan", "train", "--dataset", data, "--out", tmp_path, "--device", "cpu", "--dry-run"]
    code, out, _ = fgaug(*asked, "--precision", "auto")
    assert code == 0
    assert "precision bfloat16" in out
    code, _, err = fgaug(*asked, "--precision", "half")
    assert code == 2
    assert "`precision` must be one of float32, mixed, bfloat16, auto, got half" in err


def test_an_unsettled_training_does_not_begin(data: Path) -> None:
    with pytest.raises(AssertionError, match="settled"):
        trainer(data, precision="auto")
    with pytest.raises(UserError, match="`precision` must be one of"):
        options(precision="tf32")
