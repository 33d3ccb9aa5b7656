import numpy as np
import pytest

from deeplab_tf.evaluation.sizes import BOUNDS, MIN_PIXELS, ObjectSizes


def canvas():
    return np.zeros((200, 200), np.uint8)


def test_an_object_counts_by_its_own_size_and_as_much_as_another():
    labels, predicted = canvas(), canvas()
    labels[:10, :10] = 1  # 100 pixels: small
    labels[20:30, :20] = 2  # 200 pixels: small
    labels[100:, 100:] = 1  # 10,000 pixels: large
    predicted[:10, :10] = 1
    predicted[20:30, :5] = 2
    predicted[100:, 100:150] = 1
    sizes = ObjectSizes(3)
    sizes.update(labels, predicted)
    assert sizes.summary() == {
        "small": {"objects": 2, "found": pytest.approx((1 + 0.25) / 2)},
        "medium": {"objects": 0, "found": None},
        "large": {"objects": 1, "found": 0.5},
    }


def test_the_bounds_are_those_of_coco():
    for pixels, size in ((32**2 - 1, "small"), (32**2, "medium"), (96**2 - 1, "medium"), (96**2, "large")):
        labels = canvas()
        labels.ravel()[:pixels] = 1  # rows from the top: connected
        sizes = ObjectSizes(2)
        sizes.update(labels, labels)
        assert {name: entry["objects"] for name, entry in sizes.summary().items()} == {
            name: int(name == size) for name, _ in BOUNDS
        }


def test_scraps_the_background_and_ignored_pixels_are_no_objects():
    labels = canvas()
    labels.ravel()[: MIN_PIXELS - 1] = 1
    labels[50:100] = 255
    sizes = ObjectSizes(2)
    sizes.update(labels, np.zeros_like(labels))
    assert all(entry["objects"] == 0 for entry in sizes.summary().values())
    without_background = ObjectSizes(2, background=None)
    without_background.update(labels, np.zeros_like(labels))
    assert without_background.summary()["large"] == {"objects": 2, "found": 1.0}


def test_another_class_is_not_found_and_corners_connect():
    labels, predicted = canvas(), canvas()
    labels[:4, :4] = labels[4:8, 4:8] = 1
    predicted[:4, :4] = 2
    predicted[4:8, 4:8] = 1
    sizes = ObjectSizes(3)
    sizes.update(labels, predicted)
    assert sizes.summary()["small"] == {"objects": 1, "found": 0.5}
