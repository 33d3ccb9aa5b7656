import numpy as np
import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.export.compare import Format, compare, made_up_picture, pictures_of_two_sizes
from deeplab_tf.export.packages import require

EXACT = Format(".x", 1e-3, 0.0)
PICTURE = made_up_picture((20, 30))


def probabilities_of(image):
    scores = np.exp(image / 64.0, dtype=np.float32)
    return scores / scores.sum(axis=-1, keepdims=True)


def network(image):
    probabilities = probabilities_of(image)
    return probabilities.argmax(-1).astype(np.uint8), probabilities.max(-1)


def test_the_same_numbers_agree():
    assert compare(network, probabilities_of, [PICTURE], "x", EXACT) == 1
    assert compare(lambda image: (network(image)[0], None), probabilities_of, [PICTURE], "x", EXACT) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda image: (np.zeros(image.shape[:2], np.uint8), None),
        lambda image: (network(image)[0], np.full(image.shape[:2], 0.96, np.float32)),
        lambda image: (network(image)[0], np.full(image.shape[:2], np.nan, np.float32)),
    ],
    ids=["background everywhere", "another confidence", "no number"],
)
def test_other_labels_or_another_confidence_are_refused(other):
    with pytest.raises(UserError, match=r"x was not written: .* % of the pixels"):
        compare(other, probabilities_of, [PICTURE], "x", EXACT)


def test_a_share_of_the_pixels_may_differ_where_a_format_allows_it():
    def nearly(image):
        labels, _ = network(image)
        labels[0, 0] = probabilities_of(image)[0, 0].argmin()
        return labels, None

    loose = Format(".x", 1e-3, 0.01)
    assert compare(nearly, probabilities_of, [PICTURE], "x", loose) == pytest.approx(1 - 1 / 600)
    with pytest.raises(UserError):
        compare(nearly, probabilities_of, [PICTURE], "x", EXACT)


@pytest.mark.parametrize("given", [[], [(33, 65)], [(500, 375), (500, 375)], [(2000, 1025), (9, 9)], [(1, 1)]])
def test_any_size_is_tried_at_two_sizes_that_the_network_has_to_pad(given):
    first, second = pictures_of_two_sizes([made_up_picture(size) for size in given], 8)
    assert first.shape != second.shape or first.shape[:2] == (1, 1)
    for picture in (first, second):
        assert picture.dtype == np.uint8 and max(picture.shape) <= 481
        assert all(side % 8 != 1 or side == 1 for side in picture.shape[:2])


def test_a_missing_package_is_a_line_that_names_the_requirements():
    with pytest.raises(UserError, match=r"^a\.onnx needs no_such, .*: pip install -r requirements-"):
        require("no_such.module", "a.onnx")
