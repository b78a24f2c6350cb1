"""How an image was recorded, whatever it shows: levels, gain over depth, grain.

pixels -> [appearance] -> fingerprint.  A few numbers that a machine's settings move and anatomy
moves little; networks trained on photographs mostly look past them.
"""

from __future__ import annotations

import numpy as np

from fgaug.quality.spectrum import radial_power

_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_BANDS = 8  # rows from top to bottom: an ultrasound beam comes from above
_BATCH = 512


def appearance(images: np.ndarray) -> np.ndarray:
    """Return what a few plain statistics say of images, float64 [N, D].

    Quantiles, mean and spread of the gray levels (the mean over channels), the mean of each of
    eight bands of rows, and the power at each radius of the spectrum.

    Args:
        images: uint8 [N, H, H, C], memory-mapped or not; at least `spectrum.MIN_SIZE` px.
    """
    found = []
    for start in range(0, len(images), _BATCH):
        gray = images[start : start + _BATCH].mean(axis=3)
        levels = np.quantile(gray, _QUANTILES, axis=(1, 2)).T
        moments = np.stack([gray.mean(axis=(1, 2)), gray.std(axis=(1, 2))], axis=1)
        bands = [band.mean(axis=(1, 2)) for band in np.array_split(gray, _BANDS, axis=1)]
        found.append(np.concatenate([levels, moments, np.stack(bands, axis=1)], axis=1))
    return np.concatenate([np.concatenate(found), radial_power(images)], axis=1)
