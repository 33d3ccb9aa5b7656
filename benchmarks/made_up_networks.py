"""Networks of the zoo without training that are worth converting: they distinguish the colours of photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import experiment_config
from deeplab_tf.layers.conv_batch_norm import measuring_statistics
from deeplab_tf.networks.deeplab import DeepLab, build_network
from deeplab_tf.networks.update import refuse_frozen_weights
from deeplab_tf.weights.imagenet import load_imagenet

# Of a residual block's last normalisation. In trained networks blocks correct what they are given. With 1, every block
# replaces half of it, and 16 of them make a hash of the image: what int8 rounds in the first changes every label.
RESIDUAL_GAMMA = 0.2
# Of the photographs' crops, and of the descent; the rate is for inputs whose squares sum to 1.
_SIDE = 161
_STEPS, _LEARNING_RATE, _MOMENTUM = 500, 6.0, 0.9


def made_up_network(name: str, photographs: Sequence[np.ndarray], num_classes: int = 7) -> tuple[DeepLab, Config]:
    """Builds an experiment, always the same one, whose classifier knows the colours of photographs.

    EfficientNets have their ImageNet weights (requirements-lite.txt), because these are installed. Others have kernels
    at random, and their batch normalisation has the statistics of the first photograph. The classifier is trained: with
    one at random, classes tie everywhere, and what a format rounds decides between them.

    Args:
        name: of the experiment.
        photographs: uint8 [H, W, 3] each, 161 pixels a side or more.
        num_classes: K.

    Returns:
        The network, its atrous convolutions dilated, and its configuration.

    Raises:
        UserError: TF_ONEDNN_ASSUME_FROZEN_WEIGHTS is set, see `refuse_frozen_weights`.
    """
    refuse_frozen_weights()
    keras.utils.set_random_seed(0)
    info = DatasetInfo("made_up", tuple(f"class_{i}" for i in range(num_classes)), pascal_palette(num_classes))
    config = dataclasses.replace(experiment_config(name), dataset=info)
    model = build_network(dataclasses.replace(config.model, atrous="dilated"), num_classes)
    for layer in model.backbone._flatten_layers():
        if layer.name.startswith("res") and layer.name.endswith("branch2c"):
            layer.gamma.assign(RESIDUAL_GAMMA * tf.ones_like(layer.gamma))
    crops = np.stack([photograph[:_SIDE, :_SIDE] for photograph in photographs])
    if name.startswith("efficientnet"):
        load_imagenet(model)
    else:
        with measuring_statistics():
            model(crops[:1])
    _train_classifier(model, crops, num_classes)
    return model, config


def _train_classifier(model: DeepLab, crops: np.ndarray, num_classes: int) -> None:
    """Teaches the classifier which of the K commonest colours a cell has; the rest of the network stays as it is.

    Plain gradient descent learns from the strongest features first, which no format rounds away. Adam does not.
    """
    layers = [layer for layer in model.head._flatten_layers() if layer.name.split("_")[0] == model.head.classifier]
    features = tf.nest.flatten(keras.Model(model.input, [layer.input for layer in layers])(crops))
    colours = _colours(crops, features[0].shape[1:3])  # [B, h, w, 3]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.1)
    _, nearest, _ = cv2.kmeans(colours.reshape(-1, 3), num_classes, None, criteria, 3, cv2.KMEANS_PP_CENTERS)
    wanted = nearest.reshape(colours.shape[:3])
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kernels = [layer.kernel for layer in layers]
    for kernel in kernels:
        kernel.assign(tf.zeros_like(kernel))
    inputs = [
        np.prod(kernel.shape[:2]) * np.mean(np.sum(x**2, -1)) for x, kernel in zip(features, kernels, strict=True)
    ]
    sgd = keras.optimizers.SGD(_LEARNING_RATE / float(sum(inputs)), _MOMENTUM)
    sgd.build(kernels)

    @tf.function(autograph=False)
    def update() -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(wanted, tf.add_n([layer(x) for layer, x in zip(layers, features, strict=True)]))
        sgd.apply(tape.gradient(loss, [kernel.value for kernel in kernels]), kernels)

    for _ in range(_STEPS):
        update()


def _colours(crops: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Returns the mean colours of a grid of cells, float32 [B, h, w, 3]."""
    return np.stack([cv2.resize(crop, cells[::-1], interpolation=cv2.INTER_AREA) for crop in crops]).astype(np.float32)
