"""What the page shows, without Gradio and without a browser."""

import base64
import concurrent.futures
import io
import re

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.webapp import page, served_model
from deeplab_tf.webapp.page import Limits, answer
from deeplab_tf.webapp.served_model import ServedModel

INFO = DatasetInfo("things", ("background", "cat", "<dog>"), pascal_palette(3))
PARAMS = CrfParams(w1=4, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)


def network(image):
    """Probabilities by colour: blue pixels are background, red ones cats, green ones dogs, none for sure."""
    scores = image[..., [2, 0, 1]].astype(np.float32) / 64
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Counted:
    """A network that counts how often it is asked, and how many ask at once."""

    def __init__(self):
        self.asked = self.inside = self.most_inside = 0

    def __call__(self, image):
        self.asked += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        probabilities = network(image)
        self.inside -= 1
        return probabilities


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
def model(counted):
    return ServedModel("a model", Segmenter(counted, INFO), PARAMS)


@pytest.fixture
def crf_calls(monkeypatch):
    """The constants of every call of the CRF."""
    calls = []

    def noted(image, probabilities, params):
        calls.append(params)
        return dense_crf(image, probabilities, params)

    monkeypatch.setattr(served_model, "dense_crf", noted)
    return calls


def pixels(height=24, width=40, seed=0):
    """Blue, with a red block that is a tenth of it, and noise."""
    image = np.full((height, width, 3), (40, 40, 200), np.float32)
    image[: height // 2, : width // 5] = (200, 40, 40)
    image += np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def png(image):
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    return encoded.getvalue()


def pictures(shown_html, kind):
    """The decoded pictures of a class of <img>."""
    sources = re.findall(rf'<img class="{kind}"[^>]*src="data:[^;]*;base64,([^"]*)"', shown_html)
    return [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]


def test_the_labels_can_be_saved_as_they_are_and_the_legend_names_what_is_there(model):
    image = pixels()
    expected = np.argmax(network(image), -1)
    shown, drawn = answer(model, Limits(), None, png(image), None)
    np.testing.assert_array_equal(shown.segmented.labels, expected)
    (labels,) = pictures(drawn, "labels")
    assert labels.mode == "P" and labels.getpalette()[3:6] == list(INFO.palette[1])
    np.testing.assert_array_equal(np.asarray(labels), expected)
    saved = re.search(r'download="labels.png" href="data:image/png;base64,([^"]*)"', drawn)[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(saved)))), expected)
    shares = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", drawn)
    assert shares == [("background", "90.0 %"), ("cat", "10.0 %")]
    assert re.search(r"network \d+\.\d\d s.*40 x 24 pixels", drawn) and "CRF" not in drawn


def test_the_overlay_is_the_image_below_a_layer_that_leaves_the_background_free(model):
    image = pixels()
    _, drawn = answer(model, Limits(), None, png(image), None)
    (below,), (layer,) = pictures(drawn, "image"), pictures(drawn, "layer")
    assert np.abs(np.asarray(below).astype(int) - image).mean() < 15  # JPEG
    assert layer.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(layer)[..., 3] > 0, np.argmax(network(image), -1) > 0)


def test_moving_the_constants_asks_the_crf_and_not_the_network(model, counted, crf_calls):
    data = png(pixels())
    shown, _ = answer(model, Limits(), None, data, None)
    shown, _ = answer(model, Limits(), shown, data, PARAMS)
    other = CrfParams(w1=8, sigma_alpha=20, sigma_beta=5, w2=3, sigma_gamma=2, iterations=3)
    shown, drawn = answer(model, Limits(), shown, data, other)
    assert counted.asked == 1 and crf_calls == [PARAMS, other]
    expected = np.argmax(dense_crf(pixels(), network(pixels()), other), -1)
    np.testing.assert_array_equal(np.asarray(pictures(drawn, "labels")[0]), expected)
    assert re.search(r"network \d+\.\d\d s.*CRF \d+\.\d\d s", drawn)


def test_turning_the_crf_off_and_on_again_asks_nobody(model, counted, crf_calls):
    data = png(pixels())
    shown, before = answer(model, Limits(), None, data, PARAMS)
    shown, _ = answer(model, Limits(), shown, data, None)
    shown, after = answer(model, Limits(), shown, data, PARAMS)
    assert after == before and counted.asked == 1 and len(crf_calls) == 1


def test_another_file_asks_the_network_again(model, counted):
    shown, _ = answer(model, Limits(), None, png(pixels()), None)
    shown, drawn = answer(model, Limits(), shown, png(pixels(30, 20)), None)
    assert counted.asked == 2 and "20 x 30 pixels" in drawn


def test_who_is_no_longer_known_is_answered_all_the_same(model, counted):
    _, drawn = answer(model, Limits(), None, png(pixels()), PARAMS)
    assert counted.asked == 1 and "CRF" in drawn


def test_without_a_file_nothing_is_shown_or_kept(model):
    shown, _ = answer(model, Limits(), None, png(pixels()), None)
    assert answer(model, Limits(), shown, None, None) == (None, page.EMPTY)


@pytest.mark.parametrize(
    ("data", "limits", "says"),
    [
        (b"no image", Limits(), "expected a whole image"),
        (png(pixels())[:200], Limits(), "expected a whole image"),
        (png(pixels()), Limits(max_bytes=100), r"at most 0.0001 MB, got .* --max_megabytes"),
        (png(pixels()), Limits(max_pixels=100), r"megapixels, got 40x24\. .*--max_megapixels"),
    ],
)
def test_a_file_that_cannot_be_taken_gives_a_message_and_the_network_is_not_asked(model, counted, data, limits, says):
    shown, drawn = answer(model, limits, None, data, None)
    assert shown is None and counted.asked == 0
    assert re.search(f'class="problem" role="alert">.*{says}', drawn)


def test_sigmas_that_no_lattice_can_hold_give_a_message(model):
    _, drawn = answer(model, Limits(), None, png(pixels()), CrfParams(sigma_alpha=1e-6))
    assert 'class="problem"' in drawn and "too small" in drawn


def test_a_large_image_is_scaled_down_and_the_page_says_so(model):
    shown, drawn = answer(model, Limits(max_side=20), None, png(pixels()), None)
    assert shown.segmented.labels.shape == (12, 20)
    assert "40 x 24 pixels, scaled down to 20 x 12" in drawn
    shown, drawn = answer(model, Limits(max_side=0), None, png(pixels()), None)
    assert shown.segmented.labels.shape == (24, 40) and "scaled" not in drawn


def test_a_class_name_cannot_bring_markup_into_the_page(model):
    image = np.full((8, 8, 3), (0, 255, 0), np.uint8)
    _, drawn = answer(model, Limits(), None, png(image), None)
    assert "&lt;dog&gt;" in drawn and "<dog>" not in drawn


def test_a_model_of_labels_answers_and_says_why_it_has_no_crf():
    labels_of = Segmenter(lambda image: np.argmax(network(image), -1).astype(np.uint8), INFO, has_probabilities=False)
    without = ServedModel("", labels_of, PARAMS, "labels.")
    shown, drawn = answer(without, Limits(), None, png(pixels()), None)
    assert shown.segmented.probabilities is None and "cat" in drawn
    with pytest.raises(UserError, match="no CRF here: labels"):
        without.refine(shown.segmented, PARAMS)


def test_many_at_once_get_their_own_answers_one_after_the_other(model, counted):
    files = [png(pixels(16 + i, 30, seed=i)) for i in range(12)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda data: answer(model, Limits(), None, data, PARAMS), files))
    assert counted.most_inside == 1 and counted.asked == 12
    for i, (shown, _) in enumerate(results):
        image = pixels(16 + i, 30, seed=i)
        np.testing.assert_array_equal(shown.segmented.image, image)
        expected = np.argmax(dense_crf(image, network(image), PARAMS), -1)
        np.testing.assert_array_equal(shown.refined.labels, expected)
