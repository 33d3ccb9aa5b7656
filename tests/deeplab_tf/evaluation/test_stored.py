import re

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.evaluate import evaluate
from deeplab_tf.evaluation.stored import read_results
from deeplab_tf.images import visualize

INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))
TRUTH = np.random.default_rng(0).integers(0, 3, (6, 5))
PREDICTED = np.where(TRUTH == 2, 1, TRUTH).astype(np.uint8)
IMAGE = np.zeros((6, 5, 3), np.uint8)


def read(folder, *ids):
    errors = []
    examples = [(image_id, IMAGE, TRUTH) for image_id in ids]
    return list(read_results(str(folder), examples, INFO, errors.append)), list(map(str, errors))


def test_indices_palettes_and_colours_of_the_palette_are_labels(tmp_path):
    visualize.save_palette_png(tmp_path / "palette.png", PREDICTED, INFO.palette)
    visualize.save_image(tmp_path / "colours.png", visualize.colourize(PREDICTED, INFO.palette))
    Image.fromarray(PREDICTED).save(tmp_path / "grey.png")
    Image.fromarray(PREDICTED.astype(np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "city").mkdir()
    Image.fromarray(PREDICTED).save(tmp_path / "city" / "street.png")
    results, errors = read(tmp_path, "palette", "colours", "grey", "deep", "city/street", "elsewhere/grey")
    assert errors == [] and len(results) == 6
    for result in results:
        assert result.network.dtype == np.uint8
        np.testing.assert_array_equal(result.network, PREDICTED)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (None, r"a.png: expected this prediction, found no such file"),
        (PREDICTED[:4], r"a.png: expected labels of 5x6 pixels, as the image has, got 5x4"),
        (np.where(TRUTH == 2, 3, 0).astype(np.uint8), r"a.png: expected class indices 0..2, got 3"),
        (np.full((6, 5, 3), 7, np.uint8), r"a.png: expected class indices, got the colour #070707"),
        (PREDICTED > 0, r"a.png: expected class indices, one channel of 8 bits, got Pillow mode 1"),
    ],
)
def test_missing_and_other_pngs_are_named_and_the_others_scored(tmp_path, pixels, says):
    Image.fromarray(PREDICTED).save(tmp_path / "b.png")
    if pixels is not None:
        Image.fromarray(pixels).save(tmp_path / "a.png")
    [result], [error] = read(tmp_path, "a", "b")
    assert result.image_id == "b"
    assert re.search(says, error), error


def test_stored_labels_are_scored_without_times_and_with_what_is_missing(tmp_path):
    visualize.save_palette_png(tmp_path / "a.png", TRUTH.astype(np.uint8), INFO.palette)
    results, _ = read(tmp_path, "a", "b")
    metrics = evaluate(iter(results), 2, INFO, out_dir=str(tmp_path / "out")).metrics
    assert metrics["miou"] == 1 and metrics["seconds_per_image"] is None
    assert (metrics["num_images"], metrics["num_left_out"]) == (1, 1)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder; name one that holds a PNG"):
        read(tmp_path / "nowhere", "a")
