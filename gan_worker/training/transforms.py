"""Draw random image transforms as matrices.

The transforms, their distributions and their order follow Karras et al. 2020, arXiv:2006.06676,
appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

GROUPS = ("none", "b", "bg", "bgc")  # b: pixel blitting, g: geometry, c: colour


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """The parameters of the transforms of N images, in this order; each float64 [N]."""

    xflip: Tensor  # 1: flipped horizontally, else 0
    rotate90: Tensor  # quarter turns, counterclockwise as displayed
    xint_x: Tensor  # shift, whole px to the right
    xint_y: Tensor  # and down
    scale: Tensor  # factor
    rotate: Tensor  # radians, counterclockwise
    aniso: Tensor  # multiplies the width and divides the height
    rotate_post: Tensor  # radians, counterclockwise
    xfrac_x: Tensor  # shift, px to the right
    xfrac_y: Tensor  # and down
    brightness: Tensor  # added
    contrast: Tensor  # factor
    lumaflip: Tensor  # 1: luma is negated, else 0
    hue: Tensor  # radians about the luma axis
    saturation: Tensor  # scales the distance to the luma axis

    @classmethod
    def neutral(cls, count: int) -> Parameters:
        """Return the parameters of the identity for `count` images."""
        factors = {"scale", "aniso", "contrast", "saturation"}
        return cls(
            **{
                field.name: torch.full((count,), float(field.name in factors), dtype=torch.float64)
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transforms:
    """Transforms in the form used by `AugmentPipe.transformed`, on the CPU."""

    inverse: Tensor  # float64 [N, 3, 3]: from result to source, px from the centre
    colour: Tensor | None  # float64 [N, 3, 4]: maps (red, green, blue, 1) to (red, green, blue)

    @classmethod
    def of(cls, parameters: Parameters, *, colour: bool) -> Transforms:
        """Return the matrices for parameters, with colour matrices only on request."""
        return cls(
            inverse=torch.linalg.inv(_geometry(parameters)),
            colour=_colour(parameters) if colour else None,
        )

    def __getitem__(self, rows: slice | Tensor) -> Transforms:
        """Return the transforms of some images, for a process with part of a batch.

        Args:
            rows: a slice, or image indices, int64 [n].
        """
        colour = None if self.colour is None else self.colour[rows]
        return Transforms(inverse=self.inverse[rows], colour=colour)

    def __len__(self) -> int:
        return len(self.inverse)

    @property
    def idle(self) -> bool:
        """Whether all transforms are the identity."""
        return all(
            bool((matrices == torch.eye(*matrices.shape[1:], dtype=matrices.dtype)).all())
            for matrices in (self.inverse, self.colour)
            if matrices is not None
        )


class Source(Protocol):
    """Source of random numbers for `parameters`; float64 [N] per call."""

    count: int  # N

    def uniform(self) -> Tensor:
        """Return uniform numbers in [0, 1]."""

    def normal(self) -> Tensor:
        """Return standard normal numbers."""

    def gate(self, probability: float) -> Tensor:
        """Return a bool mask of the images to which a transform of this probability applies."""


class Draws:
    """Draws from a generator on the CPU."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self._generator = count, generator

    def uniform(self) -> Tensor:
        return torch.rand(self.count, generator=self._generator, dtype=torch.float64)

    def normal(self) -> Tensor:
        return torch.randn(self.count, generator=self._generator, dtype=torch.float64)

    def gate(self, probability: float) -> Tensor:
        return self.uniform() < probability


class Quantile:
    """Gives the q-quantile for every draw and opens all gates, as in the reference results.

    Those use erfinv(2q - 1) as the normal quantile, which is too small by sqrt(2).
    """

    def __init__(self, count: int, q: float) -> None:
        self.count, self._q = count, torch.full((count,), q, dtype=torch.float64)

    def uniform(self) -> Tensor:
        return self._q

    def normal(self) -> Tensor:
        return torch.erfinv(2 * self._q - 1)

    def gate(self, probability: float) -> Tensor:
        return torch.ones(self.count, dtype=torch.bool)


def parameters(
    source: Source, *, p: float, groups: str, resolution: int, img_channels: int
) -> Parameters:
    """Draw parameters from a source; the number of draws does not depend on `p`.

    Args:
        source: source of uniform and normal numbers and gates.
        p: probability of each transform; values above 1 act as 1.
        groups: one of GROUPS.
        resolution: of the images, px.
        img_channels: channels of the images; grey ones have neither hue nor saturation.
    """
    uniform, normal = source.uniform, source.normal
    neutral = Parameters.neutral(source.count)
    values: dict[str, Tensor] = {}

    def add(value: Callable[[], Tensor], *names: str, probability: float = p) -> None:
        drawn = [value() for _ in names]  # values first, then one gate for all
        gate = source.gate(probability)
        for name, number in zip(names, drawn, strict=True):
            values[name] = torch.where(gate, number, getattr(neutral, name))

    if "b" in groups:
        add(lambda: (2 * uniform()).floor(), "xflip")
        add(lambda: (4 * uniform()).floor(), "rotate90")
        whole = resolution / 8
        add(lambda: ((2 * uniform() - 1) * whole).round(), "xint_x", "xint_y")
    if "g" in groups:
        either = 1 - math.sqrt(max(0.0, 1 - p))  # so that a share p of the images rotates
        add(lambda: 2 ** (0.2 * normal()), "scale")
        add(lambda: (2 * uniform() - 1) * math.pi, "rotate", probability=either)
        add(lambda: 2 ** (0.2 * normal()), "aniso")
        add(lambda: (2 * uniform() - 1) * math.pi, "rotate_post", probability=either)
        add(lambda: normal() * (resolution / 8), "xfrac_x", "xfrac_y")
    if "c" in groups:
        add(lambda: 0.2 * normal(), "brightness")
        add(lambda: 2 ** (0.5 * normal()), "contrast")
        add(lambda: (2 * uniform()).floor(), "lumaflip")
        if img_channels > 1:
            add(lambda: (2 * uniform() - 1) * math.pi, "hue")
            add(lambda: 2 ** normal(), "saturation")
    return replace(neutral, **values)


def _geometry(of: Parameters) -> Tensor:
    """Return each image's forward map [N, 3, 3], in px from the centre, y downwards."""
    zero, one = torch.zeros_like(of.scale), torch.ones_like(of.scale)

    def affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([a, b, x, c, d, y, zero, zero, one], dim=-1).view(-1, 3, 3)

    def shift(x: Tensor, y: Tensor) -> Tensor:
        return affine(one, zero, zero, one, x, y)

    def stretch(x: Tensor, y: Tensor) -> Tensor:
        return affine(x, zero, zero, y, zero, zero)

    def turn(angle: Tensor) -> Tensor:
        cos, sin = angle.cos(), angle.sin()
        return affine(cos, sin, -sin, cos, zero, zero)

    steps = [
        stretch(1 - 2 * of.xflip, one),
        turn(of.rotate90 * (math.pi / 2)),
        shift(of.xint_x, of.xint_y),
        stretch(of.scale, of.scale),
        turn(of.rotate),
        stretch(of.aniso, 1 / of.aniso),
        turn(of.rotate_post),
        shift(of.xfrac_x, of.xfrac_y),
    ]
    return _in_turn(steps)


def _colour(of: Parameters) -> Tensor:
    """Return [N, 3, 4]: brightness, then linear transforms about the axis (1, 1, 1) / sqrt(3)."""
    eye = torch.eye(3, dtype=torch.float64)
    luma = torch.full((3, 3), 1 / 3, dtype=torch.float64)  # projects onto the axis
    across = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / 3**0.5

    def each(number: Tensor) -> Tensor:
        return number[:, None, None]

    cos, sin = each(of.hue.cos()), each(of.hue.sin())
    linear = _in_turn(
        [
            each(of.contrast) * eye,
            eye - 2 * each(of.lumaflip) * luma,
            cos * eye + sin * across + (1 - cos) * luma,  # Rodrigues' rotation
            luma + each(of.saturation) * (eye - luma),
        ]
    )
    added = linear @ each(of.brightness).expand(-1, 3, 1)
    return torch.cat([linear, added], dim=2)


def _in_turn(steps: list[Tensor]) -> Tensor:
    """Return the product of all steps; the first one acts first."""
    product = steps[0]
    for step in steps[1:]:
        product = step @ product
    return product
