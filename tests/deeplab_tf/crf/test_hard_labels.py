import numpy as np
import pytest
from PIL import Image

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.hard_labels import probabilities_of_labels
from deeplab_tf.crf.params import CrfParams

LABELS = np.random.default_rng(0).integers(0, 3, (8, 9))
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=20, w2=3, sigma_gamma=2, iterations=5)


def test_the_rest_is_shared_and_nothing_is_known_of_ignored_pixels():
    labels = LABELS.copy()
    labels[2, 3] = 255
    probabilities = probabilities_of_labels(labels, 3, gt_prob=0.8)
    assert probabilities.dtype == np.float32 and probabilities.shape == (8, 9, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(probabilities[2, 3], 1 / 3)
    known = labels != 255
    np.testing.assert_allclose(np.sort(probabilities[known], axis=-1), np.tile([0.1, 0.1, 0.8], (71, 1)), rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=-1)[known], labels[known])


def test_they_are_those_of_pydensecrfs_helper():
    unary_from_labels = pytest.importorskip("pydensecrf.utils").unary_from_labels
    energy = unary_from_labels(LABELS, 3, gt_prob=0.6, zero_unsure=False).reshape(3, 8, 9)
    np.testing.assert_allclose(-np.log(probabilities_of_labels(LABELS, 3, 0.6)).transpose(2, 0, 1), energy, rtol=1e-5)


def test_one_hot_labels_stay_and_labels_with_a_confidence_change():
    image = np.full((8, 9, 3), 100, np.uint8)
    labels = np.zeros((8, 9), int)
    labels[4, 4] = 1
    one_hot = np.eye(2, dtype=np.float32)[labels]
    assert (dense_crf(image, one_hot, PARAMS).argmax(axis=-1) == labels).all()
    assert (dense_crf(image, probabilities_of_labels(labels, 2), PARAMS).argmax(axis=-1) == 0).all()


@pytest.mark.parametrize(
    ("labels", "classes", "gt_prob", "says"),
    [
        (LABELS, 3, 1.0, "gt_prob must be between 1/3 and 1"),
        (LABELS, 3, 0.3, "gt_prob must be between"),
        (LABELS, 2, 0.9, "labels must be 0..1 or 255, got 0..2"),
        (LABELS / 2, 3, 0.9, "labels must be integers"),
    ],
)
def test_what_means_no_labels_is_refused(labels, classes, gt_prob, says):
    with pytest.raises(ValueError, match=says):
        probabilities_of_labels(labels, classes, gt_prob)


def test_the_crf_takes_pil_images_and_says_what_to_do_about_floats():
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 3), np.uint8)
    probabilities = probabilities_of_labels(LABELS, 3)
    np.testing.assert_array_equal(
        dense_crf(Image.fromarray(pixels), probabilities, PARAMS), dense_crf(pixels, probabilities, PARAMS)
    )
    with pytest.raises(ValueError, match=r"np.rint\(255 \* image\)"):
        dense_crf(pixels / 255, probabilities, PARAMS)
