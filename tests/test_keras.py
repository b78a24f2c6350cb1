"""Keras in its own process: networks, weights, its life and death, a search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from scipy import ndimage
from small_grid import grid, phantom_dataset

import fgaug
from fgaug.core import cluster
from fgaug.data import open_dataset
from fgaug.errors import GridError, TrialError, UserError
from fgaug.grid.load import parse_space
from fgaug.grid.recipe import Budget, Recipe
from fgaug.runs.results import load_predictions, load_results
from fgaug.study import estimate, search
from fgaug.training.images import Images
from fgaug.training.keras import applications, process
from fgaug.training.keras.learner import KerasLearner
from fgaug.training.keras.process import Settings, process_for
from fgaug.training.pytorch import models
from fgaug.training.pytorch.fine_tuning import predict
from fgaug.training.weights import SCRATCH

ROOT = Path(__file__).parent.parent
SETTINGS = Settings(device="cpu", gpu_share=1.0, threads=torch.get_num_threads())
SMALL = {"hidden": 8, "freeze_below": 17}  # of VGG16: its last convolution and the head learn


def recipe(model: str = "VGG16", **changes: Any) -> Recipe:
    given = {"backend": "keras", "model": model, "pretrained": False, "batch_size": 8, **changes}
    return Recipe.model_validate(given)


def learner_of(its: Recipe, size: int = 32, channels: int = 1) -> KerasLearner:
    learner = KerasLearner(its, ("a", "b"), 5, "cpu")
    learner.open_for(size, channels)
    return learner


@pytest.fixture(scope="module")
def images() -> Images:
    draw = np.random.RandomState(0)
    coarse = draw.randint(0, 256, (24, 4, 4, 1)).repeat(8, axis=1).repeat(8, axis=2)
    drawn = (coarse * draw.uniform(0.1, 1, (24, 1, 1, 1))).astype(np.uint8)
    none = np.zeros(24, np.int64)
    return Images(sources=[drawn], source=none, row=np.arange(24), label=np.arange(24) % 2)


@pytest.fixture(scope="module", autouse=True)
def _no_process_left() -> Iterator[None]:
    yield
    process.shut_down()


def test_bfloat16_computes_in_it_and_keeps_float32_weights(images: Images) -> None:
    exact, rough = (learner_of(recipe(precision=kind)) for kind in ("float32", "bfloat16"))
    same, weights = exact.weights(), rough.weights()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(same[name], value) for name, value in weights.items())
    one, other = exact.predict(images), rough.predict(images)
    assert 0 < np.abs(one - other).max() < 0.05
    rough.close()
    again = learner_of(recipe())  # must not reuse the steps compiled for bfloat16
    assert np.array_equal(again.predict(images), one)


def test_the_known_names_are_keras_own() -> None:
    assert list(applications.APPLICATIONS) == process_for(SETTINGS).ask("applications")


def test_what_the_source_froze_learns_not() -> None:
    """The counts of the breast-ultrasound study's network."""
    learner = learner_of(recipe("InceptionResNetV2", keras={"freeze_below": 775}), size=96)
    assert learner.sizes() == {"layers": 783, "parameters": 55_912_674, "trainable": 5_735_010}


@pytest.mark.slow
def test_the_momentum_of_batch_normalizations(images: Images) -> None:
    """One step from 0: the moving mean is (1 - momentum) of the batch's."""
    means = {}
    for momentum in ("none", 0.5):
        its = recipe("MobileNetV3Small", keras={"hidden": 8, "norm_momentum": momentum})
        learner = learner_of(its)
        list(learner.train(images, images, Budget(unit="steps", max=2, evaluations=1), 1))
        means[momentum] = learner.weights()["conv_bn/moving_mean"]
    assert np.abs(means["none"]).max() > 0
    two = {momentum: 1 - (momentum if momentum != "none" else 0.999) ** 2 for momentum in means}
    ratio = means[0.5] / means["none"]
    np.testing.assert_allclose(ratio, two[0.5] / two["none"], rtol=0.2)


def test_both_libraries_answer_alike_with_the_same_weights(images: Images) -> None:
    """Convolutions of all kinds, norms, gates, pooling and the head, through both predicts."""
    settings = {"hidden": models.HIDDEN, "scaling": "model"}
    learner = learner_of(recipe("EfficientNetB0", keras=settings))
    tensors = learner.weights()
    twin = models.build(
        Recipe(model="tf_efficientnet_b0", pretrained=False), SCRATCH, labels=2
    ).eval()
    slots = copied(tensors, twin)
    norms = [each for each in twin.body.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():  # norms that have seen images: else nothing of them reaches the end
        x = torch.from_numpy(images.take(np.arange(24))).permute(0, 3, 1, 2) / 255
        twin.body.train().forward_features(x.repeat(1, 3, 1, 1))
    for name in tensors:
        if name.endswith(("moving_mean", "moving_variance")):
            tensors[name] = slots[name].numpy().copy()
    learner.load_weights(tensors)
    ours = predict(twin, images, 8, torch.device("cpu"))
    theirs = learner.predict(images)
    assert np.ptp(theirs[:, 0]) > 0.01
    # float32 through 16 blocks: 1.5e-4 apart on a processor without AVX-512, below 1e-4 with it
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)


def copied(tensors: dict[str, np.ndarray], twin: models.Classifier) -> dict[str, torch.Tensor]:
    """Give a PyTorch network the weights of a Keras one of the same layers in the same order.

    Returns the body's tensors by Keras's names.
    """
    body = [
        module
        for module in twin.body.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.BatchNorm2d))
    ]
    slots = [slot for module in body for slot in _slots(module)]
    ours = {n: v for n, v in tensors.items() if not n.startswith(("normalization", "head_"))}
    with torch.no_grad():
        for slot, (name, value) in zip(slots, ours.items(), strict=True):
            array = value
            if value.ndim == 4:
                array = value.transpose((2, 3, 0, 1) if "dwconv" in name else (3, 2, 0, 1))
            assert slot.shape == array.shape, name
            slot.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        first, second = twin.head[1], twin.head[5]
        for norm in (first, second):
            norm.bias.zero_()
            norm.running_var.fill_(1 - norm.eps)
        inner, last = twin.head[3], twin.head[7]
        features = inner.in_features // 2
        inner.weight.zero_()  # the maximum's half; the average's is Keras's
        inner.weight[:, features:] = torch.from_numpy(tensors["head_hidden/kernel"].T.copy())
        last.weight.copy_(torch.from_numpy(tensors["head_logits/kernel"].T.copy()))
    return dict(zip(ours, slots, strict=True))


def _slots(module: Any) -> list[torch.Tensor]:
    if isinstance(module, torch.nn.BatchNorm2d):
        return [module.weight, module.bias, module.running_mean, module.running_var]
    return [module.weight] if module.bias is None else [module.weight, module.bias]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body in every format that Keras writes, and one with its top."""
    folder = tmp_path_factory.mktemp("keras weights")
    code = """
import os, sys, numpy as np, keras
os.chdir(sys.argv[1])
body = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
np.savez("body.npz", **{each.path: each.numpy() for each in body.weights})
body.save("body.keras"); body.save_weights("body.weights.h5"); body.save("body.h5")
whole = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3))
whole.set_weights([*body.get_weights(), *whole.get_weights()[len(body.get_weights()):]])
whole.save_weights("whole.weights.h5")

import tensorflow as tf
from fgaug.training.keras.augmentation import shifted_and_flipped
images = np.random.RandomState(0).uniform(0, 255, (40, 12, 10, 3)).astype(np.float32)
seed = tf.constant([7, 3])
made = {f"made_{s}_{f}": shifted_and_flipped(tf.constant(images), s, f, seed)
        for s in (0.0, 0.3) for f in (False, True)}
draws = tf.random.stateless_uniform([3, 40], seed=seed)
np.savez("augmented.npz", images=images, draws=draws, **made)
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
    )
    return folder


class TestWeights:
    @pytest.mark.parametrize(
        "name", ["body.keras", "body.weights.h5", "body.h5", "whole.weights.h5"]
    )
    def test_a_file_of_keras_fills_the_body(self, files: Path, name: str) -> None:
        its = recipe("MobileNet", pretrained=True, weights=str(files / name))
        learner = learner_of(its)
        assert learner.identity.startswith("file:")
        found, wanted = learner.weights(), np.load(files / "body.npz")
        assert set(found) - set(wanted) == {
            f"head_{part}/{kind}" for part in ("hidden", "logits") for kind in ("kernel", "bias")
        }
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])

    def test_another_models_file_is_refused(self, files: Path) -> None:
        its = recipe("VGG16", pretrained=True, weights=str(files / "body.h5"))
        with pytest.raises(UserError, match=r"of another model .* file for `recipe.model`, or"):
            learner_of(its)

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "w.pt").write_bytes(b"weights")
        its = recipe(pretrained=True, weights=str(tmp_path / "w.pt"))
        with pytest.raises(GridError, match=r"is not one of \.h5, \.keras"):
            learner_of(its)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_augmentation_shifts_and_mirrors_as_the_source(
    files: Path, shift: float, flip: bool
) -> None:
    """Against SciPy, which the source's ImageDataGenerator moved pixels with."""
    arrays = np.load(files / "augmented.npz")
    images, (down, right, side) = arrays["images"], arrays["draws"]
    made = arrays[f"made_{shift}_{flip}"]
    mirrored = 0
    for index, image in enumerate(images):
        by = (-(2 * down[index] - 1) * shift * 12, -(2 * right[index] - 1) * shift * 10, 0)
        moved = ndimage.shift(image, by, order=1, mode="nearest")
        if flip and side[index] < 0.5:
            moved, mirrored = moved[:, ::-1], mirrored + 1
        np.testing.assert_allclose(made[index], moved, atol=1e-2)
    assert mirrored == 0 or 10 < mirrored < 30
    assert bool(mirrored) == flip


class TestNetworks:
    def test_a_size_that_a_model_does_not_take(self) -> None:
        with pytest.raises(
            GridError, match=r"refuses images of 32 px: .* smallest size that works is 75 px"
        ):
            learner_of(recipe("InceptionResNetV2"), size=32)

    def test_more_layers_frozen_than_there_are(self) -> None:
        with pytest.raises(GridError, match=r"`recipe\.keras\.freeze_below` is 99"):
            learner_of(recipe(keras={"freeze_below": 99}))

    def test_without_a_hidden_layer(self) -> None:
        learner = learner_of(recipe(keras={"hidden": None}))
        heads = {name: v.shape for name, v in learner.weights().items() if "head_" in name}
        assert heads == {"head_logits/kernel": (512, 2), "head_logits/bias": (2,)}

    def test_frozen_layers_stay_and_the_others_move(self, images: Images) -> None:
        learner = learner_of(recipe(keras=SMALL))
        before = learner.weights()
        list(learner.train(images, images, Budget(unit="steps", max=2, evaluations=1), 1))
        moved = {n for n, v in learner.weights().items() if not np.array_equal(v, before[n])}
        assert {name.split("/")[0] for name in moved} == {
            "block5_conv3",
            "head_hidden",
            "head_logits",
        }

    def test_a_second_training_starts_from_the_weights_of_the_first(self, images: Images) -> None:
        learner, budget = learner_of(recipe(keras=SMALL)), Budget(unit="steps", max=2)
        first = learner.train(images, images, budget, 1)
        list(first)
        left = first.finish()
        np.testing.assert_array_equal(learner.predict(images), left.valid_probability)
        second = learner.train(images, images, budget, 2)
        points = list(second)
        assert [point.step for point in points] == [1, 2]
        assert points[-1].images_seen == 16

    def test_what_a_recipe_takes_is_measured(self, tmp_path: Path) -> None:
        dataset = open_dataset(phantom_dataset(tmp_path))
        found = estimate.measure(recipe(keras=SMALL), dataset, threads=SETTINGS.threads)
        assert found.train_per_s > 0
        assert found.memory_bytes > 200e6  # TensorFlow's process is counted
        assert found.gpu_bytes is None


class TestLife:
    def test_neither_library_is_in_the_others_process(self) -> None:
        there = psutil.Process(process_for(SETTINGS).pid)
        loaded = " ".join(one.path for one in there.memory_maps())
        assert "tensorflow" in loaded
        assert "libtorch" not in loaded
        assert "tensorflow" not in sys.modules

    def test_one_process_serves_all_learners(self) -> None:
        first, second = (learner_of(recipe(keras=SMALL)) for _ in range(2))
        assert first._process is second._process
        first.close()
        assert second.sizes()["layers"] == 22

    def test_a_process_that_dies_fails_one_trial_and_the_next_has_another(
        self, images: Images
    ) -> None:
        learner = learner_of(recipe(keras=SMALL))
        pid = learner._process.pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TrialError, match="trial's TensorFlow process ended by signal 9"):
            learner.predict(images)
        again = learner_of(recipe(keras=SMALL))
        assert again._process.pid != pid
        assert again.predict(images).shape == (24, 2)

    @pytest.mark.slow
    def test_it_does_not_outlive_a_parent_that_is_killed(self) -> None:
        code = (
            "import sys; from fgaug.training.keras.process import Settings, process_for\n"
            "how = Settings(device='cpu', gpu_share=1.0, threads=1)\n"
            "print(process_for(how).pid, flush=True); sys.stdin.read()"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
        gone, alive = psutil.wait_procs([child], timeout=30)
        assert (len(gone), alive) == (1, [])


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_trains_keras_cells(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    given = recipe(keras=SMALL).model_dump(exclude_none=True)
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}
    fold = {**SMALL, "validate_on": "training_fold"}
    space = parse_space(grid(tmp_path, recipe=given, axes={**axes, "recipe.keras": [SMALL, fold]}))
    with cluster.started(cpus=1, dashboard=False):
        assert fgaug.search(space, tmp_path / "run").ok == 4
    rows = load_results(tmp_path / "run")
    by_fold = rows["recipe.keras"].str.contains("training_fold")
    assert set(rows.loc[by_fold, "leakage"]) == {"by_choice"}
    assert set(rows.loc[~by_fold, "leakage"]) == {"none"}
    assert set(rows["images_seen"]) == {32}
    found = load_predictions(tmp_path / "run")
    assert found.groupby("cell_id").size().nunique() == 1
    assert search.search(space, tmp_path / "run").ok == 4  # nothing is trained again
