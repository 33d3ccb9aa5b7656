"""DeepLabv2: normalisation, backbone, head, and the maximum over the scales of the input (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.config import ModelConfig
from deeplab_tf.experiments import experiment_config
from deeplab_tf.layers.resize import (
    as_fraction,
    resize_bilinear,
    resize_half_pixel,
    scaled_size,
    size_multiple,
    spatial_shape,
)
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.backbone import Backbone


class DeepLab(keras.Model):
    """A DeepLabv2 network.

    Input: RGB float32 0..255 [B, H, W, 3], H and W of the form `size_multiple`*k + 1 (other sizes work, with
    the rounding of Caffe's layers). Output: float32 logits [B, h, w, K], h = (H - 1)/output_stride + 1, the
    maximum over the scales. The weights are shared between the scales.

    Args:
        backbone: from images to features.
        head: from features and dropout seeds to float32 scores.
        scales: of the input; (1.0,) for a single scale, (1.0, 0.75, 0.5) for the paper's multi-scale network.
        **kwargs: as for `keras.Model`.
    """

    def __init__(self, backbone: Backbone, head: ASPP, scales: Sequence[float], **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.backbone = backbone
        self.head = head
        self.scales = tuple(scales)

    @property
    def output_stride(self) -> int:
        """Input pixels per score-map cell at scale 1."""
        return self.backbone.output_stride

    @property
    def mean_rgb(self) -> tuple[float, float, float]:
        """What images are padded with, levels 0..255: the normalisation makes it zeros."""
        return self.backbone.mean_rgb

    @property
    def size_multiple(self) -> int:
        """Inputs of `size_multiple`*k + 1 pixels meet no rounding anywhere."""
        return size_multiple(self.output_stride, self.scales)

    def variable_groups(self) -> dict[str, list[keras.Variable]]:
        """Returns the trainable variables in groups: the backbone's, then the head's."""
        return self.backbone.variable_groups() | self.head.variable_groups()

    def score_maps(
        self, images: tf.Tensor, dropout_seeds: tf.Tensor | None = None, align_corners: bool = True
    ) -> list[tf.Tensor]:
        """Returns each scale's scores at their own size.

        Args:
            images: RGB float32 0..255 [B, H, W, 3].
            dropout_seeds: int32 [B, 2] for training, None for no dropout.
            align_corners: how the images are scaled; False for networks that others trained so.

        Returns:
            One float32 [B, h_s, w_s, K] per scale, h_s = (h - 1)*scale + 1; without aligned corners what the
            network makes of floor(H * scale) pixels, at least 1.
        """
        height, width = spatial_shape(images)
        maps = []
        for index, scale in enumerate(self.scales):
            x, seeds = images, dropout_seeds
            if scale != 1 and align_corners:
                x = resize_bilinear(images, (scaled_size(height, scale), scaled_size(width, scale)))
            elif scale != 1:
                ratio = as_fraction(scale)
                size = [tf.maximum(side * ratio.numerator // ratio.denominator, 1) for side in (height, width)]
                x = resize_half_pixel(images, (size[0], size[1]))
            if seeds is not None and len(self.scales) > 1:
                seeds = tf.map_fn(
                    lambda seed, index=index: tf.random.experimental.stateless_fold_in(seed, index), seeds
                )
            features = self.backbone(self.backbone.normalize(x))  # [B, h_s, w_s, C]
            maps.append(self.head(features, seeds))
        return maps

    def fuse(
        self, score_maps: Sequence[tf.Tensor], images: tf.Tensor, align_corners: bool = True
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Resizes the scales' scores to scale 1 and takes their maximum.

        Args:
            score_maps: from `score_maps`.
            images: the input it was given, for its size.
            align_corners: as for `score_maps`.

        Returns:
            The fused logits, float32 [B, h, w, K], and each scale's scores resized to [B, h, w, K].
        """
        if self.scales == (1.0,):
            return score_maps[0], list(score_maps)
        if 1.0 in self.scales:
            # At sizes that are not clean Caffe's rounding decides: 127 pixels give a ResNet 17 cells, not 16.
            size = spatial_shape(score_maps[self.scales.index(1.0)])
        else:
            height, width = spatial_shape(images)
            size = ((height - 1) // self.output_stride + 1, (width - 1) // self.output_stride + 1)
        resize = resize_bilinear if align_corners else resize_half_pixel
        resized = [
            scores if scale == 1 else resize(scores, size)
            for scale, scores in zip(self.scales, score_maps, strict=True)
        ]
        return tf.reduce_max(tf.stack(resized), axis=0), resized

    def call(self, images: tf.Tensor, dropout_seeds: tf.Tensor | None = None, align_corners: bool = True) -> tf.Tensor:
        """Returns the fused logits, float32 [B, h, w, K]; see the class and `score_maps`."""
        return self.fuse(self.score_maps(images, dropout_seeds, align_corners), images, align_corners)[0]


def build_network(config: ModelConfig, num_classes: int, precision: str = "float32", dropout: float = 0.5) -> DeepLab:
    """Builds the network that a configuration describes, with fresh weights.

    Args:
        config: which network.
        num_classes: K.
        precision: "float32", "bfloat16" or "float16": what backbone and head compute in. Variables, the
            classifier and the logits are float32.
        dropout: rate in the VGG head, active only where `dropout_seeds` are given.

    Returns:
        A built `DeepLab`.

    Raises:
        ValueError: num_classes < 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}.")
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    common: dict[str, Any] = {"implementation": config.atrous, "dtype": policy}
    backbone_class = BACKBONES[config.backbone]
    options = {name: getattr(config, name) for name in backbone_class.options}
    backbone = backbone_class(output_stride=config.output_stride, name="backbone", **options, **common)
    head = ASPP(
        num_classes,
        config.rates,
        kernel_size=config.kernel_size,
        hidden_units=config.hidden_units,
        dropout=dropout,
        name="head",
        **common,
    )
    model = DeepLab(backbone, head, config.scales, name="deeplab")
    model(keras.Input((None, None, 3)))
    return model


def rebuild(model: DeepLab, atrous: str) -> DeepLab:
    """Builds a network once more with another form of its atrous convolutions, computing in float32.

    Args:
        model: the network.
        atrous: deinterlace, dilated or auto, see `AtrousConv2D`.

    Returns:
        The other network, with copies of the weights.
    """
    changed = {"implementation": atrous, "dtype": "float32"}
    backbone, head = (type(part).from_config(part.get_config() | changed) for part in (model.backbone, model.head))
    other = DeepLab(backbone, head, model.scales, name=model.name)
    other(keras.Input((None, None, 3)))
    other.set_weights(model.get_weights())
    return other


def build_model(experiment: str, num_classes: int, precision: str = "float32") -> DeepLab:
    """Builds the network of a named experiment, with fresh weights.

    Args:
        experiment: a name from `EXPERIMENTS`, such as "resnet101_aspp_msc".
        num_classes: K, background included.
        precision: "float32", "bfloat16" or "float16".

    Returns:
        A keras.Model from RGB float32 0..255 [B, H, W, 3] to float32 logits [B, h, w, K].

    Raises:
        UserError: no such experiment.
        ValueError: num_classes < 1.
    """
    return build_network(experiment_config(experiment).model, num_classes, precision)
