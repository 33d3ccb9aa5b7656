"""Networks of the zoo without training that are worth converting: their scores distinguish classes on photographs."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import experiment_config
from deeplab_tf.layers.conv_batch_norm import measuring_statistics
from deeplab_tf.networks.deeplab import DeepLab, build_network
from deeplab_tf.weights.imagenet import load_imagenet

# Of a residual block's last normalisation. In trained networks blocks correct what they are given. With 1, every block
# replaces half of it, and 16 of them make a hash of the image: what int8 rounds in the first changes every label.
RESIDUAL_GAMMA = 0.2
# Of the scores of a class over the cells of a photograph: some classes are then sure, and others are not.
SPREAD = 3.0
_SIDE = 129


def made_up_network(name: str, photograph: np.ndarray, num_classes: int = 7) -> tuple[DeepLab, Config]:
    """Builds an experiment, always the same one, that suits photographs.

    EfficientNets have their ImageNet weights (requirements-lite.txt), because these are installed. Others have kernels
    at random, and their batch normalisation has the statistics of the photograph. The classifier is at random, and its
    scores are made to spread over the photograph.

    Args:
        name: of the experiment.
        photograph: uint8 [H, W, 3], 129 pixels a side or more.
        num_classes: K.

    Returns:
        The network, its atrous convolutions dilated, and its configuration.
    """
    keras.utils.set_random_seed(0)
    info = DatasetInfo("made_up", tuple(f"class_{i}" for i in range(num_classes)), pascal_palette(num_classes))
    config = dataclasses.replace(experiment_config(name), dataset=info)
    model = build_network(dataclasses.replace(config.model, atrous="dilated"), num_classes)
    for layer in model.backbone._flatten_layers():
        if layer.name.startswith("res") and layer.name.endswith("branch2c"):
            layer.gamma.assign(RESIDUAL_GAMMA * tf.ones_like(layer.gamma))
    images = tf.constant(photograph[np.newaxis, :_SIDE, :_SIDE].astype(np.float32))
    if name.startswith("efficientnet"):
        load_imagenet(model)
    else:
        with measuring_statistics():
            model(images)
    spread = np.std(model(images), axis=(0, 1, 2))  # [K]
    for layer in model.head._flatten_layers():
        if layer.name.split("_")[0] == model.head.classifier:
            layer.kernel.assign(layer.kernel * (SPREAD / spread))
    return model, config
