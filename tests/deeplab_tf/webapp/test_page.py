"""What the page says and shows, without HTTP and without a browser."""

import html
import json
import re

import numpy as np
import pytest

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import page
from deeplab_tf.webapp.page import Limits, constants_around, params_of, read_image
from deeplab_tf.webapp.served_model import ServedModel
from tests.page_server import pixels, png

INFO = DatasetInfo("things", ("background", "cat", "<dog>"), pascal_palette(3))
PARAMS = CrfParams(w1=4.5, sigma_alpha=300, sigma_beta=3, w2=3, sigma_gamma=1, iterations=7)
VALUES = {"w1": 4.5, "sigma_alpha": 300, "sigma_beta": 3, "w2": 3, "sigma_gamma": 1, "iterations": 7}


def told_by(rendered):
    """What the page's script is told."""
    return json.loads(html.unescape(re.search(r'<body data-told="([^"]*)">', rendered)[1]))


def rendered(title="a model", without_crf="", info=INFO, params=PARAMS):
    return page.render(ServedModel(title, Segmenter(np.zeros_like, info), params, without_crf), Limits())


def test_the_sliders_have_the_papers_names_and_begin_with_the_models_constants():
    constants = {constant["name"]: constant for constant in told_by(rendered())["constants"]}
    assert list(constants) == ["w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations"]
    for name, constant in constants.items():
        assert constant["value"] == getattr(PARAMS, name)
        assert constant["low"] <= constant["value"] <= constant["high"]
    assert "pixels" in constants["sigma_alpha"]["meaning"] and "RGB levels" in constants["sigma_beta"]["meaning"]


def test_the_values_of_the_sliders_become_constants():
    other = VALUES | {"w1": 0, "iterations": 20.0}
    params = params_of(other, constants_around(PARAMS))
    assert params == CrfParams(0, 300, 3, 3, 1, 20) and type(params.iterations) is int
    assert params_of(VALUES, constants_around(PARAMS)) == PARAMS


@pytest.mark.parametrize(
    "wrong",
    [
        VALUES | {"w1": -0.1},
        VALUES | {"sigma_alpha": 300.5},
        VALUES | {"sigma_alpha": 0},
        VALUES | {"iterations": 21},
        VALUES | {"iterations": 1.5},
        VALUES | {"iterations": 10**400},
        VALUES | {"w2": float("nan")},
        VALUES | {"w2": float("inf")},
        VALUES | {"w2": True},
        VALUES | {"w2": "3"},
        VALUES | {"w2": None},
        VALUES | {"path": 3},
        {name: value for name, value in VALUES.items() if name != "w1"},
        list(VALUES.values()),
        None,
    ],
)
def test_values_that_no_slider_has_are_refused(wrong):
    with pytest.raises(UserError):
        params_of(wrong, constants_around(PARAMS))


def test_a_model_without_crf_says_why():
    assert told_by(rendered(without_crf="this model answers labels."))["withoutCrf"] == "this model answers labels."


def test_names_cannot_bring_markup_into_the_page():
    evil = "\"'></title><script>alert(1)</script><!-- ${x} $title"
    info = DatasetInfo("things", ("background", evil), pascal_palette(2))
    text = rendered(title=evil, info=info)
    assert "<script>" not in text and "<!-- $" not in text and text.count("<script") == 1
    assert told_by(text)["title"] == evil and told_by(text)["classes"] == ["background", evil]


def test_nothing_comes_from_a_network():
    text = page.style() + page.script() + rendered()
    assert not re.search(r"@import|url\(|https?://|//[a-z0-9-]+\.[a-z]", text)


def test_the_script_puts_nothing_in_as_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", page.script())


def test_a_large_image_is_scaled_down():
    image, size = read_image(png(pixels()), "a.png", Limits(max_side=20), print)
    assert image.shape == (12, 20, 3) and size == (24, 40)
    image, size = read_image(png(pixels()), "a.png", Limits(max_side=0), print)
    np.testing.assert_array_equal(image, pixels())
    assert size == (24, 40)


def test_a_file_that_cannot_be_taken_is_named():
    with pytest.raises(UserError, match=r"^holiday\.png: expected a whole image"):
        read_image(png(pixels())[:200], "holiday.png", Limits(), print)
    with pytest.raises(UserError, match=r"^holiday\.png: .*megapixels, got 40x24\. .*--max_megapixels"):
        read_image(png(pixels()), "holiday.png", Limits(max_pixels=100), print)


def test_shares_are_of_the_pixels_and_small_ones_are_not_nothing():
    labels = np.zeros((100, 100), np.uint8)
    labels[0, :3] = 2
    labels[50:] = 1
    drawn = page.draw_labels(labels, INFO, 1.234)
    shares = [(item["name"], tuple(item["colour"]), item["share"]) for item in drawn["shares"]]
    assert shares == [
        ("cat", INFO.palette[1], "50.0 %"),
        ("background", INFO.palette[0], "50.0 %"),
        ("<dog>", INFO.palette[2], "< 0.1 %"),
    ]
    assert drawn["seconds"] == 1.23
