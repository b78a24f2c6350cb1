"""The options of a training, and the presets from which they are resolved.

Presets are the published settings of the official trainers (Karras et al. 2020, arXiv:2006.06676,
table 6 and appendix C) and those of two studies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fgaug.errors import UserError
from gan_worker.networks import GeneratorConfig
from gan_worker.networks.discriminator import DiscriminatorConfig

AUGMENTS = ("none", "b", "bg", "bgc")
# mixed: bfloat16 on CUDA, float32 on a CPU; auto: the faster one of the two others
PRECISIONS = ("float32", "mixed", "bfloat16", "auto")
_CHANNEL_BASE, _CHANNEL_MAX = 32768, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """All options of a training; raises UserError if they are invalid."""

    preset: str
    resolution: int  # px
    img_channels: int
    labels: int = 0  # classes of a conditional network, else 0
    kimg: int = 25000  # thousands of real images shown to the discriminator
    batch: int = 32  # over all processes
    group_size: int = 4  # of the minibatch statistic
    fmaps: float = 0.5  # feature channels at r px: min(fmaps * 32768 / r, channel_max)
    channel_max: int = _CHANNEL_MAX
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    architecture_g: str = "skip"
    architecture_d: str = "resnet"
    conv_clamp: float | None = None
    lr: float = 0.002
    gamma: float = 10.0  # weight of R1
    ema_kimg: float = 10.0  # half-life of the moving average
    ema_rampup: float | None = None  # limits the half-life to a share of the images shown
    style_mixing: float = 0.9  # probability
    path_length_weight: float = 2.0
    augment: str = "bgc"  # none: StyleGAN2 without ADA
    ada_target: float | None = 0.6  # for the mean sign of D(real); None keeps p constant
    ada_kimg: float = 500.0  # p changes by at most 1 per this many
    p: float = 0.0  # initial augmentation strength
    mirror: bool = False  # also show mirrored reals
    precision: str = "float32"
    seed: int = 0
    snapshot_kimg: int = 200

    def __post_init__(self) -> None:
        problems = [rule for rule, holds in self._rules().items() if not holds]
        if problems:
            raise UserError("Training options: " + "; ".join(problems) + ".")

    def _rules(self) -> dict[str, bool]:
        size, group = self.resolution, min(self.group_size, self.batch)
        return {
            f"images must be 8 px or a larger power of two, got {size}": (
                size >= 8 and size & (size - 1) == 0
            ),
            f"`kimg` must be above 0, got {self.kimg}": self.kimg > 0,
            f"`snapshot_kimg` must be above 0, got {self.snapshot_kimg}": self.snapshot_kimg > 0,
            f"`batch` must be 2 or more and a multiple of group_size {group}, got {self.batch}": (
                self.batch >= 2 and group >= 1 and self.batch % group == 0
            ),
            f"`lr` must be above 0, got {self.lr}": self.lr > 0,
            f"`gamma` must be 0 or more, got {self.gamma}": self.gamma >= 0,
            f"`fmaps` must be above 0, got {self.fmaps}": self.fmaps > 0,
            f"`augment` must be one of {', '.join(AUGMENTS)}, got {self.augment}": (
                self.augment in AUGMENTS
            ),
            f"`precision` must be one of {', '.join(PRECISIONS)}, got {self.precision}": (
                self.precision in PRECISIONS
            ),
            f"`p` must be 0 or more, got {self.p}": self.p >= 0,
            f"`seed` must be from 0 to 2**31 - 1, got {self.seed}": 0 <= self.seed < 2**31,
        }

    @property
    def widths(self) -> tuple[int, ...]:
        """Feature channels at 4, 8, ..., `resolution` px."""
        base = self.fmaps * _CHANNEL_BASE
        sizes = (2**power for power in range(2, self.resolution.bit_length()))
        return tuple(min(int(base / size), self.channel_max) for size in sizes)

    def generator(self) -> GeneratorConfig:
        """Return the generator's architecture."""
        return GeneratorConfig(
            resolution=self.resolution,
            img_channels=self.img_channels,
            labels=self.labels,
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            widths=self.widths,
            architecture=self.architecture_g,
            conv_clamp=self.conv_clamp,
            mapping_layers=self.mapping_layers,
            mapping_width=self.w_dim,
            embed_width=self.w_dim if self.labels else 0,
        )

    def discriminator(self) -> DiscriminatorConfig:
        """Return the discriminator's architecture."""
        return DiscriminatorConfig(
            resolution=self.resolution,
            img_channels=self.img_channels,
            labels=self.labels,
            widths=self.widths,
            architecture=self.architecture_d,
            conv_clamp=self.conv_clamp,
            group_size=self.group_size,
        )


def _auto(resolution: int, gpus: int) -> dict[str, Any]:
    """Return the options that the official trainer derives from resolution and GPU count."""
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return {
        "batch": batch,
        "group_size": min(batch // gpus, 4),
        "fmaps": 1.0 if resolution >= 512 else 0.5,
        "lr": 0.002 if resolution >= 1024 else 0.0025,
        "gamma": 0.0002 * resolution**2 / batch,
        "ema_kimg": batch * 10 / 32,
        "ema_rampup": 0.05,
        "mapping_layers": 2,
        "conv_clamp": 256.0,
        "precision": "mixed",
    }


_ADA: Mapping[str, Any] = {"augment": "bgc", "ada_target": 0.6}  # the defaults
_THESIS = {
    "batch": 32,
    "group_size": 4,
    "fmaps": 0.5,
    "ema_kimg": 10.0,
    "mapping_layers": 8,
    "augment": "bg",
    "ada_target": 0.5,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "auto": {},
    "thesis-dbp": {**_THESIS, "gamma": 0.16, "lr": 0.002},
    "thesis-trv": {**_THESIS, "gamma": 0.24, "lr": 0.001, "mirror": True},
    "paper256": {
        "batch": 64,
        "group_size": 8,
        "fmaps": 0.5,
        "lr": 0.0025,
        "gamma": 1.0,
        "ema_kimg": 20.0,
        "conv_clamp": 256.0,
        "precision": "mixed",
    },
    "stylegan2-config-e": {
        "batch": 32,
        "group_size": 4,
        "fmaps": 0.5,
        "lr": 0.002,
        "gamma": 100.0,
        "augment": "none",
        "ada_target": None,
        "mirror": True,
    },
}

AUGMENTATION = ("none", "ada")  # StyleGAN2 without augmentation, or StyleGAN2-ADA


def augmented(preset: str, kind: str | None) -> dict[str, Any]:
    """Return the options that turn a preset's augmentation off, or ADA on.

    A preset with ADA keeps its own transforms and target; one without gets the defaults.

    Args:
        preset: a key of PRESETS.
        kind: one of AUGMENTATION, or None to change nothing.

    Raises:
        UserError: the kind is unknown.
    """
    if kind is None:
        return {}
    if kind not in AUGMENTATION:
        raise UserError(f"--augment must be {' or '.join(AUGMENTATION)}, got {kind}.")
    if kind == "none":
        return {"augment": "none", "ada_target": None, "p": 0.0}
    own = {name: value for name, value in PRESETS.get(preset, {}).items() if name in _ADA}
    if own.get("augment") == "none":
        own = {}
    return {**_ADA, **own}


# for transfer learning: p adapts faster, and the average is good from the start
TRANSFER = {"ada_kimg": 100.0, "ema_rampup": None}


def resolve(
    preset: str,
    *,
    resolution: int,
    img_channels: int,
    labels: int = 0,
    gpus: int = 1,
    transfer: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> TrainingOptions:
    """Resolve all options of a training.

    Args:
        preset: a key of PRESETS.
        resolution: side of the images in px.
        img_channels: channels of the images.
        labels: classes of a conditional network, else 0.
        gpus: number of GPUs that share the batch; used by `auto`.
        transfer: whether the training starts from a network.
        changes: fields of TrainingOptions that differ from the preset.

    Raises:
        UserError: the preset or a field is unknown, or values are invalid.
    """
    if preset not in PRESETS:
        raise UserError(f"`preset` must be one of {', '.join(PRESETS)}, got {preset}.")
    fields = {field.name for field in dataclasses.fields(TrainingOptions)}
    unknown = sorted(set(changes or ()) - fields)
    if unknown:
        raise UserError(
            f"Training has no option {', '.join(unknown)}. Choose from {sorted(fields)}."
        )
    given = {**_auto(resolution, gpus), **PRESETS[preset]} if preset == "auto" else PRESETS[preset]
    return TrainingOptions(
        **{
            "preset": preset,
            "resolution": resolution,
            "img_channels": img_channels,
            "labels": labels,
            **given,
            **(TRANSFER if transfer else {}),
            **(changes or {}),
        }
    )
