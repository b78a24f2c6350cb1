"""Shifts and flips of training batches, on TensorFlow's device.

Every draw is named by a seed and a step, so that a training that goes on needs no place in a
stream.
"""

from __future__ import annotations

import tensorflow as tf


def shifted_and_flipped(images: tf.Tensor, shift: float, flip: bool, seed: tf.Tensor) -> tf.Tensor:
    """Return a shifted and perhaps mirrored copy of each image.

    As the source's `ImageDataGenerator`: both shifts uniform up to a share of the side, between
    pixels bilinear, the border's pixels repeated; then a flip about the vertical axis (p .5).

    Args:
        images: float32 [N, H, W, C].
        shift: at most, as a share of the side.
        seed: int32 [2], what the draws depend on.
    """
    shape = tf.shape(images)
    n, height, width = shape[0], tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    drawn = tf.random.stateless_uniform([3, n], seed=seed)
    down = (2 * drawn[0] - 1) * shift * height
    right = (2 * drawn[1] - 1) * shift * width
    mirrored = tf.cast(drawn[2] < (0.5 if flip else 0.0), tf.float32)
    zero, one = tf.zeros([n]), tf.ones([n])
    # output (x, y) is the input's (a x + b y + c, d x + e y + f)
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
