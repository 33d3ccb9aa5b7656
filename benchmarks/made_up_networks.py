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
from deeplab_tf.layers.scales import scale_images
from deeplab_tf.networks.deeplab import DeepLab, build_network
from deeplab_tf.weights.imagenet import load_imagenet

# Of a residual block's last normalisation. In trained networks blocks correct what they are given. With 1, every block
# replaces half of it, and 16 of them make a hash of the image: what int8 rounds in the first changes every label.
RESIDUAL_GAMMA = 0.2
_SIDE = 161  # of the crops that the classifier is trained on
_STEPS, _SMOOTHING = 100, 0.1
_SPREAD = 1.0  # of the scores before the training
_LEARNING_RATE = 0.1  # for kernels with a standard deviation of 1; the features have any size


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
    """
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
    """Teaches the classifier which of the K commonest colours a cell has; the rest of the network stays as it is."""
    pixels = tf.constant(crops, tf.float32)
    features = [model.backbone(model.backbone.normalize(scale_images(pixels, scale, True))) for scale in model.scales]
    colours = [_colours(crops, maps.shape[1:3]) for maps in features]  # [B, h, w, 3] for each scale
    samples = np.concatenate([colour.reshape(-1, 3) for colour in colours])
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.1)
    _, nearest, _ = cv2.kmeans(samples, num_classes, None, criteria, 3, cv2.KMEANS_PP_CENTERS)
    ends = np.cumsum([colour[..., 0].size for colour in colours])[:-1]
    wanted = [
        tf.one_hot(labels.reshape(colour.shape[:3]), num_classes)
        for labels, colour in zip(np.split(nearest, ends), colours, strict=True)
    ]
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=_SMOOTHING)
    layers = [layer for layer in model.head._flatten_layers() if layer.name.split("_")[0] == model.head.classifier]
    spread = np.std(model.head(features[0], None), axis=(0, 1, 2))  # [K]
    for layer in layers:
        layer.kernel.assign(layer.kernel * (_SPREAD / spread))
    trained = [variable for layer in layers for variable in layer.trainable_variables]
    adam = keras.optimizers.Adam(_LEARNING_RATE * float(np.std(layers[0].kernel)))

    @tf.function(autograph=False)
    def update() -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = [loss_of(one, model.head(maps, None)) for maps, one in zip(features, wanted, strict=True)]
            loss = tf.add_n(losses) / len(losses)
        adam.apply_gradients(zip(tape.gradient(loss, [v.value for v in trained]), trained, strict=True))
        return loss

    adam.build(trained)
    for _ in range(_STEPS):
        update()


def _colours(crops: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Returns the mean colours of a grid of cells, float32 [B, h, w, 3]."""
    return np.stack([cv2.resize(crop, cells[::-1], interpolation=cv2.INTER_AREA) for crop in crops]).astype(np.float32)
