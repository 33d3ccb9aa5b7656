"""Many images at once: the same as one by one, in order, within bounds, and one failure stays one failure."""

import threading

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.inference import pipeline
from deeplab_tf.inference.pipeline import Failure, segment_all, segment_items
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.runtime import memory

INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))
CRF = CrfParams(w1=4, sigma_alpha=5, sigma_beta=20, w2=3, sigma_gamma=2, iterations=2)


def picture(number, shape=(9, 12)):
    return np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)


class Network:
    """Probabilities that follow the colours, of one image or several; remembers the shapes that it saw."""

    def __init__(self, most_images=100):
        self.shapes, self.most_images = [], most_images

    def __call__(self, images):
        self.shapes.append(images.shape)
        if images.ndim == 4 and len(images) > self.most_images:
            raise UserError("a batch of images does not fit into memory")
        scores = np.exp(images / 64.0, dtype=np.float32)
        return scores / scores.sum(axis=-1, keepdims=True)


def labels(item, segmented):
    return item, segmented.prediction.labels


def read(item):
    if item == "unreadable":
        raise UserError("no image")
    return picture(*item)


ITEMS = [(0, (9, 12)), (1, (9, 12)), "unreadable", (2, (9, 12)), (3, (7, 5)), (4, (9, 12))]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("reads_ahead", [True, False])
def test_images_of_one_size_that_follow_each_other_run_together_with_equal_results(batch_size, reads_ahead):
    network = Network()
    options = {"batch_size": batch_size, "reads_ahead": reads_ahead}
    results = list(segment_items(Segmenter(network, INFO), ITEMS, read, labels, **options))
    assert [one.item if isinstance(one, Failure) else one[0] for one in results] == ITEMS
    assert str(results[2].error) == "no image" and not results[2].is_read
    for result in (*results[:2], *results[3:]):
        np.testing.assert_array_equal(result[1], Segmenter(Network(), INFO).segment(read(result[0])).labels)
    together = [shape[0] if len(shape) == 4 else 1 for shape in network.shapes]
    assert together == {1: [1] * 5, 2: [2, 1, 1, 1], 3: [3, 1, 1], 8: [3, 1, 1]}[batch_size]


def test_a_network_that_takes_one_image_gets_one_image():
    network = Network()
    segmenter = Segmenter(network, INFO, takes_batches=False)
    assert len(list(segment_items(segmenter, ITEMS, read, labels, batch_size=8))) == len(ITEMS)
    assert {len(shape) for shape in network.shapes} == {3}


def test_a_batch_that_the_memory_cannot_hold_runs_image_by_image():
    network = Network(most_images=1)
    results = list(segment_items(Segmenter(network, INFO), ITEMS[:2], read, labels, batch_size=2))
    assert [item for item, _ in results] == ITEMS[:2]
    assert [len(shape) for shape in network.shapes] == [4, 3, 3]


def test_an_image_that_the_crf_refuses_is_a_failure_and_the_others_go_on():
    def refused(image, *_, **__):
        if image.shape[0] == 7:
            raise UserError("the CRF's sigmas are too small")
        return Network()(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeplab_tf.inference.segmenter.dense_crf", refused)
        results = list(segment_items(Segmenter(Network(), INFO, crf=CRF), ITEMS, read, labels))
    assert [isinstance(one, Failure) for one in results] == [False, False, True, False, True, False]
    assert results[4].is_read and "sigmas" in str(results[4].error)


def test_an_image_too_large_for_the_crf_is_refused_before_the_network_runs(monkeypatch):
    monkeypatch.setattr(memory, "SMALL_PIXELS", 100)
    monkeypatch.setattr(memory, "available_bytes", lambda: 200_000)
    network = Network()
    pictures = [("small", picture(0)), ("large", picture(1, (20, 30)))]
    small, large = segment_all(Segmenter(network, INFO, crf=CRF), pictures, lambda name, _: name)
    assert small == "small" and "large: the dense CRF of an image of 30x20 pixels takes about" in str(large)
    assert network.shapes == [(9, 12, 3)]


def test_a_missing_backend_of_the_crf_ends_it_before_anything_is_read(monkeypatch):
    def missing(backend):
        raise UserError(f"{backend} is not installed")

    monkeypatch.setattr(pipeline, "check_backend", missing)
    segmenter = Segmenter(Network(), INFO, crf=CRF, crf_backend="pydensecrf")
    with pytest.raises(UserError, match="pydensecrf is not installed"):
        segment_items(segmenter, ITEMS, lambda item: pytest.fail("it was read"), labels)


def test_as_many_images_are_refined_at_a_time_as_there_are_workers():
    together = threading.Barrier(4, timeout=30)  # breaks unless all four come

    def use(item, segmented):
        together.wait()
        return item

    items = [(number, (9, 12)) for number in range(8)]
    assert list(segment_items(Segmenter(Network(), INFO), items, read, use, workers=4)) == items


@pytest.mark.parametrize(("images_that_fit", "together"), [(1, 1), (2, 2)])
def test_images_are_refined_only_as_many_at_a_time_as_the_memory_holds(monkeypatch, images_that_fit, together):
    lock, running, most = threading.Lock(), 0, 0

    def use(item, segmented):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.05)
        with lock:
            running -= 1
        return item

    one = pipeline._bytes_of(
        Segmenter(Network(), INFO, crf=CRF), pipeline._Run("", picture(0), Network()(picture(0)), 0.0)
    )
    monkeypatch.setattr(memory, "available_bytes", lambda: (images_that_fit + 0.5) * one / pipeline._SHARE_OF_MEMORY)
    items = [(number, (9, 12)) for number in range(8)]
    segmenter = Segmenter(Network(), INFO, crf=CRF)
    assert list(segment_items(segmenter, items, read, use, workers=4)) == items
    assert most == together


def test_times_and_the_labels_before_the_crf_come_with_an_image():
    def use(item, segmented):
        return segmented

    (plain,) = segment_items(Segmenter(Network(), INFO), ITEMS[:1], read, use)
    (refined,) = segment_items(Segmenter(Network(), INFO, crf=CRF), ITEMS[:1], read, use)
    assert plain.network_labels is plain.prediction.labels and plain.crf_seconds is None
    np.testing.assert_array_equal(refined.network_labels, plain.prediction.labels)
    assert (refined.prediction.labels != refined.network_labels).any()
    assert refined.crf_seconds > 0 and min(plain.network_seconds, refined.network_seconds) > 0


def test_pictures_may_be_paths_bytes_pil_images_arrays_and_errors(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    error = UserError("unreadable")
    pictures = [
        ("path", str(tmp_path / "0.png")),
        ("bytes", (tmp_path / "0.png").read_bytes()),
        ("pil", Image.fromarray(picture(0))),
        ("array", picture(0)),
        ("error", error),
        ("missing", tmp_path / "1.png"),
    ]
    *same, came, missing = segment_all(Segmenter(Network(), INFO), pictures, lambda _, prediction: prediction.labels)
    for found in same:
        np.testing.assert_array_equal(found, Segmenter(Network(), INFO).segment(picture(0)).labels)
    assert came is error and str(missing).startswith(f"{tmp_path / '1.png'}: expected this image")
