"""A trained network at a finer output stride, with the weights it has (Sec. 3.1).

Taking the stride out of a layer keeps all its positions instead of every other one. What follows then has to
reach twice as far: its convolutions and pools are dilated by two. At the positions that the original network
computes, the new one computes the same sums.
"""

from __future__ import annotations

import keras

from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.resnet import ResNet
from deeplab_tf.networks.vgg import VGG16


def restride(model: DeepLab, output_stride: int) -> DeepLab:
    """Builds a network with the same weights and a denser answer.

    With one scale, `restride(model, s)(x)[:, ::f, ::f]` equals `model(x)` up to rounding, f the factor between the
    two strides, for inputs of 32k + 1 pixels a side. With several scales each scale's scores do; their resizing to
    one size then starts from more cells.

    Args:
        model: a network with a VGG-16 or ResNet backbone.
        output_stride: input pixels per score-map cell: the model's own divided by a power of two, at least 4.

    Returns:
        A new network. Its weights are copies.

    Raises:
        ValueError: an output stride that this network cannot have, or another backbone.
    """
    backbone, head = model.backbone, model.head
    if not isinstance(backbone, VGG16 | ResNet) or not isinstance(head, ASPP):
        raise ValueError(f"restride knows VGG-16 and ResNet with an ASPP head, got {type(backbone).__name__}.")
    allowed = [stride for stride in (4, 8, 16, 32) if stride <= model.output_stride]
    if output_stride not in allowed:
        raise ValueError(
            f"a network of output stride {model.output_stride} can be re-strided to {allowed}, got {output_stride}."
        )
    factor = model.output_stride // output_stride
    backbone_config = backbone.get_config() | {"output_stride": output_stride}
    head_config = head.get_config() | {"rates": [rate * factor for rate in head.rates]}
    restrided = DeepLab(type(backbone).from_config(backbone_config), ASPP.from_config(head_config), model.scales)
    restrided(keras.Input((None, None, 3)))
    restrided.set_weights(model.get_weights())
    return restrided
