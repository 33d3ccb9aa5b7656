import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.inference import build_inference, predict_probabilities
from deeplab_tf.resize import resize_bilinear
from tests.tiny import tiny_network

MEAN = np.float32([122.675, 116.669, 104.008])


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_network()


@pytest.fixture(scope="module")
def multi_scale():
    return tiny_network(scales=(1.0, 0.75, 0.5))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (9, 9), (37, 501), (64, 66)])
def test_any_size_gives_probabilities_of_that_size(model, multi_scale, size):
    for network in (model, multi_scale):
        probabilities = predict_probabilities(network, picture(*size))
        assert probabilities.shape == (*size, 3) and probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(("size", "padded"), [((25, 41), (25, 41)), ((20, 42), (25, 49)), ((1, 9), (9, 9))])
def test_images_are_padded_with_the_mean_at_the_bottom_and_right_and_cropped_back(model, size, padded):
    image = picture(*size)
    canvas = np.broadcast_to(MEAN, (1, *padded, 3)).copy()
    canvas[0, : size[0], : size[1]] = image
    scores = resize_bilinear(model(tf.constant(canvas)), padded)
    expected = tf.nn.softmax(scores)[0, : size[0], : size[1]]
    np.testing.assert_allclose(predict_probabilities(model, image), expected, atol=1e-6)


def test_flip_averages_with_the_mirrored_image(model):
    image = picture(25, 41)
    mirrored = predict_probabilities(model, image[:, ::-1])[:, ::-1]
    expected = (predict_probabilities(model, image) + mirrored) / 2
    np.testing.assert_allclose(predict_probabilities(model, image, flip=True), expected, atol=1e-6)
    assert np.abs(mirrored - expected).max() > 1e-3


def test_a_batch_is_answered_image_by_image(model):
    images = np.stack([picture(20, 30, seed) for seed in range(2)])
    together = build_inference(model)(images)
    for image, probabilities in zip(images, together, strict=True):
        np.testing.assert_allclose(predict_probabilities(model, image), probabilities, atol=1e-6)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_uint8_image_is_refused(model, image):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        predict_probabilities(model, image)


def test_a_mirror_symmetric_image_gets_a_mirror_symmetric_answer_with_flip(model):
    half = picture(25, 20)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    probabilities = predict_probabilities(model, image, flip=True)
    np.testing.assert_allclose(probabilities, probabilities[:, ::-1], atol=1e-6)
    # 40 pixels are padded on the right only, so the network by itself is not symmetric.
    straight = predict_probabilities(model, image)
    assert np.abs(straight - straight[:, ::-1]).max() > 1e-3


def test_a_multi_scale_network_is_padded_to_32k_plus_1(multi_scale):
    image = picture(20, 42)
    canvas = np.broadcast_to(MEAN, (1, 33, 65, 3)).copy()
    canvas[0, :20, :42] = image
    expected = tf.nn.softmax(resize_bilinear(multi_scale(tf.constant(canvas)), (33, 65)))[0, :20, :42]
    np.testing.assert_allclose(predict_probabilities(multi_scale, image), expected, atol=1e-5)


def test_score_cells_of_a_clean_image_lie_on_every_eighth_pixel(model):
    image = picture(25, 41)
    logits = model(tf.constant(image[np.newaxis], tf.float32))
    cells = predict_probabilities(model, image)[::8, ::8]
    np.testing.assert_allclose(cells, tf.nn.softmax(logits)[0], atol=1e-6)


def test_the_image_is_not_written_to(model):
    image = picture(20, 30)
    image.setflags(write=False)
    predict_probabilities(model, image)


def test_a_network_that_has_predicted_can_be_freed(multi_scale):
    network = tiny_network()
    for flip in (False, True):
        predict_probabilities(network, picture(9, 9), flip)
    freed = weakref.ref(network)
    del network
    gc.collect()
    assert freed() is None


def test_predicting_twice_traces_once():
    network = tiny_network()
    first = predict_probabilities(network, picture(9, 9))
    (function,) = network.__dict__["_inference_functions"].values()
    np.testing.assert_array_equal(predict_probabilities(network, picture(9, 9)), first)
    predict_probabilities(network, picture(20, 30))
    assert function.experimental_get_tracing_count() == 1
