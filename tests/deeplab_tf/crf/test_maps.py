import numpy as np
import pytest

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.maps import draw_maps, find_maps
from deeplab_tf.crf.params import CrfParams

PARAMS = CrfParams(w1=8, sigma_alpha=10, sigma_beta=20, w2=1)


def two_halves():
    """Dark and bright, and probabilities whose border is elsewhere."""
    image = np.full((16, 24, 3), 40, np.uint8)
    image[:, 12:] = 200
    p = np.where(np.arange(24) < 9, 0.3, 0.7)
    return image, np.broadcast_to(np.stack([1 - p, p], -1), (16, 24, 2)).astype(np.float32)


def test_beliefs_are_those_of_the_crf_and_scores_their_log_odds():
    image, probabilities = two_halves()
    maps = find_maps(image, probabilities, PARAMS, label=1, updates=[0, 1, 5])
    np.testing.assert_allclose(maps[0][1], probabilities[..., 1], atol=1e-6)
    np.testing.assert_allclose(maps[0][0], np.log(probabilities[..., 1] / probabilities[..., 0]), atol=1e-4)
    after = dense_crf(image, probabilities, CrfParams(8, 10, 20, 1, iterations=5), min_probability=0.0)
    np.testing.assert_array_equal(maps[2][1], after[..., 1])
    assert np.abs(maps[2][0]).max() <= 10 and (maps[2][0] > 0).mean() == pytest.approx(0.5)


def test_the_picture_has_a_column_for_the_image_and_each_number_of_updates():
    image, probabilities = two_halves()
    two, three = (draw_maps(image, probabilities, PARAMS, ["a", "b"], updates) for updates in ([0, 1], [0, 1, 2]))
    assert two.dtype == np.uint8 and two.shape[0] == three.shape[0]
    assert three.shape[1] - two.shape[1] >= 200 * 24 // 16  # a picture is 200 pixels high


def test_each_row_ends_in_a_bar_of_its_colours_from_least_to_most():
    image, probabilities = two_halves()
    picture = draw_maps(image, probabilities, PARAMS, ["a", "b"], [0]).astype(int)
    bar = picture[:, -70:].reshape(-1, 3)
    for colour in ((128, 0, 0), (0, 0, 128)):  # the ends of jet: no score of this image reaches them
        assert (np.abs(picture[:, :-70].reshape(-1, 3) - colour).max(axis=1) < 5).sum() == 0
        assert (np.abs(bar - colour).max(axis=1) < 5).sum() >= 10
