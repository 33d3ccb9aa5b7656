import io
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.inference.pipeline import segment_all
from deeplab_tf.inference.segmenter import Segmenter

INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))
CRF = CrfParams(w1=4, sigma_alpha=5, sigma_beta=20, w2=3, sigma_gamma=2, iterations=3)


def ask(image):
    """Probabilities that follow the colours: background where it is dark."""
    scores = np.concatenate([np.full_like(image[..., :1], 90), image[..., :2]], axis=-1).astype(np.float32)
    return scores / scores.sum(axis=-1, keepdims=True)


def picture(number, shape=(9, 12)):
    return np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)


def test_an_image_gives_its_likeliest_classes_and_their_probabilities():
    image = picture(0)
    prediction = Segmenter(ask, INFO).segment(image)
    np.testing.assert_array_equal(prediction.probabilities, ask(image))
    np.testing.assert_array_equal(prediction.labels, ask(image).argmax(axis=-1))
    assert prediction.labels.dtype == np.uint8 and len(np.unique(prediction.labels)) == 3
    overlay = Segmenter(ask, INFO).overlay(prediction)
    expected = visualize.overlay(image, prediction.labels, INFO.palette, background=INFO.background_label)
    np.testing.assert_array_equal(overlay, expected)


def test_the_bytes_of_a_file_give_the_same_as_its_pixels():
    image, encoded = picture(0), io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    segmenter = Segmenter(ask, INFO)
    for one, other in zip(segmenter.segment(encoded.getvalue()), segmenter.segment(image), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="no known image format"):
        segmenter.segment(b"no image")


def test_with_a_crf_the_refined_probabilities_decide():
    image = picture(0)
    prediction = Segmenter(ask, INFO, crf=CRF).segment(image)
    refined = dense_crf(image, ask(image), CRF)
    np.testing.assert_array_equal(prediction.probabilities, refined)
    np.testing.assert_array_equal(prediction.labels, refined.argmax(axis=-1))
    assert (prediction.labels != ask(image).argmax(axis=-1)).any()


def test_a_model_of_labels_has_no_probabilities():
    prediction = Segmenter(lambda image: image[..., 0] % 3, INFO, has_probabilities=False).segment(picture(0))
    np.testing.assert_array_equal(prediction.labels, picture(0)[..., 0] % 3)
    assert prediction.probabilities is None


@pytest.mark.parametrize("crf", [None, CRF])
def test_many_images_give_what_each_gives_alone_and_in_order(crf):
    segmenter = Segmenter(ask, INFO, crf=crf)
    images = {str(number): picture(number, (9 + number, 12)) for number in range(12)}
    results = segment_all(segmenter, images.items(), lambda name, prediction: (name, prediction.labels))
    for (name, labels), (expected, image) in zip(results, images.items(), strict=True):
        assert name == expected
        np.testing.assert_array_equal(labels, segmenter.segment(image).labels)


def test_an_error_takes_the_place_of_its_picture_and_the_others_go_on():
    error = UserError("unreadable")

    def ask_or_fail(image):
        if image.shape[0] == 20:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return ask(image)

    pictures = [("a", picture(0)), ("b", error), ("c", picture(1)), ("d", picture(2, (20, 30))), ("e", picture(3))]
    a, b, c, d, e = segment_all(Segmenter(ask_or_fail, INFO), iter(pictures), lambda name, _: name)
    assert (a, b, c, e) == ("a", error, "c", "e")
    assert isinstance(d, UserError) and "d: an image of 30x20 pixels does not fit into memory" in str(d)


def test_a_defect_is_not_taken_for_a_bad_picture():
    def broken(image):
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        list(segment_all(Segmenter(broken, INFO), [("a", picture(0))], lambda *_: None))
    with pytest.raises(UserError, match="disk full"):
        list(segment_all(Segmenter(ask, INFO), [("a", picture(0))], _disk_full))


def _disk_full(name, prediction):
    raise UserError("disk full")


def test_reading_the_network_and_writing_happen_at_the_same_time():
    together = threading.Barrier(3, timeout=30)  # breaks unless all three come

    def pictures():
        for number in range(9):
            if number == 3:
                together.wait()
            yield str(number), np.full((4, 4, 3), number, np.uint8)

    def watched_ask(image):
        if image[0, 0, 0] == 1:
            together.wait()
        return ask(image)

    def write(name, prediction):
        if name == "0":
            together.wait()
        return name

    assert list(segment_all(Segmenter(watched_ask, INFO), pictures(), write)) == [str(number) for number in range(9)]


def test_only_a_few_images_are_in_memory():
    read = []

    def pictures():
        for number in range(30):
            read.append(number)
            yield str(number), picture(number)

    for used, _ in enumerate(segment_all(Segmenter(ask, INFO), pictures(), lambda *_: None)):
        assert len(read) <= used + 11
