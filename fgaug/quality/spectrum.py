"""High frequencies: can fakes be distinguished from reals by what no reader of images sees?

Upsampling leaves traces in the spectrum of images from convolutional generators (Durall et al.
2020, arXiv:2003.01826, who classify by the azimuthally averaged power spectrum). If each label has
its own network, a classifier may learn such traces instead of the label.
"""

from __future__ import annotations

import numpy as np

from fgaug.errors import UserError
from fgaug.quality.two_sample import MIN_PATIENTS, ToldApart, two_sample_test

STRENGTH = 1.0  # weak regularisation: there are few features, unlike those of networks
MIN_SIZE = 16  # px; the spectrum of smaller images is too coarse
_BATCH = 512
_FLOOR = 1e-6  # added power in squared levels: an image of one colour has none


def high_frequencies(images: np.ndarray) -> np.ndarray:
    """Return `radial_power` from half to the full Nyquist frequency, [N, H // 2 - H // 4 + 1]."""
    return radial_power(images)[:, images.shape[1] // 4 :]


def radial_power(images: np.ndarray) -> np.ndarray:
    """Return log10 of the mean power at each radius of the spectrum, float64 [N, H // 2 + 1].

    Uses the mean over channels, centred and with a Hann window because opposite edges do not
    match. Radii are whole cycles over the image, from 0 to the Nyquist frequency; the corners
    beyond are left out.

    Args:
        images: uint8 [N, H, H, C], memory-mapped or not.

    Raises:
        UserError: images are smaller than MIN_SIZE.
    """
    size = images.shape[1]
    if size < MIN_SIZE:
        raise UserError(f"A spectrum needs images of at least {MIN_SIZE} px, got {size}.")
    hann = np.hanning(size + 1)[:-1]
    window = np.outer(hann, hann)
    down, along = np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size
    radius = np.rint(np.hypot(down[:, None], along)).astype(np.int64)
    inside, count = radius <= size // 2, size // 2 + 1
    radii = radius[inside]
    found = []
    for start in range(0, len(images), _BATCH):
        gray = images[start : start + _BATCH].mean(axis=3)
        gray = (gray - gray.mean(axis=(1, 2), keepdims=True)) * window
        power = np.square(np.abs(np.fft.rfft2(gray)))[:, inside]
        sums = np.stack([np.bincount(radii, each, minlength=count) for each in power])
        found.append(np.log10(sums / np.bincount(radii, minlength=count) + _FLOOR))
    return np.concatenate(found)


def real_or_fake(real: np.ndarray, groups: np.ndarray, fake: np.ndarray) -> ToldApart:
    """Return the two-sample test of fakes against reals on `high_frequencies`.

    Args:
        real: float [N, D], their high frequencies.
        groups: patient of each real.
        fake: float [n, D].
    """
    return two_sample_test(real, fake, groups, np.arange(len(fake)), strength=STRENGTH)


def halves(real: np.ndarray, groups: np.ndarray, seed: int = 0) -> ToldApart:
    """Return the same test for two halves of the reals, split by patient, as a reference."""
    patients = np.unique(groups)
    if len(patients) < 2 * MIN_PATIENTS:
        raise UserError(
            f"Two halves of the reals need at least {2 * MIN_PATIENTS} patients, "
            f"got {len(patients)}."
        )
    chosen = np.random.default_rng(seed).permutation(patients)[: len(patients) // 2]
    first = np.isin(groups, chosen)
    return two_sample_test(
        real[first], real[~first], groups[first], groups[~first], strength=STRENGTH, seed=seed
    )
