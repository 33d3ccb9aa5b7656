import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.inference.fold import fold_weights
from deeplab_tf.inference.probabilities import build_inference, build_predictor, predict_probabilities
from deeplab_tf.layers.conv_batch_norm import ConvBatchNorm
from deeplab_tf.networks.deeplab import DeepLab, build_network
from tests.tiny import tiny_network

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 41, 57, 3), np.uint8)


@pytest.mark.parametrize(
    ("options", "scales", "size"),
    [
        (InferenceConfig(), (1.0,), (None, None)),
        (InferenceConfig(), (1.0, 0.75, 0.5), (41, 57)),
        (InferenceConfig(flip=True, pad_to=65), (1.0, 0.5), (None, None)),
        (InferenceConfig(tile=33, tile_overlap=17), (1.0,), (None, None)),
    ],
)
def test_folded_weights_give_the_same_bits(options, scales, size):
    function = build_inference(tiny_network(scales=scales), options, size)
    folded = fold_weights(function)
    np.testing.assert_array_equal(folded.answer(IMAGES), function(IMAGES))


def network_of_batch_norm(precision):
    """A DeepLab whose backbone is one convolution with batch normalisation, of numbers that are not 0 and 1."""
    tiny = tiny_network()

    class Backbone(keras.layers.Layer):
        normalize = staticmethod(tiny.backbone.normalize)
        mean_rgb = tiny.backbone.mean_rgb
        output_stride = 8

        def __init__(self):
            super().__init__(name="backbone", dtype=precision)
            self.pool = keras.layers.AveragePooling2D(9, 8, padding="same", dtype=precision)
            self.conv = ConvBatchNorm(8, 3, epsilon=1e-3, dtype=precision, name="conv1")

        def call(self, x):
            return self.conv(self.pool(x / 32))

    model = DeepLab(Backbone(), tiny.head, (1.0, 0.5), name="deeplab")
    model(keras.Input((None, None, 3)))
    rng = np.random.default_rng(1)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        getattr(model.backbone.conv, name).assign(rng.uniform(0.5, 1.5, 8))
    return model


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_batch_normalisation_and_casts_are_done_once_and_stored_once(precision):
    model = network_of_batch_norm(precision)
    function = build_inference(model, InferenceConfig(flip=True))
    folded = fold_weights(function)
    np.testing.assert_array_equal(folded.answer(IMAGES), function(IMAGES))
    stored = [tuple(weight.shape) for weight in folded.weights]
    # Kernel and bias, once for two scales and two directions; gamma, beta and the statistics are in them.
    assert stored.count((3, 3, 3, 8)) == 1 and stored.count((8,)) == 1
    kernel = folded.weights[stored.index((3, 3, 3, 8))]
    assert kernel.dtype == (tf.float32 if precision == "float32" else tf.bfloat16)
    operations = {op.type for op in folded.answer.get_concrete_function().graph.get_operations()}
    assert "Rsqrt" not in operations


@pytest.mark.slow
def test_a_whole_resnet_gives_the_same_bits():
    keras.utils.set_random_seed(0)
    model = build_network(EXPERIMENTS["resnet50_aspp_msc"].model, 5, "bfloat16")
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance", "beta", "moving_mean")):
            variable.assign(keras.random.uniform(variable.shape, 0.5, 1.0))
    function = build_inference(model)
    np.testing.assert_array_equal(fold_weights(function).answer(IMAGES), function(IMAGES))


def test_a_predictor_keeps_the_weights_it_was_built_with():
    model = tiny_network(seed=1)
    predict = build_predictor(model)
    before = predict(IMAGES[0])
    np.testing.assert_array_equal(before, predict_probabilities(model, IMAGES[0]))
    model.set_weights(tiny_network(seed=2).get_weights())
    np.testing.assert_array_equal(predict(IMAGES[0]), before)
    assert np.abs(predict_probabilities(model, IMAGES[0]) - before).max() > 1e-3


def test_a_function_of_two_tensors_is_refused():
    signature = [tf.TensorSpec([2]), tf.TensorSpec([2])]
    with pytest.raises(ValueError, match="from one tensor to one, got 2 inputs"):
        fold_weights(tf.function(lambda x, y: x + y, input_signature=signature))


def test_loops_work_after_the_function_they_were_traced_for_is_forgotten():
    """A loop finds its body by name; where that is gone TensorFlow ends the process, or knows no such operation."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
    def doubled_thrice(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, 2 * y), (tf.constant(0), x))[1]

    folded = fold_weights(doubled_thrice)
    del doubled_thrice
    gc.collect()
    np.testing.assert_array_equal(folded.answer(tf.constant([1.0, 3.0])), [8, 24])
