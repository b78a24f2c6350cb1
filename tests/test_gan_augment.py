"""The ADA pipe: against images of the official program, a slow twin and finite differences."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gan_worker
from gan_worker.training.affine_warp import SYM6, warped
from gan_worker.training.augment import AugmentPipe
from gan_worker.training.transforms import Draws, Parameters, Transforms, parameters

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
QUANTILES = (0.05, 0.3, 0.5, 0.8, 0.95)
# one value that is no special case, for each transform alone; two images get different ones
ALONE = {
    "xflip": {"xflip": (1, 0)},
    "rotate90": {"rotate90": (1, 2)},
    "xint": {"xint_x": (2, -1), "xint_y": (-3, 1)},
    "scale": {"scale": (1.3, 0.8)},
    "rotate": {"rotate": (0.4, -2.1)},
    "aniso": {"aniso": (0.75, 1.4)},
    "rotate_post": {"rotate_post": (-0.7, 2.6)},
    "xfrac": {"xfrac_x": (0.3, -1.6), "xfrac_y": (-0.9, 2.2)},
    "brightness": {"brightness": (0.3, -0.2)},
    "contrast": {"contrast": (1.5, 0.6)},
    "lumaflip": {"lumaflip": (1, 0)},
    "hue": {"hue": (0.9, -2.4)},
    "saturation": {"saturation": (0.4, 2.2)},
}
COLOURS = ("brightness", "contrast", "lumaflip", "hue", "saturation")


def of(*, colour: bool = False, **values: tuple[float, ...]) -> Transforms:
    """Return transforms in which all but the given parameters are neutral."""
    count = len(next(iter(values.values())))
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    changed = dataclasses.replace(Parameters.neutral(count), **given)
    return Transforms.of(changed, colour=colour)


def pipe_at(p: float, groups: str = "bgc", resolution: int = 16, channels: int = 3) -> AugmentPipe:
    pipe = AugmentPipe(groups, resolution=resolution, img_channels=channels)
    pipe.p.fill_(p)
    return pipe


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(count: int, channels: int, size: int) -> Tensor:
    """Return images without fine detail, which resampling leaves nearly as they are."""
    coarse = noise(count, channels, 4, 4)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("q", QUANTILES)
@pytest.mark.parametrize(("name", "groups", "label"), [("a", "bg", None), ("c", "bgc", 0)])
def test_all_transforms_together_match_the_official_program(
    name: str, groups: str, label: int | None, q: float
) -> None:
    generator = gan_worker.load_generator(GOLDENS / f"{name}.pkl", noise_mode="const")
    images = torch.from_numpy(generator.synthesize([0, 1], psi=1, label=label))
    pipe = AugmentPipe(groups, resolution=images.shape[3], img_channels=images.shape[1])
    ours = pipe.transformed(images, pipe.quantile(2, q))
    with np.load(GOLDENS / "training" / f"{name}.npz") as goldens:
        theirs = torch.from_numpy(goldens[f"aug_pct{q}"])
    assert (ours - theirs).abs().max() <= 1e-4  # 1e-3 is asked for


def test_the_filter_is_an_orthogonal_wavelet_of_six_vanishing_moments() -> None:
    taps = np.array(SYM6)
    assert taps.sum() == pytest.approx(math.sqrt(2), abs=1e-12)
    products = np.correlate(taps, taps, "full")[11::2]  # with itself, moved by 0, 2, 4, ...
    np.testing.assert_allclose(products, [1, 0, 0, 0, 0, 0], atol=1e-12)
    high_pass = taps * (-1) ** np.arange(12)
    moments = [(high_pass * np.arange(12) ** power).sum() for power in range(6)]
    np.testing.assert_allclose(moments, 0, atol=1e-6)


def slowly_warped(images: Tensor, inverse: Tensor) -> Tensor:
    """Return what `warped` does by padding, strided convolutions and torch's own sampling."""
    size, margin = images.shape[3], images.shape[3] - 1
    taps = torch.tensor(SYM6, dtype=images.dtype) / 2**0.5
    kernel = torch.outer(taps, taps)[None, None]
    padded = F.pad(images, (margin,) * 4, mode="reflect")
    fine = F.conv_transpose2d(padded, 4 * kernel, stride=2)[:, :, 5:-5, 5:-5]
    number = torch.arange(-5, 2 * size + 5, dtype=images.dtype)
    y, x = torch.meshgrid(number, number, indexing="ij")
    centred = torch.stack([x / 2, y / 2, torch.zeros_like(x)], dim=-1) - (size - 1) / 2
    centred[..., 2] = 1
    source = torch.einsum("nij,yxj->nyxi", inverse.to(images), centred)[..., :2]
    index = 2 * (source + (size - 1) / 2 + margin)
    grid = (2 * index + 1) / fine.shape[3] - 1
    sampled = F.grid_sample(fine, grid, align_corners=False)
    return F.conv2d(sampled, kernel, stride=2)


@pytest.mark.parametrize("name", [name for name in ALONE if name not in COLOURS])
def test_moves_of_pixels_match_a_slow_twin(name: str) -> None:
    images, transforms = noise(2, 1, 16, 16), of(**ALONE[name])
    expected = slowly_warped(images, transforms.inverse)
    torch.testing.assert_close(warped(images, transforms.inverse), expected, atol=1e-12, rtol=0)
    assert (expected - images).abs().max() > 0.1


def test_places_beyond_the_reflection_are_black() -> None:
    images = torch.ones(2, 1, 16, 16, dtype=torch.float64)
    for transforms in (of(scale=(0.2, 1)), of(xfrac_x=(19.0, 0.0)), of(xfrac_y=(90.0, 90.0))):
        expected = slowly_warped(images, transforms.inverse)
        ours = warped(images, transforms.inverse)
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
        assert ours[0].min() < 1e-9 < 0.9 < images.min()


@pytest.mark.parametrize("name", ALONE)
def test_gradients_of_each_transform_match_finite_differences(name: str) -> None:
    colour = name in COLOURS
    transforms = of(colour=colour, **ALONE[name])
    size, channels = (4, 3) if colour else (6, 1)
    pipe = pipe_at(1, "bgc" if colour else "bg", size, channels)
    images = noise(2, channels, size, size).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: pipe.transformed(x, transforms), images)
    assert torch.autograd.gradgradcheck(lambda x: pipe.transformed(x, transforms), images)


@pytest.mark.parametrize(("groups", "channels"), [("bg", 1), ("bgc", 1), ("bgc", 3)])
def test_r1_through_all_transforms_matches_finite_differences(groups: str, channels: int) -> None:
    """The weights' gradient of a squared image gradient is what training needs."""
    pipe = pipe_at(1, groups, 6, channels)
    images = noise(2, channels, 6, 6).requires_grad_(True)
    transforms = pipe.draw(2, torch.Generator().manual_seed(3))

    def penalty(weight: Tensor) -> Tensor:
        logits = F.conv2d(pipe.transformed(images, transforms), weight).tanh().sum()
        (slopes,) = torch.autograd.grad(logits, images, create_graph=True)
        return slopes.square().sum()

    weight = noise(2, channels, 3, 3, seed=1).requires_grad_(True)
    assert torch.autograd.gradcheck(penalty, weight)
    assert penalty(weight) > 0.1


@pytest.mark.parametrize("groups", ["none", "b", "bg", "bgc"])
def test_at_p_zero_the_images_themselves_come_back(groups: str) -> None:
    images = noise(8, 3, 16, 16)
    generator, other = (torch.Generator().manual_seed(0) for _ in range(2))
    assert pipe_at(0, groups)(images, generator) is images
    pipe_at(0.7, groups).draw(8, other)
    assert torch.equal(generator.get_state(), other.get_state())


def test_without_motion_the_two_filters_cancel() -> None:
    images = noise(3, 2, 16, 16)
    still = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(warped(images, still), images, atol=1e-9, rtol=0)


def test_group_none_changes_nothing_at_any_p() -> None:
    images = noise(8, 3, 16, 16)
    assert pipe_at(1, "none")(images, torch.Generator().manual_seed(0)) is images


def test_whole_pixel_shifts_move_a_reflected_image() -> None:
    images = noise(2, 1, 16, 16)
    shifted = warped(images, of(xint_x=(2, -1), xint_y=(-3, 0)).inverse)
    padded = F.pad(images, (3, 3, 3, 3), mode="reflect")
    expected = torch.stack([padded[0, :, 6:22, 1:17], padded[1, :, 3:19, 4:20]])
    torch.testing.assert_close(shifted, expected, atol=1e-9, rtol=0)


def test_mirrors_and_quarter_turns_go_the_way_they_say() -> None:
    images = smooth(1, 1, 64).expand(4, -1, -1, -1)  # 0.03 off: the filter is not symmetric
    turned = warped(images, of(rotate90=(0, 1, 2, 3)).inverse)
    expected = torch.stack([image.rot90(k, (1, 2)) for k, image in enumerate(images)])
    torch.testing.assert_close(turned, expected, atol=0.04, rtol=0)
    mirrored = warped(images, of(xflip=(1, 1, 1, 1)).inverse)
    torch.testing.assert_close(mirrored, images.flip(3), atol=0.04, rtol=0)
    assert (images - images.flip(3)).abs().max() > 0.5


def test_four_quarter_turns_are_none() -> None:
    once = of(rotate90=(1,)).inverse
    torch.testing.assert_close(torch.linalg.matrix_power(once, 4), of(rotate90=(0,)).inverse)
    torch.testing.assert_close(once, of(rotate=(math.pi / 2,)).inverse)
    images = image = smooth(1, 1, 64)
    for _ in range(4):
        image = warped(image, once)
    torch.testing.assert_close(image, images, atol=0.03, rtol=0)


def test_geometry_acts_in_the_order_of_the_paper() -> None:
    """Followed by hand: a point right of the centre, through every step."""
    transforms = of(
        xflip=(1,),  # (1, 0) -> (-1, 0)
        rotate90=(1,),  # -> (0, 1): counterclockwise from the left is down
        xint_x=(3,),  # -> (3, 1)
        scale=(2,),  # -> (6, 2)
        rotate=(math.pi / 2,),  # -> (2, -6)
        aniso=(0.5,),  # -> (1, -12)
        rotate_post=(math.pi,),  # -> (-1, 12)
        xfrac_x=(0.25,),
        xfrac_y=(-0.5,),
    )
    source = transforms.inverse[0] @ torch.tensor([-0.75, 11.5, 1], dtype=torch.float64)
    torch.testing.assert_close(source, torch.tensor([1, 0, 1], dtype=torch.float64))


def test_colours_change_as_they_say() -> None:
    images, gray = noise(1, 3, 4, 4), noise(1, 1, 4, 4)
    luma = images.mean(dim=1, keepdim=True)
    pipe, gray_pipe = pipe_at(1), pipe_at(1, channels=1)

    def coloured(**values: tuple[float, ...]) -> Tensor:
        return pipe.transformed(images, of(colour=True, **values))

    close = torch.testing.assert_close
    close(coloured(brightness=(0.3,)), images + 0.3)
    close(coloured(contrast=(1.5,)), images * 1.5)
    close(coloured(brightness=(0.3,), contrast=(1.5,)), (images + 0.3) * 1.5)
    close(coloured(lumaflip=(1,)), images - 2 * luma)
    close(coloured(hue=(2 * math.pi / 3,)), images.roll(1, dims=1))  # red becomes green
    close(coloured(hue=(1.0,)).mean(dim=1, keepdim=True), luma)
    close(coloured(saturation=(0,)), luma.expand_as(images))
    close(coloured(saturation=(2,)), luma + 2 * (images - luma))
    close(coloured(brightness=(0.3,), lumaflip=(1,)), images + 0.3 - 2 * (luma + 0.3))

    changed = of(colour=True, brightness=(0.3,), contrast=(1.5,), lumaflip=(1,))
    close(gray_pipe.transformed(gray, changed), (gray + 0.3) * -1.5)


def drawn(p: float, channels: int = 3, count: int = 20_000, seed: int = 0) -> Parameters:
    source = Draws(count, torch.Generator().manual_seed(seed))
    # 1024 px: a whole shift of 0 px is rare
    return parameters(source, p=p, groups="bgc", resolution=1024, img_channels=channels)


def test_each_transform_is_on_as_often_as_the_paper_says() -> None:
    p, count = 0.4, 20_000
    values, neutral = drawn(p, count=count), Parameters.neutral(count)
    turn = 1 - math.sqrt(1 - p)
    special = {
        "xflip": p / 2,
        "lumaflip": p / 2,
        "rotate90": p * 3 / 4,
        "rotate": turn,
        "rotate_post": turn,
    }
    on = {
        field.name: getattr(values, field.name) != getattr(neutral, field.name)
        for field in dataclasses.fields(Parameters)
    }
    for name, rows in on.items():
        expected = special.get(name, p * 255 / 256 if "xint" in name else p)
        margin = 4 * math.sqrt(expected * (1 - expected) / count)
        assert abs(rows.double().mean() - expected) < margin, name
    assert abs((on["rotate"] | on["rotate_post"]).double().mean() - p) < 0.014
    assert torch.equal(on["xfrac_x"], on["xfrac_y"])  # one gate for both
    assert (on["xint_x"] != on["xint_y"]).double().mean() < 0.01
    independent = (on["scale"] & on["aniso"]).double().mean()
    assert abs(independent - p * p) < 0.014


def test_values_are_spread_as_the_paper_says() -> None:
    values = drawn(1)

    def spread(value: Tensor, std: float, largest: float = math.inf) -> bool:
        within = abs(float(value.std()) / std - 1) < 0.03 and abs(float(value.mean())) < 0.03 * std
        return within and float(value.abs().max()) <= largest

    uniform = 1 / math.sqrt(3)
    assert spread(values.xint_x, 128 * uniform, 128)
    assert spread(values.xint_y, 128 * uniform, 128)
    assert torch.equal(values.xint_x, values.xint_x.round())
    assert spread(values.scale.log2(), 0.2)
    assert spread(values.aniso.log2(), 0.2)
    for shift in (values.xfrac_x, values.xfrac_y):
        assert spread(shift, 128)
    for angle in (values.rotate, values.rotate_post, values.hue):
        assert spread(angle, math.pi * uniform, math.pi)
    assert spread(values.brightness, 0.2)
    assert spread(values.contrast.log2(), 0.5)
    assert spread(values.saturation.log2(), 1)
    every = torch.stack([getattr(values, f.name) for f in dataclasses.fields(Parameters)])
    related = torch.corrcoef(every) - torch.eye(len(every))
    assert related.abs().max() < 0.035  # five standard errors
    assert torch.bincount(values.rotate90.long()).tolist() == pytest.approx([5000] * 4, rel=0.05)


def test_gray_images_have_no_hue_and_above_one_p_is_one() -> None:
    gray, neutral = drawn(1, channels=1, count=50), Parameters.neutral(50)
    assert torch.equal(gray.hue, neutral.hue)
    assert torch.equal(gray.saturation, neutral.saturation)
    assert not torch.equal(gray.contrast, neutral.contrast)
    above, one = drawn(1.5, count=50), drawn(1, count=50)
    assert all(
        torch.equal(getattr(above, field.name), getattr(one, field.name))
        for field in dataclasses.fields(Parameters)
    )


def test_same_seed_same_images_and_a_part_of_a_batch_is_that_part() -> None:
    images, pipe = noise(8, 3, 16, 16), pipe_at(0.6)
    whole = pipe(images, torch.Generator().manual_seed(5))
    assert torch.equal(pipe(images, torch.Generator().manual_seed(5)), whole)
    assert not torch.allclose(pipe(images, torch.Generator().manual_seed(6)), whole)
    transforms = pipe.draw(8, torch.Generator().manual_seed(5))
    part = pipe.transformed(images[2:5], transforms[2:5])
    torch.testing.assert_close(part, whole[2:5])
    rows = torch.tensor([7, 0, 3])
    torch.testing.assert_close(pipe.transformed(images[rows], transforms[rows]), whole[rows])


def test_half_precision_around_it_leaves_it_alone() -> None:
    images, pipe = noise(4, 3, 16, 16, dtype=torch.float32), pipe_at(1)
    alone = pipe(images, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (images @ images).dtype == torch.bfloat16
        assert torch.equal(pipe(images, torch.Generator().manual_seed(1)), alone)


def test_images_can_be_trained_on_after_a_look_without_gradients() -> None:
    """What is kept from call to call is not of inference mode."""
    images, pipe = noise(1, 1, 10, 10), pipe_at(1, "bg", 10, 1)
    with torch.inference_mode():
        pipe(images, torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    pipe(images, torch.Generator().manual_seed(0)).square().sum().backward()
    assert images.grad is not None


@pytest.mark.gpu
def test_the_gpu_gives_the_same_images_and_slopes() -> None:
    pipe, results = pipe_at(1, "bgc", 32), []
    for device in ("cpu", "cuda"):
        images = noise(8, 3, 32, 32, dtype=torch.float32).to(device).requires_grad_(True)
        moved = pipe(images, torch.Generator().manual_seed(2))
        (slopes,) = torch.autograd.grad(moved.tanh().sum(), images, create_graph=True)
        (twice,) = torch.autograd.grad(slopes.square().sum(), images)
        results.append([part.detach().cpu() for part in (moved, slopes, twice)])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(gpu, cpu, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("groups", "channels", "message"),
    [("bgcf", 3, "`groups` must be one of none, b, bg, bgc"), ("bgc", 2, "1 or 3 channels")],
)
def test_what_cannot_be_augmented_is_refused(groups: str, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentPipe(groups, resolution=16, img_channels=channels)
