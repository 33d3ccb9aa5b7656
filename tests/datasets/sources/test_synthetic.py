import cv2
import numpy as np
import pytest

from datasets.source import Source
from datasets.sources import synthetic, synthetic_objects
from deeplab_tf.errors import UserError

SOURCE = Source()


def draw(split, number):
    example = synthetic.example(SOURCE, split, synthetic.ids(SOURCE, split)[number])
    return cv2.imdecode(np.frombuffer(example.image, np.uint8), cv2.IMREAD_COLOR), example.labels


def test_info_names_seven_classes_and_splits_are_train_and_val():
    info = synthetic.info(SOURCE)
    assert info.num_classes == 7 and info.class_names[0] == "background"
    assert synthetic.splits(SOURCE) == ["train", "val"]
    assert len(set(synthetic.ids(SOURCE, "train"))) == 240
    assert len(set(synthetic.ids(SOURCE, "val"))) == 40


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(UserError, match="'test'"):
        synthetic.ids(SOURCE, "test")


def test_the_same_id_gives_the_same_bytes_whatever_was_drawn_before():
    first = synthetic.example(SOURCE, "train", "train_0003")
    synthetic.example(SOURCE, "val", "val_0001")
    again = synthetic.example(SOURCE, "train", "train_0003")
    assert first.image == again.image and first.image_id == again.image_id == "train_0003"
    np.testing.assert_array_equal(first.labels, again.labels)


def test_train_and_val_and_neighbouring_ids_differ():
    images = {synthetic.example(SOURCE, split, "0001").image for split in ("train", "val")}
    images |= {synthetic.example(SOURCE, "train", "0002").image}
    assert len(images) == 3


def test_labels_fit_the_image_and_hold_only_classes_and_border():
    for number in range(12):
        image, labels = draw("train", number)
        assert labels.dtype == np.uint8 and labels.shape == image.shape[:2]
        assert labels.shape[0] != labels.shape[1]
        assert all(185 <= side <= 249 and side % 8 for side in labels.shape)
        assert set(np.unique(labels)) <= {*range(7), 255}


def test_every_class_is_frequent_in_val_and_the_border_is_a_small_share():
    all_labels = [draw("val", number)[1] for number in range(40)]
    images_with = np.array([[(labels == label).any() for label in range(7)] for labels in all_labels]).sum(0)
    pixels = np.bincount(np.concatenate([labels.ravel() for labels in all_labels]), minlength=256)
    assert images_with.min() >= 10
    assert (pixels[:7] / pixels.sum()).min() > 0.025
    assert 0.02 < pixels[255] / pixels.sum() < 0.08


def test_every_contour_between_thick_things_lies_under_the_border():
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 5:20] = 1
    labels[10:30, 20:36] = 2
    border = synthetic._with_border(labels) == 255
    assert border[20, 4] and border[20, 5] and not border[20, 3] and not border[20, 6]
    assert border[20, 19] and border[20, 20] and not border[20, 18] and not border[20, 21]


def test_thin_parts_keep_their_label_over_their_whole_width():
    labels = np.zeros((60, 60), np.uint8)
    labels[5:25, 10:50] = 3  # a canopy
    labels[25:55, 28:32] = 3  # its shaft, 4 pixels wide
    marked = synthetic._with_border(labels)
    np.testing.assert_array_equal(marked[45, 26:34], [0, 255, 3, 3, 3, 3, 255, 0])


@pytest.mark.parametrize("name", list(synthetic_objects.OBJECTS))
def test_an_object_fills_its_canvas_and_leaves_its_corners_empty(name):
    look = synthetic_objects.Look((200.0, 60.0, 50.0), (50.0, 90.0, 180.0), (0.3, -0.5, 0.8), 256 / 85)
    coverage = synthetic_objects.OBJECTS[name](np.random.default_rng(0), look)[..., 3] > 0
    assert 0.15 < coverage.mean() < 0.8
    assert not coverage[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert cv2.connectedComponents(coverage.astype(np.uint8))[0] == 2  # one piece, and the empty rest
