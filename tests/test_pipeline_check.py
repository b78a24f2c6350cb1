"""Albumentations pipelines of a grid: nested steps, and each step tried before anything trains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from small_grid import phantom_dataset, write_grid

from fgaug.errors import GridError
from fgaug.grid.cells import recipe_identity
from fgaug.grid.recipe import Recipe
from fgaug.training.pytorch import augmentation, pipeline_check
from fgaug.training.pytorch.pipelines import composed, members, pipeline

CPU = torch.device("cpu")
Step = dict[str, dict[str, Any]]


def step(_name: str, **options: Any) -> Step:
    return {_name: options}


def images(channels: int = 1, size: int = 32) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (2, size, size, channels)).astype(np.uint8)


def refused(*steps: Step, channels: int = 1) -> tuple[str, ...]:
    with pytest.raises(GridError) as caught:
        pipeline_check.check(steps, images(channels))
    return caught.value.problems


NESTED = (
    step(
        "OneOf",
        transforms=[
            step("GaussianBlur"),
            step("Sequential", transforms=[step("HorizontalFlip"), step("GaussNoise")], p=1),
        ],
        p=0.7,
    ),
    step("SomeOf", transforms=[step("Affine"), step("Blur"), step("Sharpen")], n=2),
    step("OneOrOther", first=step("VerticalFlip"), second=step("RandomGamma"), p=0.3),
    step("RandomOrder", transforms=[step("Rotate"), step("MotionBlur")], n=2),
)


@pytest.mark.parametrize("channels", [1, 3])
def test_nested_groups_are_read_and_tried(channels: int) -> None:
    assert pipeline_check.check(NESTED, images(channels)) == []


def test_a_nested_pipeline_draws_the_same_after_a_restart() -> None:
    batch = torch.from_numpy(images(size=24)).permute(0, 3, 1, 2)
    first = augmentation.build(Recipe(augmentation=NESTED), 5, CPU)
    for _ in range(3):
        first(batch)
    state = first.state()
    expected = [first(batch) for _ in range(4)]
    second = augmentation.build(Recipe(augmentation=NESTED), 99, CPU)
    second.restore(state)
    assert all(torch.equal(one, second(batch)) for one in expected)


def test_every_member_of_a_nested_pipeline_has_its_stream_kept() -> None:
    leaves = [member for member in members(pipeline(NESTED, 1)) if not hasattr(member, "p")]
    assert leaves == []
    assert len([*members(pipeline(NESTED, 1))]) == 1 + 4 + 4 + 3 + 2 + 2


def test_the_place_in_a_flat_pipelines_streams_is_written_as_ever() -> None:
    """A checkpoint of an earlier version holds the pipeline, then its steps."""
    flat = augmentation.build(Recipe(augmentation=(step("Blur"), step("Rotate"))), 5, CPU)
    assert isinstance(flat, augmentation.Albumentations)
    assert [*members(flat.pipeline)] == [flat.pipeline, *flat.pipeline.transforms]


@pytest.mark.parametrize(
    "rare",
    [
        step("RandomRain", p=0.01),
        step("OneOf", transforms=[step("Blur"), step("ISONoise", p=0.001)], p=0.02),
        step("SomeOf", transforms=[step("Blur"), step("RandomFog"), step("Rotate")], n=2, p=0.01),
        step("OneOrOther", first=step("Blur"), second=step("ChromaticAberration"), p=0.999),
        step(
            "Sequential",
            transforms=[step("OneOf", transforms=[step("Blur"), step("Spatter", p=0.01)])],
            p=0.01,
        ),
    ],
)
def test_a_step_that_fails_on_grey_is_found_however_rare(rare: Step) -> None:
    (problem,) = refused(step("HorizontalFlip"), rare)
    assert "fails on an image of 32 px and 1 channel: its step" in problem
    assert "3-channel" in problem
    assert pipeline_check.check((step("HorizontalFlip"), rare), images(3)) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([step("RandomCropFromBorders", p=0.01)], "since its step RandomCropFromBorders"),
        ([step("RandomScale", p=0.01), step("Blur")], "since its step RandomScale"),
        # the size comes back only where both are drawn
        (
            [step("CenterCrop", height=20, width=20), step("Resize", height=32, width=32, p=0.99)],
            "must keep the image size",
        ),
        ([step("OneOf", transforms=[step("Blur"), step("Normalize")], p=0.01)], "float32"),
        ([step("TimeMasking", p=0.01)], "valid range"),
        ([step("Crop", x_max=400, y_max=400, p=0.01)], "its step Crop"),
    ],
)
@pytest.mark.filterwarnings("ignore:TimeMasking is a specialized")  # albumentations' advice
def test_sizes_and_types_that_change_now_and_then(steps: list[Step], words: str) -> None:
    (problem,) = refused(*steps)
    assert words in problem


def test_a_size_that_comes_back_is_none_of_our_business() -> None:
    there_and_back = (
        step("RandomCrop", height=24, width=24, p=1),
        step("Blur", p=0.5),
        step("Resize", height=32, width=32, p=1),
    )
    assert pipeline_check.check(there_and_back, images()) == []


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("HistogramMatching", "hm_metadata"),
        ("MaskDropout", "mask"),
        ("BBoxSafeRandomCrop", "bboxes"),
        ("Mosaic", "mosaic_metadata"),
        ("CubicSymmetry", "volume"),
    ],
)
def test_what_needs_more_than_an_image_is_refused(name: str, needed: str) -> None:
    (problem,) = refused(step(name, p=0.1))
    assert f"{name} needs `{needed}` in addition to the image" in problem


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (step("OneOff", transforms=[]), "did you mean `OneOf`?"),
        (step("OneOf", transform=[step("Blur")]), "no option `transform`, did you mean"),
        (step("OneOf", transforms=[]), "needs a list of steps"),
        (step("OneOf", transforms=["Blur"]), "each step is one `Name: {options}`, got 'Blur'"),
        (step("OneOf", transforms=[{"Blur": None}]), "Blur takes a mapping of options"),
        (step("OneOf", transforms=[step("Blur", p=0)]), "all of them are 0"),
        (step("OneOf", transforms=[step("Blur")], p=3), "must be between 0 and 1, got 3"),
        (step("SomeOf", transforms=[step("Blur")], n=2), "applies `n: 2` of 1 steps"),
        (
            step("SomeOf", transforms=[step("Blur")], n=True),
            "whole number of at least 1, got True",
        ),
        (step("OneOrOther", transforms=[step("Blur")]), "needs two steps"),
        (step("Sequential", transforms=[step("Rotat")]), "did you mean `Rotate`?"),
        (step("GaussianBlur", blur_limits=3), "did you mean `blur_limit`?"),
    ],
)
def test_names_and_options_are_as_strict_inside_groups(bad: Step, words: str) -> None:
    assert words in " ".join(refused(bad))


def test_channels_may_change_for_every_image_alone() -> None:
    assert pipeline_check.check((step("ToRGB", p=1), step("RandomRain")), images()) == []
    assert "1 or 3 channels" in refused(step("ToRGB", p=0.5))[0]
    assert (
        "1 or 3 channels" in refused(step("ToGray", p=0.5, num_output_channels=1), channels=3)[0]
    )


def test_a_step_that_does_nothing_is_warned_of() -> None:
    (remark,) = pipeline_check.check((step("ConstrainedCoarseDropout", p=0.1),), images())
    assert "ConstrainedCoarseDropout: Neither valid mask nor bboxes" in remark


def test_dry_run_and_search_refuse_the_same(fgaug: Any, tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    recipe = {"model": "mobilenetv3_small_050", "pretrained": False, "batch_size": 16}
    rare = [step("OneOf", transforms=[step("Blur"), step("RandomSnow")], p=0.01)]
    path = write_grid(tmp_path, recipe={**recipe, "augmentation": rare})
    dry = fgaug("search", path, "--dry-run")
    real = fgaug("search", path, "--out", tmp_path / "run")
    assert dry == real
    assert dry[0] == 2
    assert "its step RandomSnow" in dry[2]
    assert not (tmp_path / "run").exists()


class TestStreams:
    """Each step draws for itself: a common seed would tie steps together."""

    FLIPS = (step("HorizontalFlip", p=0.5), step("VerticalFlip", p=0.5))
    GROUPED = (step("Sequential", transforms=[*FLIPS], p=1),)
    BEHIND_A_CHOICE = (
        step("OneOf", transforms=[step("Transpose"), step("HorizontalFlip")], p=1),
        step("VerticalFlip", p=0.5),
    )
    ROTATED = (step("Transpose", p=0.5), step("InvertImg", p=0.5))

    @staticmethod
    def outcomes(steps: tuple[Step, ...], seeds: int, draws: int) -> Counter[bytes]:
        """Return how often each outcome was drawn from one image."""
        image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
        found = (pipeline(steps, seed) for seed in range(seeds))
        return Counter(
            whole(image=image)["image"].tobytes() for whole in found for _ in range(draws)
        )

    @pytest.mark.parametrize("steps", [FLIPS, GROUPED, BEHIND_A_CHOICE, ROTATED])
    @pytest.mark.parametrize(("seeds", "draws"), [(1, 400), (200, 1)])
    def test_two_steps_of_one_half_give_four_outcomes(
        self, steps: tuple[Step, ...], seeds: int, draws: int
    ) -> None:
        counts = self.outcomes(steps, seeds, draws)
        assert len(counts) == 4  # 2 where all steps have one seed
        assert min(counts.values()) > 0.15 * seeds * draws

    def test_one_step_draws_as_albumentations_does(self) -> None:
        """Pipelines of one step were right, and their cells keep name and numbers."""
        ours, plain = pipeline((step("Rotate"),), 7), composed([albumentations.Rotate()])
        plain.set_random_seed(7)
        (image, _) = images()
        for _ in range(5):
            assert np.array_equal(ours(image=image)["image"], plain(image=image)["image"])

    @pytest.mark.parametrize(
        ("augmentation", "apart"),
        [
            ("none", False),
            ("fastai", False),
            ((step("Rotate"),), False),
            (FLIPS, True),
            (GROUPED, True),
            ((step("OneOrOther", first=step("Blur"), second=step("Rotate")),), True),
        ],
    )
    def test_cells_have_new_names_only_where_numbers_changed(
        self, augmentation: Any, apart: bool
    ) -> None:
        recipe = Recipe(augmentation=augmentation)
        identity = recipe_identity(recipe, {recipe.model_dump_json(): "w"})
        assert ("augmentation_streams" in identity) == apart
