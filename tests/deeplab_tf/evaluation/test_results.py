import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.results import segment_examples
from deeplab_tf.inference.segmenter import Segmenter

CRF = CrfParams(w1=4, sigma_alpha=5, sigma_beta=20, w2=3, sigma_gamma=2, iterations=3)
INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))


def example(number):
    rng = np.random.default_rng(number)
    shape = (9 + number, 12)
    return f"image_{number}", rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, 3, shape)


def predict(image):
    scores = np.stack([image[..., channel] / 64.0 for channel in range(3)], axis=-1).astype(np.float32)
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


SEGMENTER, SEGMENTER_WITH_CRF = Segmenter(predict, INFO), Segmenter(predict, INFO, crf=CRF)


def test_results_come_in_order_and_are_those_of_one_step_after_the_other():
    examples = [example(number) for number in range(6)]
    results = list(segment_examples(SEGMENTER_WITH_CRF, iter(examples)))
    assert [result.image_id for result in results] == [image_id for image_id, _, _ in examples]
    for result, (_, image, truth) in zip(results, examples, strict=True):
        probabilities = predict(image)
        np.testing.assert_array_equal(result.network, probabilities.argmax(axis=-1))
        np.testing.assert_array_equal(result.refined, dense_crf(image, probabilities, CRF).argmax(axis=-1))
        assert result.truth is truth and result.network.dtype == np.uint8
        assert [id(one) for one in result.predicted] == [id(result.network), id(result.refined)]


def test_without_a_crf_there_is_one_prediction():
    (result,) = segment_examples(SEGMENTER, [example(0)])
    assert result.refined is None and result.crf_seconds is None and len(result.predicted) == 1


def test_only_a_few_images_are_read_ahead_of_the_one_in_use():
    read = []

    def examples():
        for number in range(9):
            read.append(number)
            yield example(number)

    for used, _ in enumerate(segment_examples(SEGMENTER, examples(), workers=2)):
        assert len(read) <= used + 4


def test_the_network_goes_on_while_the_crf_works(monkeypatch):
    second_image_seen = threading.Event()

    def slow_crf(image, probabilities, *_, **__):
        # Would wait in vain if the network only began when the CRF has ended.
        assert second_image_seen.wait(timeout=30)
        return probabilities

    seen = []

    def watched_predict(image):
        seen.append(image)
        if len(seen) == 2:
            second_image_seen.set()
        return predict(image)

    monkeypatch.setattr("deeplab_tf.inference.segmenter.dense_crf", slow_crf)
    assert len(list(segment_examples(Segmenter(watched_predict, INFO, crf=CRF), [example(0), example(1)]))) == 2


def all_end(before):
    """Says whether no other threads are left; those of a pool without work need a moment to end."""
    end = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.001)
    return not set(threading.enumerate()) - before


def test_a_failing_crf_is_reported_and_nothing_is_left_running(monkeypatch):
    def missing(*_, **__):
        raise UserError("not installed")

    monkeypatch.setattr("deeplab_tf.inference.segmenter.dense_crf", missing)
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="not installed"):
        list(segment_examples(SEGMENTER_WITH_CRF, (example(number) for number in range(5))))
    assert all_end(before)


def test_stopping_early_leaves_nothing_running():
    before = set(threading.enumerate())
    results = segment_examples(SEGMENTER_WITH_CRF, (example(number) for number in range(9)))
    next(results)
    results.close()
    assert all_end(before)


def test_an_image_without_a_result_is_left_out_where_that_is_allowed():
    def network(image):
        if image.shape[0] == 10:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return predict(image)

    errors = []
    results = segment_examples(Segmenter(network, INFO), map(example, range(3)), leave_out=errors.append)
    assert [result.image_id for result in results] == ["image_0", "image_2"]
    assert len(errors) == 1 and str(errors[0]).startswith("image_1: an image of 12x10 pixels does not fit into memory")
