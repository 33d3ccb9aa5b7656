import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.inference.probabilities import build_inference, predict_probabilities
from deeplab_tf.layers.resize import resize_bilinear
from deeplab_tf.networks.deeplab import DeepLab
from tests.references import slow_resize_bilinear
from tests.tiny import tiny_network

FLIP = InferenceConfig(flip=True)
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
    np.testing.assert_allclose(predict_probabilities(model, image, FLIP), expected, atol=1e-6)
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
    probabilities = predict_probabilities(model, image, FLIP)
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
        predict_probabilities(network, picture(9, 9), InferenceConfig(flip))
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


# How far the tiny network looks: 4 pixels of the pool, 2 cells of conv1_1, 2 of the head, 7 to the next cell.
REACH = 4 + 8 * (2 + 2) + 7


@pytest.mark.parametrize(("size", "tile"), [((150, 203), 97), ((97, 97), 97), ((60, 300), 129), ((20, 30), 129)])
def test_tiles_that_share_twice_the_networks_reach_give_the_answer_of_the_whole_image(model, size, tile):
    image = picture(*size)
    tiled = predict_probabilities(model, image, InferenceConfig(tile=tile, tile_overlap=2 * REACH))
    np.testing.assert_allclose(tiled, predict_probabilities(model, image), atol=1e-6)


def test_tiles_differ_from_the_whole_image_only_within_the_networks_reach_of_an_inner_border(model):
    image = picture(200, 300)
    tiled = predict_probabilities(model, image, InferenceConfig(tile=121, tile_overlap=25))
    differs = np.abs(tiled - predict_probabilities(model, image)).max(axis=-1) > 1e-6
    # Rows are padded to 201, columns to 305: tiles begin every 96 pixels, and the last ones end there.
    starts = {0: (0, 80), 1: (0, 96, 184)}
    near = np.zeros(image.shape[:2], bool)
    for axis, begins in starts.items():
        ends = [begin + 121 for begin in begins]
        cuts = [0, *((begins[i + 1] + ends[i]) // 2 for i in range(len(begins) - 1)), image.shape[axis]]
        distance = np.full(image.shape[axis], 10**6)
        for i, begin in enumerate(begins):
            own = np.arange(cuts[i], cuts[i + 1])
            if i > 0:
                distance[own] = np.minimum(distance[own], own - begin + 1)
            if i < len(begins) - 1:
                distance[own] = np.minimum(distance[own], ends[i] - own)
        near |= np.expand_dims(distance <= REACH, 1 - axis)
    assert differs.any() and not (differs & ~near).any() and not near.all()


def test_tiles_of_a_multi_scale_network_agree_at_twice_the_reach(multi_scale):
    image = picture(210, 260)
    options = InferenceConfig(tile=225, tile_overlap=4 * REACH)
    expected = predict_probabilities(multi_scale, image)
    # Scaled inputs are interpolated at positions that are rounded differently in a tile.
    np.testing.assert_allclose(predict_probabilities(multi_scale, image, options), expected, atol=2e-5)


def test_tiles_work_with_batches_the_mirrored_image_and_padding(model):
    options = InferenceConfig(flip=True, tile=97, tile_overlap=2 * REACH, pad_to=161)
    images = np.stack([picture(70, 180, seed) for seed in range(2)])
    together = build_inference(model, options)(images)
    for image, probabilities in zip(images, together, strict=True):
        expected = predict_probabilities(model, image, InferenceConfig(flip=True, pad_to=161))
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_a_tiled_graph_still_declares_the_number_of_classes(model):
    graph = build_inference(model, InferenceConfig(tile=97, tile_overlap=20)).get_concrete_function()
    assert graph.output_shapes.as_list() == [None, None, None, 3]


def test_tiles_that_cannot_be_moved_are_refused(multi_scale):
    with pytest.raises(UserError, match="tiles of 97 pixels that share 80 leave no room for steps of 32"):
        build_inference(multi_scale, InferenceConfig(tile=90, tile_overlap=80))


@pytest.mark.parametrize(("size", "padded"), [((20, 42), (65, 65)), ((20, 70), (65, 73))])
def test_smaller_images_are_padded_to_the_size_that_is_asked_for(model, size, padded):
    image = picture(*size)
    canvas = np.broadcast_to(MEAN, (1, *padded, 3)).copy()
    canvas[0, : size[0], : size[1]] = image
    expected = tf.nn.softmax(resize_bilinear(model(tf.constant(canvas)), padded))[0, : size[0], : size[1]]
    np.testing.assert_allclose(predict_probabilities(model, image, InferenceConfig(pad_to=65)), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(33, 65), (20, 42), (37, 50)])
def test_without_aligned_corners_nothing_is_padded_and_every_resize_is_by_half_pixels(multi_scale, size):
    image = picture(*size)
    x = image[np.newaxis].astype(np.float64)
    maps = []
    for scale in multi_scale.scales:
        scaled = slow_resize_bilinear(x, tuple(int(side * scale) for side in size), align_corners=False)
        single = DeepLab(multi_scale.backbone, multi_scale.head, (1.0,))
        maps.append(single(tf.constant(scaled, tf.float32)).numpy())
    fused = np.max([slow_resize_bilinear(scores, maps[0].shape[1:3], align_corners=False) for scores in maps], axis=0)
    expected = tf.nn.softmax(slow_resize_bilinear(fused, size, align_corners=False))[0]
    answer = predict_probabilities(multi_scale, image, InferenceConfig(align_corners=False))
    # Positions of the scaled input are computed in float32, and levels go to 255.
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    assert np.abs(answer - predict_probabilities(multi_scale, image)).max() > 1e-2


def test_without_aligned_corners_any_size_works(model, multi_scale):
    for network in (model, multi_scale):
        for size in ((1, 1), (1, 40)):
            probabilities = predict_probabilities(network, picture(*size), InferenceConfig(align_corners=False))
            np.testing.assert_allclose(probabilities.sum(axis=-1), np.ones(size), atol=1e-5)
