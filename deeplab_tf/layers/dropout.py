"""Dropout whose masks are a function of a seed per example, not of a generator's state."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="deeplab_tf")
class SeededDropout(keras.layers.Layer):
    """Drops units by a seed that comes with each example.

    The same example with the same seed loses the same units on any replica, in any batch and after any
    restart, so nothing random has to be saved. Without seeds the layer draws some in training, from the generator that
    `keras.utils.set_random_seed` sets, and does nothing otherwise.

    Args:
        rate: probability of dropping a unit, in [0, 1).
        salt: distinguishes layers that see the same seeds.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, rate: float, salt: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"the dropout rate must be in [0, 1), got {rate}.")
        self.rate = rate
        self.salt = salt

    def call(self, x: tf.Tensor, seeds: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        """Drops units and scales what stays by 1 / (1 - rate).

        Args:
            x: float [B, h, w, C].
            seeds: int32 [B, 2], or None.
            training: whether to draw seeds where none are given.

        Returns:
            Same shape and dtype.
        """
        if self.rate == 0 or (seeds is None and not training):
            return x
        if seeds is None:
            seeds = tf.random.uniform([tf.shape(x)[0], 2], maxval=tf.int32.max, dtype=tf.int32)
        shape = tf.shape(x)[1:]

        def kept(seed: tf.Tensor) -> tf.Tensor:
            seed = tf.random.experimental.stateless_fold_in(seed, self.salt)
            return tf.random.stateless_uniform(shape, seed) >= self.rate

        mask = tf.map_fn(kept, seeds, fn_output_signature=tf.TensorSpec([None, None, None], tf.bool))
        # A product rather than tf.where: TensorFlow's layout optimizer gives up on a graph that chooses by a mask.
        return x / (1 - self.rate) * tf.cast(mask, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"rate": self.rate, "salt": self.salt}
