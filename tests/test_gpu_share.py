"""The memory cap of a trial that holds a fraction of a GPU; a stand-in takes the place of CUDA.

`tests/test_gpu.py` proves the same on a real card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_grid import grid, phantom_dataset

from fgaug.errors import TrialError
from fgaug.grid.cells import to_dict
from fgaug.grid.load import parse_space
from fgaug.grid.recipe import Budget, Recipe
from fgaug.study import planner
from fgaug.study.tune import worker
from fgaug.study.tune.settings import SearchSettings
from fgaug.training import images as images_module
from fgaug.training.gpu_share import cap_memory, out_of_memory
from fgaug.training.images import RESIDENT_BYTES, Images, resident_bytes
from fgaug.training.pytorch.fine_tuning import FineTuning
from fgaug.training.pytorch.learner import TorchLearner
from fgaug.training.pytorch.models import Classifier

RECIPE = {
    "model": "mobilenetv3_small_050",
    "pretrained": False,
    "augmentation": "none",
    "batch_size": 8,
}
Calls = list[tuple[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Record the cap and the first copy to the GPU, in order; the model stays on the CPU.

    Any other allocation on the GPU fails here, because there is none.
    """
    seen: Calls = []

    def capped(share: float, device: int | None = None) -> None:
        assert isinstance(share, float), "torch refuses an integer"
        assert device is None or isinstance(device, int), "torch refuses a device without an index"
        seen.append(("cap", share))

    to = Classifier.to

    def moved(model: Classifier, *places: torch.device, **formats: Any) -> Classifier:
        seen.extend(("to", str(place)) for place in places)
        return to(model, **formats) if formats else model

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", capped)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(Classifier, "to", moved)
    return seen


def noise(count: int) -> Images:
    pixels = np.random.RandomState(0).randint(0, 255, (count, 32, 32, 1), dtype=np.uint8)
    places = np.arange(count)
    return Images(sources=[pixels], source=np.zeros(count, int), row=places, label=places % 2)


@pytest.mark.parametrize(("share", "cap"), [(0.25, 0.25), (0.3333, 0.3333), (1, 1.0), (2, 1.0)])
def test_the_share_is_the_cap_and_comes_before_the_first_allocation(
    calls: Calls, share: float, cap: float
) -> None:
    TorchLearner(Recipe.model_validate(RECIPE), ("a", "b"), 0, "cuda", share)
    assert calls == [("cap", cap), ("to", "cuda")]


def test_a_cpu_has_no_cap(calls: Calls) -> None:
    TorchLearner(Recipe.model_validate(RECIPE), ("a", "b"), 0, "cpu", 0.25)
    assert calls == [("to", "cpu")]


def test_a_later_trial_of_the_process_gets_its_own_cap(calls: Calls) -> None:
    for share in (0.25, 0.5, 1, 0.25):
        cap_memory(share, torch.device("cuda:1"))
    assert calls == [("cap", 0.25), ("cap", 0.5), ("cap", 1.0), ("cap", 0.25)]


def test_a_batch_beyond_the_cap_is_split(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU for ten images at a time: half of it takes five of a batch of eight, a tenth one."""
    forward = Classifier.forward

    def limited(model: Classifier, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 10 * calls[0][1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, x)

    monkeypatch.setattr(Classifier, "forward", limited)

    def begun(share: float) -> FineTuning:
        calls.clear()
        learner = TorchLearner(Recipe.model_validate(RECIPE), ("a", "b"), 0, "cuda", share)
        learner.device = torch.device("cpu")  # where the stand-in computes
        return learner.train(noise(16), noise(4), Budget(unit="steps", max=2), 0)

    training = begun(0.5)
    assert [point.step for point in training][-1] == 2
    result = training.finish()
    assert (result.micro_batch, result.oom_events) == (4, 1)
    with pytest.raises(
        TrialError, match=r"2 images at a time\. The trial may use 0\.1 of the GPU"
    ):
        list(begun(0.1))


def test_the_error_names_the_share_and_the_cure() -> None:
    assert str(out_of_memory(0.25, 2)) == (
        "Out of memory with 2 images at a time. The trial may use 0.25 of the GPU's memory: its "
        "share of the GPU (`resources.gpu`) is also its cap. Raise `resources.gpu`, so that fewer "
        "trials share a GPU, or use smaller images or a smaller model."
    )
    assert "`resources.gpu`" not in str(out_of_memory(1, 2))
    assert "a smaller `recipe.batch_size`" in str(out_of_memory(0.25))


class TestPixels:
    """Pixels that a trial keeps on the GPU make room before a batch is split."""

    def test_a_set_that_does_not_fit_is_copied_batch_by_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = []

        def copied(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
            tries.append(len(pixels))
            if len(pixels) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return torch.from_numpy(pixels).permute(0, 3, 1, 2)

        monkeypatch.setattr(images_module, "_to_device", copied)
        some, index = noise(6), np.array([5, 0])
        for _ in range(2):
            batch = some.batch(index, torch.device("cuda"))
            assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), some.take(index))
        assert tries == [6, 2, 2]  # the whole set is tried once
        assert not some.release()

    def test_they_are_released_before_a_batch_is_split(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train, valid = noise(16), noise(4)
        forward = Classifier.forward

        def limited(model: Classifier, x: torch.Tensor) -> torch.Tensor:
            if any(each._cache.get("pixels") is not None for each in (train, valid)):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(model, x)

        results = []
        for kept in (False, True):
            learner = TorchLearner(Recipe.model_validate(RECIPE), ("a", "b"), 0, "cpu", 0.25)
            if kept:
                train._cache["pixels"] = valid._cache["pixels"] = torch.zeros(1)
                monkeypatch.setattr(Classifier, "forward", limited)
            training = learner.train(train, valid, Budget(unit="steps", max=2), 0)
            assert list(training)
            results.append(training.finish())
        whole, released = results
        assert (released.micro_batch, released.oom_events) == (8, 0)
        assert np.array_equal(released.valid_probability, whole.valid_probability)

    def test_only_sets_up_to_a_limit_are_kept(self) -> None:
        assert resident_bytes(10, (4, 4, 3)) == 480
        assert resident_bytes(RESIDENT_BYTES, (1, 1, 1)) == RESIDENT_BYTES
        assert resident_bytes(RESIDENT_BYTES + 1, (1, 1, 1)) == 0


class TestWorker:
    """A worker trains one cell after the other, each under the cap of its share."""

    @pytest.fixture
    def started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        phantom_dataset(tmp_path)
        planned = planner.plan(
            parse_space(grid(tmp_path, axes={"mode": ["baseline"], "seed": [1, 2]})),
            tmp_path / "run",
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

        def begun(share: float) -> tuple[worker.CellTrainable, list[str]]:
            ids = [cell.cell_id for cell in planned.cells]
            settings = SearchSettings(
                run=planned.run.root,
                run_uri=None,
                cells={cell.cell_id: to_dict(cell) for cell in planned.cells},
                sources=dict(planned.sources),
                cpu=1,
                gpu=share,
                deadline=None,
                stop_name="stop",
                keep_models="none",
                keep=frozenset(),
                levels=(),
            )
            trainable = worker.CellTrainable.__new__(worker.CellTrainable)  # without Ray
            trainable.setup({"cell_id": ids[0], "until": 1.0}, settings)
            return trainable, ids

        return begun

    def test_each_cell_is_capped(
        self, started: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved = Classifier.to

        def full(model: Classifier, *places: torch.device, **formats: Any) -> Classifier:
            moved(model, *places, **formats)
            if places:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return model

        monkeypatch.setattr(Classifier, "to", full)
        trainable, (_, second) = started(0.25)
        first = trainable.step()
        assert first["status"] == "failed"
        assert first["error"] == str(out_of_memory(0.25))
        assert trainable.reset_config({"cell_id": second, "until": 1.0})
        trainable.step()
        assert calls == 2 * [("cap", 0.25), ("to", "cuda")]

    @pytest.mark.parametrize(("backend", "ended"), [("torch", 1), ("keras", 0)])
    def test_the_memory_of_an_earlier_keras_cell_is_returned(
        self, started: Any, monkeypatch: pytest.MonkeyPatch, backend: str, ended: int
    ) -> None:
        """TensorFlow keeps what it has taken until its process ends."""
        count = []
        monkeypatch.setattr(worker, "shut_down", lambda: count.append(1))
        worker._forget_previous_trial("cuda", backend)
        assert len(count) == ended
        worker._forget_previous_trial("cpu", backend)
        assert len(count) == ended
