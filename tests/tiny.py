"""A network that runs in milliseconds and has all the parts of a DeepLab: strides, atrous branches, scales."""

from __future__ import annotations

import keras
import tensorflow as tf

from deeplab_tf.images.mean import MEAN_RGB
from deeplab_tf.layers.atrous import AtrousConv2D
from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.backbone import Backbone
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.normalization import bgr_minus_mean

TINY_MULTIPLIERS = {"conv1_1": 1.0} | {
    f"{layer}_{branch}": 10.0 if layer in ("fc1", "fc8") else 1.0
    for layer in ("fc1", "fc6", "fc7", "fc8")
    for branch in (1, 2)
}
"""The factors of the learning rate of a tiny network's layers: the classifier learns ten times faster."""


class TinyBackbone(Backbone):
    """Averages 9x9 pixels at every 8th position (the padding counts as mean), then one atrous convolution."""

    normalize = staticmethod(bgr_minus_mean)
    mean_rgb = MEAN_RGB
    channels = 8

    def __init__(self, output_stride=8, implementation="deinterlace", **kwargs):
        super().__init__(output_stride, implementation, **kwargs)
        self.conv1_1 = AtrousConv2D(
            8, 3, 2, implementation, activation="relu", kernel_initializer="he_normal", name="conv1_1"
        )

    def call(self, x):
        x = tf.pad(x / 32, [[0, 0], [4, 4], [4, 4], [0, 0]])
        return self.conv1_1(tf.nn.avg_pool2d(x, 9, 8, padding="VALID"))  # [B, (H-1)/8 + 1, (W-1)/8 + 1, 8]


def tiny_network(num_classes=3, scales=(1.0,), hidden_units=0, dropout=0.5, seed=1):
    """A built DeepLab of two branches whose scores are far enough apart to tell classes by."""
    keras.utils.set_random_seed(seed)
    head = ASPP(num_classes, (1, 2), hidden_units=hidden_units, dropout=dropout, name="head")
    model = DeepLab(TinyBackbone(name="backbone"), head, scales, name="deeplab")
    model(keras.Input((None, None, 3)))
    for variable in model.variables:
        if variable.path.split("/")[-2].split("_")[0] in ("fc1", "fc8"):
            # The paper's 0.01 makes every class nearly equally probable.
            variable.assign(keras.random.normal(variable.shape, stddev=0.3))
    return model
