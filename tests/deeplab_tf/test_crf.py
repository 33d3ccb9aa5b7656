import sys

import cv2
import numpy as np
import pytest

from deeplab_tf.crf import CrfParams, dense_crf
from deeplab_tf.errors import UserError
from tests.references import brute_force_mean_field


@pytest.fixture
def pydensecrf():
    return pytest.importorskip("pydensecrf.densecrf")


def discs(seed, height=23, width=37, num_classes=5):
    """Coloured discs with a little noise, and blurred, noisy probabilities of what they are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), int)
    for label in range(1, num_classes):
        radius = rng.uniform(0.2, 0.35) * height
        labels[(y - rng.uniform(0, height)) ** 2 + (x - rng.uniform(0, width)) ** 2 < radius**2] = label
    colours = rng.integers(30, 225, (num_classes, 3))
    image = np.clip(colours[labels] + rng.normal(0, 3, (height, width, 3)), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(np.eye(num_classes)[labels], (0, 0), 2.5)
    probabilities = blurred + 0.1 + 0.1 * rng.random(blurred.shape)
    return image, (probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32)


def half_and_half(edge_of_colour, edge_of_probability, height=12, width=30):
    """A dark and a bright half; the probabilities put the border between two labels elsewhere."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, edge_of_colour:] = 210
    right = np.where(np.arange(width) < edge_of_probability, 0.3, 0.7)
    probabilities = np.stack([1 - right, right], -1)
    return image, np.broadcast_to(probabilities, (height, width, 2)).astype(np.float32)


@pytest.mark.parametrize("iterations", [1, 10])
@pytest.mark.parametrize(
    "constants",
    [(4, 49, 5, 3, 3), (4, 67, 3, 3, 1), (4, 10, 13, 0, 1), (0, 49, 5, 3, 3)],
    ids=["released script", "resnet", "bilateral only", "smooth only"],
)
def test_agrees_with_an_exact_mean_field(pydensecrf, constants, iterations):
    image, probabilities = discs(seed=len(constants) + iterations)
    refined = dense_crf(image, probabilities, CrfParams(*constants, iterations=iterations))
    exact = brute_force_mean_field(image, probabilities, *constants, iterations)
    # The lattice interpolates its Gaussians linearly. Measured: 0.0002 to 0.002 off on average, up to 0.5 at single
    # pixels that were undecided, 99.5% to 100% of labels equal. After one update with the ResNet constants the error
    # is 0.0009, but 0.006 with the self term left out of kernel or norm, or with division by n_i: the bound sees it.
    assert (refined.argmax(-1) == exact.argmax(-1)).mean() >= 0.99
    assert np.abs(refined - exact).mean() < 0.003
    assert (exact.argmax(-1) != probabilities.argmax(-1)).any()  # there was something to do


def test_a_transposed_image_gives_the_transposed_answer(pydensecrf):
    image, probabilities = discs(seed=3)
    upright = dense_crf(image, probabilities)
    turned = dense_crf(image.transpose(1, 0, 2), probabilities.transpose(1, 0, 2)).transpose(1, 0, 2)
    # Not to the bit: the lattice blurs along its axes in turn.
    assert np.abs(upright - turned).mean() < 1e-3
    assert (upright.argmax(-1) == turned.argmax(-1)).mean() > 0.995


@pytest.mark.parametrize("edge_of_probability", [12, 18])
def test_a_boundary_snaps_to_the_edge_of_the_colours(pydensecrf, edge_of_probability):
    image, probabilities = half_and_half(edge_of_colour=15, edge_of_probability=edge_of_probability)
    labels = dense_crf(image, probabilities, CrfParams(w1=10)).argmax(-1)
    np.testing.assert_array_equal(labels, np.broadcast_to(np.arange(30) >= 15, (12, 30)))


def test_without_the_bilateral_term_colours_do_not_matter(pydensecrf):
    image, probabilities = half_and_half(edge_of_colour=15, edge_of_probability=12)
    params = CrfParams(w1=0)
    np.testing.assert_array_equal(
        dense_crf(image, probabilities, params), dense_crf(255 - image, probabilities, params)
    )


def test_rows_sum_to_one_and_the_input_stays_untouched(pydensecrf):
    image, probabilities = discs(seed=1)
    before = image.copy(), probabilities.copy()
    for array in (image, probabilities):
        array.setflags(write=False)
    refined = dense_crf(image, probabilities)
    assert refined.dtype == np.float32 and refined.shape == probabilities.shape
    np.testing.assert_allclose(refined.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(before[0], image)
    np.testing.assert_array_equal(before[1], probabilities)


def test_pruning_what_is_improbable_everywhere_changes_no_label_and_gives_it_zero(pydensecrf):
    image, few = discs(seed=2)
    probabilities = np.full((*few.shape[:2], 21), 1e-5, np.float32)
    probabilities[..., [0, 3, 7, 15, 20]] = few
    probabilities /= probabilities.sum(-1, keepdims=True)
    full = dense_crf(image, probabilities)
    pruned = dense_crf(image, probabilities, min_probability=1e-3)
    np.testing.assert_array_equal(full.argmax(-1), pruned.argmax(-1))
    assert full.min() > 0
    assert set(np.flatnonzero(pruned.max(axis=(0, 1)))) == {0, 3, 7, 15, 20}
    np.testing.assert_allclose(pruned.sum(-1), 1, atol=1e-6)


def test_the_most_probable_label_survives_any_pruning():
    image, probabilities = discs(seed=2)
    refined = dense_crf(image, probabilities, min_probability=1.0)
    winner = probabilities.max(axis=(0, 1)).argmax()
    np.testing.assert_array_equal(refined, np.broadcast_to(np.eye(5, dtype=np.float32)[winner], refined.shape))


def test_zero_iterations_give_the_input_renormalised():
    image, probabilities = discs(seed=4)
    refined = dense_crf(image, probabilities * 1.005, CrfParams(iterations=0))
    np.testing.assert_allclose(refined, probabilities, atol=1e-6)


def test_a_single_class_has_probability_one():
    image, _ = discs(seed=4)
    np.testing.assert_array_equal(dense_crf(image, np.ones((23, 37, 1), np.float32)), 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_images_one_pixel_high_or_wide_work(pydensecrf, shape):
    image = np.full((*shape, 3), 90, np.uint8)
    probabilities = np.broadcast_to(np.float32([0.2, 0.5, 0.3]), (*shape, 3))
    refined = dense_crf(image, probabilities)
    assert refined.shape == (*shape, 3)
    assert (refined.argmax(-1) == 1).all()


def test_probabilities_of_exactly_zero_stay_finite(pydensecrf):
    image, probabilities = discs(seed=5)
    hard = np.eye(5, dtype=np.float32)[probabilities.argmax(-1)]
    assert np.isfinite(dense_crf(image, hard)).all()


def test_a_missing_pydensecrf_is_a_user_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-crf.txt.*C\+\+ compiler.*3\.13"):
        dense_crf(*discs(seed=0))


@pytest.mark.parametrize(
    "bad",
    [
        {"w1": -1},
        {"w2": float("nan")},
        {"sigma_alpha": 0},
        {"sigma_beta": -3},
        {"sigma_gamma": float("inf")},
        {"iterations": -1},
        {"iterations": 2.5},
    ],
    ids=str,
)
def test_impossible_constants_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CrfParams(**bad)


def test_wrong_arguments_are_refused():
    image, probabilities = discs(seed=0)
    with pytest.raises(ValueError, match=r"backend must be one of .*pydensecrf.*, got 'cuda'"):
        dense_crf(image, probabilities, backend="cuda")
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\].*got float32"):
        dense_crf(image.astype(np.float32), probabilities)
    with pytest.raises(ValueError, match="height and width"):
        dense_crf(image, probabilities.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="must be floats"):
        dense_crf(image, probabilities.argmax(-1, keepdims=True))
    with pytest.raises(ValueError, match="not logits"):
        dense_crf(image, np.log(probabilities))
    with pytest.raises(ValueError, match="not logits"):
        dense_crf(image, np.full_like(probabilities, np.nan))
    with pytest.raises(ValueError, match="min_probability"):
        dense_crf(image, probabilities, min_probability=2.0)
