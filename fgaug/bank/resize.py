"""Convert images to a bank's channels and size."""

from __future__ import annotations

import numpy as np
from PIL import Image

LUMA = (299, 587, 114)  # thousandths of red, green, blue (ITU-R BT.601)


def fit_to_bank(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Return uint8 [N, H, W, C] images with the bank's channels (luma) and size (Lanczos)."""
    if images.shape[3] == 3 and channels == 1:
        weighted = images.astype(np.uint32) @ np.array(LUMA, np.uint32)
        images = ((weighted + 500) // 1000).astype(np.uint8)[..., None]
    elif images.shape[3] == 1 and channels == 3:
        images = np.repeat(images, 3, axis=3)
    if images.shape[1] == size:
        return images
    return (
        np.stack([_resized(image, size) for image in images])
        if len(images)
        else np.empty((0, size, size, channels), np.uint8)
    )


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """Return one image resized with Pillow's antialiasing Lanczos filter."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    small = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
    return small[..., None] if small.ndim == 2 else small
