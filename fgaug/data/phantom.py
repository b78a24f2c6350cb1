"""Simulate ultrasound images of fetal heads, for demos and tests."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from fgaug.errors import DataError

PLANES = ("dbp", "trv")  # biparietal diameter: thalami; transventricular: a lateral ventricle
VERSION = 1  # increased whenever a seed gives different pixels
_N_ANATOMY, _N_POSE, _N_MACHINE = 10, 6, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomParameters:
    """Parameters of the simulation; lengths in half image sides, levels in decibels."""

    contrast_db: float = 12.0  # of thalami or ventricle against the surrounding brain
    contrast_sd_db: float = 2.5
    anatomy_sd: float = 1.0  # spread of sizes and positions between patients; tuned for 1
    pose_sd: float = 1.0  # spread of position, rotation and scale between images of a patient
    machine_sd: float = 1.0  # spread of gain, range, grain and depth gain between machines
    clutter: int = 4  # uninformative blobs
    clutter_db: float = 4.0
    range_db: float = 50.0  # dynamic range of the log compression

    def as_dict(self) -> dict[str, Any]:
        """Return every parameter and the version, for identity digests."""
        return {"version": VERSION, **dataclasses.asdict(self)}


DEFAULTS = PhantomParameters()


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """A simulated set: images uint8 [N, size, size, 1], and one table row per image."""

    images: np.ndarray
    table: pd.DataFrame  # image_id, label (noisy), group, machine, plane (the truth)
    arguments: dict[str, Any]  # of `make_phantom`


def draw_image(
    label: str,
    seed: int,
    *,
    size: int,
    spread: float = 1.0,
    parameters: PhantomParameters = DEFAULTS,
) -> np.ndarray:
    """Return one image, uint8 [size, size, 1], of a new patient on a new machine.

    The image depends only on these arguments, so it is the same in any batch.

    Args:
        label: one of PLANES.
        seed: of everything in the image, 0 to 2**32 - 1.
        size: side in pixels.
        spread: scales the deviation of patient, pose and machine from their means, as psi does for
            fakes. Speckle is not scaled: with 0, all seeds show one head with different speckle.
        parameters: how images are drawn.
    """
    rng = np.random.RandomState(seed)
    anatomy = rng.standard_normal(_N_ANATOMY) * (spread * parameters.anatomy_sd)
    machine = rng.standard_normal(_N_MACHINE) * (spread * parameters.machine_sd)
    return _draw(label, rng, anatomy, machine, size, spread, parameters)


def make_phantom(
    images: int = 400,
    seed: int = 0,
    *,
    size: int = 64,
    label_noise: float = 0.1,
    images_per_patient: int = 4,
    machines: int = 4,
    parameters: PhantomParameters = DEFAULTS,
) -> PhantomSet:
    """Simulate a set of patients with a few images each, on a few machines.

    Args:
        images: total number.
        seed: seed of the whole set.
        size: side in pixels.
        label_noise: share of the images that carry the wrong label.
        images_per_patient: mean number per patient, uniform from 1 to twice the mean minus 1.
        machines: number of machines; each patient is imaged on one.
        parameters: how images are drawn.
    """
    if images < 1 or images_per_patient < 1 or machines < 1 or not 0 <= label_noise < 0.5:
        raise DataError(
            "A phantom needs at least 1 image, 1 image per patient, 1 machine and a label noise "
            f"from 0 to below 0.5, got {images}, {images_per_patient}, {machines}, {label_noise}."
        )
    rng = np.random.RandomState(seed)
    looks = rng.standard_normal((machines, _N_MACHINE)) * parameters.machine_sd
    rows: list[tuple[str, str, int, str]] = []
    drawn = np.empty((images, size, size, 1), np.uint8)
    patient = 0
    while len(rows) < images:
        patient += 1
        anatomy = rng.standard_normal(_N_ANATOMY) * parameters.anatomy_sd
        machine = rng.randint(machines)
        for number in range(1, rng.randint(1, 2 * images_per_patient) + 1):
            if len(rows) == images:
                break
            plane = PLANES[rng.randint(2)]
            own = np.random.RandomState(rng.randint(2**32, dtype=np.uint64))
            drawn[len(rows)] = _draw(plane, own, anatomy, looks[machine], size, 1.0, parameters)
            name = f"p{patient:05d}_{number:02d}"
            rows.append((name, plane, patient, f"machine {machine + 1}"))
    table = pd.DataFrame(rows, columns=["image_id", "plane", "group", "machine"])
    wrong = rng.permutation(images)[: round(images * label_noise)]
    labels = table["plane"].to_numpy(dtype=object, copy=True)
    labels[wrong] = [PLANES[1 - PLANES.index(plane)] for plane in labels[wrong]]
    table.insert(1, "label", labels)
    arguments = {
        "images": images,
        "seed": seed,
        "label_noise": label_noise,
        "images_per_patient": images_per_patient,
        "machines": machines,
        "parameters": parameters.as_dict(),
    }
    return PhantomSet(drawn, table, arguments)


def _draw(
    label: str,
    rng: np.random.RandomState,
    anatomy: np.ndarray,
    machine: np.ndarray,
    size: int,
    spread: float,
    parameters: PhantomParameters,
) -> np.ndarray:
    """Return one image; `rng` draws pose, clutter and speckle, in this order."""
    if label not in PLANES:
        raise DataError(f'The phantom has no label "{label}". Use one of {", ".join(PLANES)}.')
    pose = rng.standard_normal(_N_POSE) * (spread * parameters.pose_sd)
    mirror = rng.randint(2, size=2) * 2 - 1  # occiput left or right, clear half up or down
    blobs = rng.uniform(-1, 1, size=(parameters.clutter, 5))
    speckle = rng.standard_normal((2, size, size)).astype(np.float32)

    u, v, depth = _head_axes(size, anatomy, pose, mirror)
    echo = _head(u, v, anatomy)
    contrast = parameters.contrast_db + parameters.contrast_sd_db * pose[5]
    structure = _thalami if label == "dbp" else _ventricle
    echo += contrast * structure(u, v, anatomy, pose)
    echo += parameters.clutter_db * _clutter(u, v, blobs)

    gain, span, grain, slope = machine
    sigma = max(0.35, 0.75 + 0.2 * grain) * size / 64
    field = gaussian_filter(speckle, (0, sigma, sigma), mode="wrap")
    power = np.square(field).sum(axis=0)
    echo += 10 * np.log10(power / power.mean() + 1e-4)
    echo += 3 * gain + 2 * slope * depth
    level = echo / (parameters.range_db * np.clip(1 + 0.1 * span, 0.6, 1.4)) + 0.85
    pixels: np.ndarray = (np.clip(level, 0, 1) * 255).astype(np.uint8)
    return pixels[..., None]


def _head_axes(
    size: int, anatomy: np.ndarray, pose: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pixel's position along and across the midline (skull at radius 1), and depth."""
    steps = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = steps[None, :] - 0.07 * pose[0], steps[:, None] - 0.07 * pose[1]
    turn = 0.22 * pose[2]
    half_length = 0.80 * np.exp(0.07 * pose[3] + 0.05 * anatomy[0])
    half_width = half_length * 0.77 * np.exp(0.05 * anatomy[1])
    along = (np.cos(turn) * x + np.sin(turn) * y) / half_length * mirror[0]
    across = (np.cos(turn) * y - np.sin(turn) * x) / half_width * mirror[1]
    return (
        along.astype(np.float32),
        across.astype(np.float32),
        np.broadcast_to(steps[:, None], along.shape),
    )


def _head(u: np.ndarray, v: np.ndarray, anatomy: np.ndarray) -> np.ndarray:
    """Return the echo in decibels of structures in both planes: skull, brain, midline, cavum."""
    radius = np.hypot(u, v)
    thickness = 0.055 * np.exp(0.2 * anatomy[2])
    facing = np.abs(v) / np.maximum(radius, 1e-3)  # the beam comes from above: sides echo less
    skull = _bell((radius - 1) / thickness) * (10 + 14 * facing)
    tissue = np.where(radius < 1, -22 + 1.5 * anatomy[3], -26.0)
    gap = _bell((u - 0.45) / 0.12)
    line = _bell(v / 0.035) * (np.abs(u) < 0.88)
    midline = (9 + 1.5 * anatomy[4]) * line * (1 - gap) - 3 * gap * _bell(v / 0.08)
    echo: np.ndarray = tissue + skull + midline
    return echo


def _thalami(u: np.ndarray, v: np.ndarray, anatomy: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return the contrast pattern of the thalami: two dark ovals beside the midline."""
    centre = -0.05 + 0.10 * anatomy[5] + 0.05 * pose[4]
    aside = 0.17 + 0.03 * anatomy[6]
    scale = np.exp(0.18 * anatomy[7])
    distance = np.hypot((u - centre) / (0.26 * scale), (np.abs(v) - aside) / (0.15 * scale))
    pattern: np.ndarray = 0.5 * _bell((distance - 1.15) / 0.2) - _inside(distance)
    return pattern


def _ventricle(u: np.ndarray, v: np.ndarray, anatomy: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return the contrast pattern of the ventricles: dark curved slits between bright walls.

    One of the two is faint, as in the half of the head obscured by reverberation of the skull.
    """
    centre = -0.25 + 0.10 * anatomy[5] + 0.05 * pose[4]
    aside = 0.36 + 0.05 * anatomy[8] + 0.25 * np.square(u - centre)
    width = 0.09 * np.exp(0.25 * anatomy[9])
    reach = _inside(np.abs(u - centre) / (0.36 * np.exp(0.18 * anatomy[7])))
    across = np.abs(v - aside) / width
    clear = np.where(v > 0, 1.0, 0.4)
    pattern: np.ndarray = clear * reach * (_bell((across - 1.3) / 0.4) - _inside(across))
    return pattern


def _clutter(u: np.ndarray, v: np.ndarray, blobs: np.ndarray) -> np.ndarray:
    """Return uninformative bright and dark blobs inside the head, in units of their level."""
    pattern = np.zeros_like(u)
    for place, aside, length, width, level in blobs:
        distance = np.hypot(
            (u - 0.8 * place) / (0.2 + 0.1 * length), (v - 0.7 * aside) / (0.13 + 0.07 * width)
        )
        pattern += level * _bell(distance)
    return pattern


def _bell(x: np.ndarray) -> np.ndarray:
    bell: np.ndarray = np.exp(-0.5 * np.square(x))
    return bell


def _inside(distance: np.ndarray) -> np.ndarray:
    """Return 1 within distance 1 and 0 beyond it, with a soft edge."""
    return np.clip((1.15 - distance) / 0.3, 0, 1)
