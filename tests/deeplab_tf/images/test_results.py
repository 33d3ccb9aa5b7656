"""Each name of --save, opened as others open it."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images import results, visualize
from deeplab_tf.images.results import OF_ALL, OF_EACH, SAVE, Results, Segmented, labels_of_names

INFO = DatasetInfo("four", ("background", "cat", "dog", "bird"), pascal_palette(4))
IMAGE = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
LABELS = np.zeros((9, 14), np.uint8)
LABELS[1:4, 2:9] = 1
LABELS[5:8, 3:6] = 2
PROBABILITIES = np.random.default_rng(1).random((9, 14, 4)).astype(np.float32)
CATS = Segmented("cat.jpg", IMAGE, LABELS, PROBABILITIES, INFO, (1,))


@pytest.fixture
def saved(tmp_path):
    def save(kind):
        Results(str(tmp_path), [kind]).write("cat", CATS)
        [path] = tmp_path.iterdir()
        assert path.name == f"cat{OF_EACH[kind].ending}"
        return path

    return save


def test_indices_are_read_by_opencv_as_they_are(saved):
    path = str(saved("indices"))
    np.testing.assert_array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), LABELS)
    np.testing.assert_array_equal(cv2.imread(path, cv2.IMREAD_GRAYSCALE), LABELS)


def test_a_mask_is_white_where_one_of_the_classes_is(saved):
    np.testing.assert_array_equal(cv2.imread(str(saved("mask")), cv2.IMREAD_UNCHANGED), (LABELS == 1) * 255)


def test_a_cutout_is_transparent_elsewhere_and_keeps_its_pixels(saved):
    with Image.open(saved("cutout")) as image:
        assert image.mode == "RGBA"
        rgba = np.asarray(image)
    np.testing.assert_array_equal(rgba[..., :3], IMAGE)
    np.testing.assert_array_equal(rgba[..., 3], (LABELS == 1) * 255)


def test_a_class_0_that_is_not_the_background_is_painted(tmp_path):
    info = DatasetInfo("road", ("road", "cat", "dog", "bird"), ((200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)))
    Results(str(tmp_path), ["overlay"]).write("cat", CATS._replace(image=np.zeros((9, 14, 3), np.uint8), info=info))
    with Image.open(tmp_path / "cat_overlay.jpg") as image:
        assert np.asarray(image)[-1, -1, 0] > 90


def test_a_legend_stands_below_the_overlay_and_has_the_classes_of_the_image(saved):
    with Image.open(saved("legend")) as image:
        picture = np.asarray(image)
    assert picture.shape[1] == 240 and picture.shape[0] > 9 + 15
    drawn = visualize.overlay(IMAGE, LABELS, INFO.palette)
    assert np.abs(picture[:9, :14].astype(int) - drawn).mean() < 12  # JPEG
    key = picture[9:].reshape(-1, 3).astype(int)
    for label, there in enumerate((True, True, True, False)):
        assert (np.abs(key - INFO.palette[label]).max(axis=-1) < 40).any() == there, label


def test_polygons_are_of_the_classes_only(saved):
    [feature] = json.loads(saved("polygons").read_text())["features"]
    assert feature["properties"] == {"class": "cat", "label": 1, "area": 21}
    assert sorted(map(tuple, feature["geometry"]["coordinates"][0][:4])) == [(2, 1), (2, 4), (9, 1), (9, 4)]


def test_the_classes_are_all_but_background_unless_they_are_named():
    assert labels_of_names([], INFO) == (1, 2, 3)
    assert labels_of_names(["bird", "cat"], INFO) == (3, 1)
    road_first = DatasetInfo("street", ("road", "sky"), pascal_palette(2))
    assert labels_of_names([], road_first) == (0, 1)
    with pytest.raises(UserError, match="--classes names lion; the classes are background, cat, dog, bird"):
        labels_of_names(["lion", "cat"], INFO)


def test_every_name_that_save_takes_is_described():
    lines = results.describe().splitlines()
    assert {line.split(":")[0] for line in lines} == {*SAVE, "Of images", "Of videos"}
    assert set(OF_EACH) | set(OF_ALL) < set(SAVE)
