import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.inference.prediction import Prediction

INFO = DatasetInfo("three", ("background", "cat", "dog"), pascal_palette(3))
LABELS = np.zeros((20, 30), np.uint8)
LABELS[2:8, 3:9], LABELS[10:14, 20:25] = 1, 2
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
PREDICTION = Prediction(PIXELS, LABELS, np.eye(3, dtype=np.float32)[LABELS], INFO)


def test_names_and_shares_say_what_is_in_the_image():
    assert PREDICTION.names[LABELS[3, 4]] == "cat"
    assert PREDICTION.shares == {"background": 1 - 56 / 600, "cat": 36 / 600, "dog": 20 / 600}
    assert repr(PREDICTION) == "Prediction(30x20: background 90.7 %, cat 6.0 %, dog 3.3 %)"


def test_a_plot_is_the_overlay_above_the_names_of_the_classes_in_it():
    plot = PREDICTION.plot()
    assert plot.size[0] == 240 and plot.size[1] > 20
    drawn = visualize.overlay(PIXELS, LABELS, INFO.palette, background=0)
    np.testing.assert_array_equal(np.asarray(plot)[:20, :30], drawn)
    key = visualize.legend(INFO.class_names, INFO.palette, 240)
    np.testing.assert_array_equal(np.asarray(plot)[20:], key)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(PREDICTION._repr_png_()))), np.asarray(plot))


def test_polygons_are_those_of_the_named_classes():
    assert [(region.label, region.area) for region in PREDICTION.polygons()] == [(1, 36), (2, 20)]
    assert [region.box for region in PREDICTION.polygons(["dog"])] == [(20, 10, 5, 4)]
    with pytest.raises(UserError, match=r"no class cow; the classes are background, cat, dog\."):
        PREDICTION.polygons(["dog", "cow"])


def test_the_ending_says_what_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PREDICTION.save("a.png") == "a.png"
    with Image.open("a.png") as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), LABELS)
    drawn = visualize.overlay(PIXELS, LABELS, INFO.palette, background=0).astype(int)
    for name in ("new/folder/a.jpg", "a.jpeg"):
        with Image.open(PREDICTION.save(name)) as saved:
            assert np.abs(np.asarray(saved).astype(int) - drawn).mean() < 20
    features = json.loads(Path(PREDICTION.save(tmp_path / "a.geojson", classes="dog")).read_text())["features"]
    assert [feature["properties"]["class"] for feature in features] == ["dog"]
    np.testing.assert_array_equal(np.load(PREDICTION.save("a.npy")), PREDICTION.probabilities)
    with Image.open(PREDICTION.save("mask.png", "mask", ["cat"])) as mask:
        np.testing.assert_array_equal(np.asarray(mask), np.where(LABELS == 1, 255, 0))


def test_saving_never_replaces_a_file_by_itself(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"the photograph")
    with pytest.raises(UserError, match="may be the image itself"):
        PREDICTION.save(tmp_path / "cat.jpg")
    assert (tmp_path / "cat.jpg").read_bytes() == b"the photograph"
    PREDICTION.save(tmp_path / "cat.jpg", overwrite=True)
    assert (tmp_path / "cat.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("a.tif", "", "ends in .png, .jpg, .jpeg, .geojson, .npy, or a kind"),
        ("a.png", "labls", "no kind 'labls': choose one of labels"),
        ("a.jpg", "labels", "labels is written as .png"),
        ("a.npy", "", "labels only"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, name, kind, says):
    with pytest.raises(UserError, match=says):
        PREDICTION._replace(probabilities=None).save(tmp_path / name, kind)
    assert not list(tmp_path.iterdir())
