import itertools

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.crf import pruning
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.mean_field import build_bilateral, build_smoothness
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.crf.permutohedral import apply_filter

WEIGHTS = (7, 13, 23, 40)
CLASSES = (2, 21, 60, 150)


@pytest.fixture(params=["tf", "pydensecrf"])
def backend(request):
    if request.param == "pydensecrf":
        pytest.importorskip("pydensecrf.densecrf")
    return request.param


def normalised(scores):
    return (scores / scores.sum(-1, keepdims=True)).astype(np.float32)


def params_of(total_weight):
    return CrfParams(w1=total_weight * 4 / 7, sigma_alpha=15, sigma_beta=20, w2=total_weight * 3 / 7, sigma_gamma=2)


def cases(num_classes, total_weight, height=28, width=36):
    """Yields names, images and probabilities: such as networks give, and such as pruning might get wrong."""
    rng = np.random.default_rng(num_classes)
    noise = rng.normal(0, 1, (height, width, num_classes))
    smooth = np.stack([cv2.GaussianBlur(np.ascontiguousarray(one), (0, 0), 3) for one in np.moveaxis(noise, -1, 0)], -1)
    smooth /= smooth.std()
    colours = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)), (0, 0), 4)
    photo = np.clip(128 + 60 * colours / colours.std(), 0, 255).astype(np.uint8)
    grey = np.full_like(photo, 128)
    preferred = 2 * rng.normal(0, 1, num_classes)
    yield "peaked", photo, normalised(np.exp(4 * smooth))
    yield "peaked, some classes rare", photo, normalised(np.exp(2 * smooth + preferred))
    yield "peaked, most classes rare", photo, normalised(np.exp(smooth - 8 * (np.arange(num_classes) > 3)))
    yield "flat", photo, normalised(np.exp(0.2 * smooth))
    yield "flat, every pixel for itself", photo, normalised(np.exp(0.2 * noise))
    yield "flat, one colour", grey, normalised(np.exp(0.2 * smooth))
    if num_classes == 2:
        return
    # Label 0 is improbable, but in every pixel, while no two neighbours agree on another label.
    others = np.arange(height * width).reshape(height, width) % (num_classes - 1)
    limit = float(pruning.proven_limits(total_weight, num_classes).each)
    for level in (0.03, 1.3 * limit, 0.99 * limit, 0.5 * limit):
        for name, rest in (("one", np.eye(num_classes - 1)[others]), ("any", np.exp(0.5 * noise[..., 1:]))):
            p = np.concatenate([np.full((height, width, 1), level), (1 - level) * normalised(rest + 1e-6)], -1)
            yield f"{level:.4f} everywhere against {name} other", grey, normalised(p)
    # Two labels, and the others, which no pixel gives much, together more in one half than in the other.
    left = np.arange(width)[None, :, None] < width // 2
    for first, second in ((0.54, 0.46), (0.50, 0.50), (0.46, 0.54)):
        share = np.where(left, min(0.9 * limit * (num_classes - 2), 0.55), 0)
        two = (1 - share) * np.where(left, [first, second], [0.47, 0.53]) * np.exp(0.05 * smooth[..., :2])
        p = np.concatenate([two, share * normalised(np.exp(0.05 * smooth[..., 2:]))], -1)
        yield f"two of many, {first} to {second}", photo, normalised(p)


def assert_labels_equal_those_of_pydensecrf(total_weight, num_classes):
    for name, image, probabilities in cases(num_classes, total_weight):
        theirs = dense_crf(image, probabilities, params_of(total_weight), "pydensecrf")
        ours = dense_crf(image, probabilities, params_of(total_weight))
        differs = ours.argmax(-1) != theirs.argmax(-1)
        # Two float32 programs break some ties differently, with all labels kept too.
        margins = np.diff(np.sort(theirs, axis=-1)[..., -2:], axis=-1)[..., 0]
        assert differs.mean() <= 1e-3 and not (margins[differs] > 0.01).any(), name


@pytest.mark.parametrize(("total_weight", "num_classes"), [(7, 21), (40, 21), (7, 60)])
def test_the_labels_are_those_of_pydensecrf_which_leaves_out_none(total_weight, num_classes):
    pytest.importorskip("pydensecrf.densecrf")
    assert_labels_equal_those_of_pydensecrf(total_weight, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize(("total_weight", "num_classes"), list(itertools.product(WEIGHTS, CLASSES)))
def test_the_labels_are_those_of_pydensecrf_with_any_weights_and_any_number_of_classes(total_weight, num_classes):
    pytest.importorskip("pydensecrf.densecrf")
    assert_labels_equal_those_of_pydensecrf(total_weight, num_classes)


def test_labels_are_left_out_where_most_classes_are_rare():
    for name, image, probabilities in cases(21, 7):
        if name == "peaked, most classes rare":
            assert (dense_crf(image, probabilities, params_of(7)).max(axis=(0, 1)) > 0).sum() == 4


def test_a_label_below_the_limit_stays_below_one_over_the_classes_and_earns_less_than_a_quarter():
    for weight, num_classes in itertools.product((0, 0.1, 1, 7, 13, 23, 40, 1e4), CLASSES):
        limit = float(pruning.proven_limits(weight, num_classes).each)
        belief = limit
        for _ in range(1000):  # the most that the next update can make of it
            belief = limit * np.exp(weight * belief)
        assert 0 < limit <= belief <= 1.000001 / num_classes
        assert weight * belief <= 0.2500001


def test_the_limit_is_as_high_as_its_proof_allows():
    # The smaller of 1 / K and 1 / (4 W), times exp(-W times that).
    assert float(pruning.proven_limits(7, 21).each) == pytest.approx(np.exp(-0.25) / 28)
    assert float(pruning.proven_limits(7, 150).each) == pytest.approx(np.exp(-7 / 150) / 150)
    assert float(pruning.proven_limits(0, 2).each) == 0.5
    assert float(pruning.proven_limits(7, 21).together) == pytest.approx(0.1)


def test_a_weight_beyond_all_bounds_leaves_out_nothing():
    by_class = tf.constant([[0.6, 0.6], [0.4, 0.4], [0.0, 0.0]])
    for weight in (1e30, 1e38, float("inf")):
        limits = pruning.proven_limits(weight, 3)
        assert 0 <= float(limits.each) < 1e-29 or np.isnan(limits.each)
    assert len(pruning.choose_labels(by_class, pruning.proven_limits(float("inf"), 3))) == 3


def test_no_label_that_is_the_likeliest_of_a_pixel_is_left_out():
    p = normalised(np.exp(np.random.default_rng(1).normal(0, 0.1, (9, 7))))  # [N, K]
    kept = pruning.choose_labels(tf.constant(p.T), pruning.given_limits(1.0)).numpy()
    assert set(kept) == set(p.argmax(-1))


def test_labels_that_have_much_together_in_one_pixel_are_not_left_out_though_each_has_little():
    p = np.zeros((3, 100), np.float32)
    p[:, :2] = 0.5
    p[1] = [0.46, 0.46, *(98 * [0.08 / 98])]
    p[2, 2:12], p[2, :2] = 0.02, 0.4
    by_class = tf.constant(p.T)
    limits = pruning.Limits(tf.constant(0.03), tf.constant(0.1))
    kept = pruning.choose_labels(by_class, limits).numpy()
    # Of the ten with 0.02 five may go, and the other 88 with next to nothing.
    assert len(kept) == 7 and p[:, np.setdiff1d(range(100), kept)].sum(-1).max() <= 0.1 + 1e-6
    assert len(pruning.choose_labels(by_class, limits, multiple=4)) == 8
    assert len(pruning.choose_labels(by_class, pruning.given_limits(0.03))) == 2


def test_the_labels_left_out_keep_their_share_of_each_pixel(backend):
    # One update, without neighbours: a label earns w1 + w2 times its own belief.
    p = normalised(np.float32([[[60, 30, 5, 3, 2]]]))
    params = CrfParams(w1=1, w2=1, iterations=2)
    refined = dense_crf(np.zeros((1, 1, 3), np.uint8), p, params, backend, min_probability=0.5)[0, 0]
    labels = np.flatnonzero(refined)
    unary = p[0, 0][labels]
    belief = unary
    for rest in (1 - unary.sum(), 0):
        earned = unary * np.exp(2 * belief)
        belief = earned / (earned.sum() + rest)
    np.testing.assert_allclose(refined[labels], belief, atol=1e-6)
    assert len(labels) == {"tf": 4, "pydensecrf": 1}[backend]


@pytest.mark.parametrize("normalization", ["none", "symmetric", "after"])
def test_the_largest_row_sum_is_what_filtering_ones_gives(normalization):
    image = np.random.default_rng(3).integers(0, 255, (12, 17, 3), dtype=np.uint8)
    for kernel in (
        build_bilateral(tf.constant(image), 9.0, 60.0, normalization),
        build_smoothness(12, 17, 3.0, normalization),
    ):
        sums = apply_filter(kernel, tf.ones([12 * 17, 1]))
        np.testing.assert_allclose(kernel.largest_row_sum, tf.reduce_max(sums), rtol=1e-5)
        # Symmetric kernels give pixels inside more than 1 at the cost of those at the border.
        assert (kernel.largest_row_sum > 1.01) == (normalization != "after")


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
def test_no_label_below_the_limit_grows_beyond_the_proven_bound(normalization):
    # Label 0 has what it may just have, in every pixel, and no two neighbours agree on another label.
    others = np.eye(200)[np.arange(256).reshape(16, 16) % 200]
    image = np.full((16, 16, 3), 128, np.uint8)
    params = CrfParams(w1=3, w2=3, sigma_gamma=9, iterations=3)
    kernels = build_bilateral(image, 67.0, 3.0, normalization), build_smoothness(16, 16, 9.0, normalization)
    total_weight = sum(3 * float(kernel.largest_row_sum) for kernel in kernels)
    level = float(pruning.proven_limits(total_weight, 201).each)
    p = np.concatenate([np.full((16, 16, 1), level), (1 - level) * others], -1).astype(np.float32)
    refined = dense_crf(image, p, params, min_probability=0.0, normalization=normalization)
    assert level < refined[..., 0].max() < 1 / 201
