"""Shift and flip training batches on TensorFlow's device.

Every draw depends only on a seed and a step, so a resumed training needs no saved random state.
"""

from __future__ import annotations

import tensorflow as tf


def shifted_and_flipped(images: tf.Tensor, shift: float, flip: bool, seed: tf.Tensor) -> tf.Tensor:
    """Return a randomly shifted and flipped copy of each image.

    Equivalent to the study's `ImageDataGenerator`: both shifts are uniform up to a share of the
    side, bilinear, with border pixels repeated; then a horizontal flip (p .5).

    Args:
        images: float32 [N, H, W, C].
        shift: maximum shift, as a share of the side.
        seed: int32 [2], determines the draws.
    """
    shape = tf.shape(images)
    n, height, width = shape[0], tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    drawn = tf.random.stateless_uniform([3, n], seed=seed)
    down = (2 * drawn[0] - 1) * shift * height
    right = (2 * drawn[1] - 1) * shift * width
    mirrored = tf.cast(drawn[2] < (0.5 if flip else 0.0), tf.float32)
    zero, one = tf.zeros([n]), tf.ones([n])
    # output (x, y) samples the input at (a x + b y + c, d x + e y + f)
    across, start = 1 - 2 * mirrored, mirrored * (width - 1) + right
    transforms = tf.stack([across, zero, start, zero, one, down, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
