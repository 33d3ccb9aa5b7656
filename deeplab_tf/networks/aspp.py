"""Atrous spatial pyramid pooling and LargeFOV: one head (Sec. 3.2, 4.1.2).

Branches that look at the same features with different rates, their scores summed. One rate is LargeFOV, four
are ASPP; for VGG-16 a branch is fc6-fc7-fc8, for ResNet it goes straight to the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers.atrous import AtrousConv2D
from deeplab_tf.layers.dropout import SeededDropout
from deeplab_tf.layers.sum import Sum
from deeplab_tf.networks.backbone import groups_by_layer


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ASPP(keras.layers.Layer):
    """Sums the scores of one atrous branch per rate.

    Input float [B, h, w, C], output float32 [B, h, w, num_classes] (logits). The classifier computes in
    float32 whatever the precision of the rest. Layers are named fc6, fc7, fc8 (or fc1 without hidden layers),
    with _1, _2, ... where there are several branches; `scores` is then their sum.

    Args:
        num_classes: K.
        rates: one per branch, in cells.
        kernel_size: of each branch's atrous convolution.
        hidden_units: units of fc6 and fc7; 0 for an atrous convolution straight to the scores.
        dropout: rate after fc6 and after fc7.
        implementation: see `AtrousConv2D`.
        **kwargs: as for `keras.layers.Layer`.

    Raises:
        ValueError: no rates, or a rate below 1.
    """

    def __init__(
        self,
        num_classes: int,
        rates: Sequence[int],
        kernel_size: int = 3,
        hidden_units: int = 0,
        dropout: float = 0.5,
        implementation: str = "deinterlace",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not rates or min(rates) < 1:
            raise ValueError(f"rates must be >= 1, got {tuple(rates)}. LargeFOV is rates=(12,).")
        self.suffixes = [""] if len(rates) == 1 else [f"_{i}" for i in range(1, len(rates) + 1)]
        self.num_classes = num_classes
        self.rates = tuple(rates)
        self.kernel_size = kernel_size
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.implementation = implementation
        for branch, (suffix, rate) in enumerate(zip(self.suffixes, rates, strict=True)):
            hidden = {
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "implementation": implementation,
                "dtype": self.dtype_policy,
            }
            classifier = {
                "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01),
                "implementation": implementation,
                "dtype": "float32",
            }
            if hidden_units:
                self._add(AtrousConv2D(hidden_units, kernel_size, rate, name=f"fc6{suffix}", **hidden))
                self._add(SeededDropout(dropout, salt=2 * branch, dtype=self.dtype_policy, name=f"drop6{suffix}"))
                self._add(AtrousConv2D(hidden_units, 1, name=f"fc7{suffix}", **hidden))
                self._add(SeededDropout(dropout, salt=2 * branch + 1, dtype=self.dtype_policy, name=f"drop7{suffix}"))
                self._add(AtrousConv2D(num_classes, 1, name=f"fc8{suffix}", **classifier))
            else:
                self._add(AtrousConv2D(num_classes, kernel_size, rate, name=f"fc1{suffix}", **classifier))

        if len(rates) > 1:
            self._add(Sum(dtype="float32", name="scores"))

    def _add(self, layer: keras.layers.Layer) -> None:
        setattr(self, layer.name, layer)

    def call(self, x: tf.Tensor, dropout_seeds: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the summed scores.

        Args:
            x: float [B, h, w, C].
            dropout_seeds: int32 [B, 2]; without them there is dropout in training alone, see `SeededDropout`.

        Returns:
            float32 [B, h, w, K].
        """
        scores = [self._branch(x, suffix, dropout_seeds) for suffix in self.suffixes]
        return scores[0] if len(scores) == 1 else self.scores(scores)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("num_classes", "rates", "kernel_size", "hidden_units", "dropout", "implementation")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def get_build_config(self) -> None:
        """Says that a layer made by `from_config` waits for its first call: its variables are named by then."""

    @property
    def classifier(self) -> str:
        """The group of the layers that give the scores: fc8 after hidden layers, else fc1."""
        return "fc8" if self.hidden_units else "fc1"

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Returns the trainable variables of fc6, fc7 and the classifier, fc8 or fc1, of all branches each."""
        return groups_by_layer(self.trainable_variables)

    def connect(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Does what `call` does with a symbolic tensor, layer by layer, so that a functional model shows the layers."""
        with keras.name_scope(self.name):
            scores = self.call(x)
        self.built = True
        return scores

    def restrided(self, factor: int) -> ASPP:
        """Returns the same head, without weights yet, for features that have `factor` times as many cells a side."""
        return ASPP.from_config(self.get_config() | {"rates": [rate * factor for rate in self.rates]})

    def _branch(self, x: tf.Tensor, suffix: str, seeds: tf.Tensor | None) -> tf.Tensor:
        if not self.hidden_units:
            return getattr(self, f"fc1{suffix}")(x)
        for hidden in ("6", "7"):
            x = getattr(self, f"fc{hidden}{suffix}")(x)  # [B, h, w, hidden_units]
            x = getattr(self, f"drop{hidden}{suffix}")(x, seeds)
        return getattr(self, f"fc8{suffix}")(x)


def is_classifier(layer_name: str) -> bool:
    """Says whether a layer gives class scores: it learns ten times faster and changes with the classes."""
    return layer_name.split("_")[0] in ("fc8", "fc1")
