"""The sum of feature maps: shortcuts of residual blocks, branches of ASPP."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="deeplab_tf")
class Sum(keras.layers.Layer):
    """Adds feature maps of one shape, then applies an activation if there is one.

    Args:
        activation: such as "relu", as for `keras.layers.Conv2D`; None for none.
        **kwargs: as for `keras.layers.Layer`.
    """

    def __init__(self, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation) if activation else None

    def call(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        """Adds.

        Args:
            maps: [B, h, w, C] each.

        Returns:
            Same dtype, [B, h, w, C].
        """
        # One sum after the other: TensorFlow Lite has tf.add_n in float32 only.
        total = functools.reduce(operator.add, maps)
        return total if self.activation is None else self.activation(total)

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Returns the shape of one map."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"activation": self.activation and keras.activations.serialize(self.activation)}
