import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.crf.permutohedral import apply_filter, build_filter, check_extents
from tests.references import slow_lattice_filter


def columns(features):
    return [tf.constant(column, tf.float32) for column in np.asarray(features, np.float32).T]


def filtered(features, values, normalization="none"):
    gaussian = build_filter(columns(features), normalization)
    return apply_filter(gaussian, tf.constant(values, tf.float32)).numpy(), int(gaussian.num_points)


def operator(features, normalization="none"):
    """The filter as a matrix: column j is the answer to a one at feature j."""
    return filtered(features, np.eye(len(features)), normalization)[0]


def colourful(seed, num_points=120, dims=5, spread=4.0):
    """Random features, which share simplices where they are close."""
    rng = np.random.default_rng(seed)
    return (rng.random((num_points, dims)) * spread).astype(np.float32)


def grid(height, width, sigma):
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], -1).reshape(-1, 2) / sigma


@pytest.mark.parametrize("dims", [1, 2, 3, 5, 6])
def test_agrees_with_a_lattice_in_a_dictionary(dims):
    features = colourful(seed=dims, dims=dims)
    values = np.random.default_rng(0).random((len(features), 3))
    answer, num_points = filtered(features, values)
    expected, expected_points = slow_lattice_filter(features, values)
    assert num_points == expected_points
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_agrees_with_the_dictionary_on_pixels_where_coordinates_tie(sigma):
    features = grid(9, 14, sigma)
    values = np.random.default_rng(1).random((len(features), 2))
    answer, num_points = filtered(features, values)
    expected, expected_points = slow_lattice_filter(np.float32(features), values)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
    # On a border between simplices, float32 and float64 may take different ones: the values agree, the count hardly.
    assert abs(num_points - expected_points) <= 0.02 * expected_points


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize("dims", [2, 5])
def test_agrees_with_the_filter_of_pydensecrf(dims, normalization):
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    features = colourful(seed=7, num_points=400, dims=dims)  # a multiple of 4: pydensecrf fills up with zeros
    unary = np.random.default_rng(2).random((2, 400)).astype(np.float32)
    crf = densecrf.DenseCRF(400, 2)
    crf.setUnaryEnergy(unary)
    kind = {"symmetric": densecrf.NORMALIZE_SYMMETRIC, "after": densecrf.NORMALIZE_AFTER}[normalization]
    crf.addPairwiseEnergy(np.ascontiguousarray(features.T), compat=1, normalization=kind)
    q = np.array(crf.inference(1))
    # One update by hand: the log ratio of the two labels is that of the unaries plus what the filter adds.
    added = np.log(q[0] / q[1]) + unary[0] - unary[1]
    start = np.exp(-unary) / np.exp(-unary).sum(0)
    answer, _ = filtered(features, start.T, normalization)
    np.testing.assert_allclose(answer[:, 0] - answer[:, 1], added, atol=2e-6)


def test_a_constant_stays_constant_when_normalised_after():
    features = colourful(seed=3)
    answer, _ = filtered(features, np.full((len(features), 2), [0.25, 3.0]), "after")
    np.testing.assert_allclose(answer, np.full_like(answer, [0.25, 3.0]), rtol=1e-5)


def test_symmetric_normalisation_divides_by_both_square_roots():
    features = colourful(seed=4)
    plain = operator(features)
    n = plain.sum(1)
    np.testing.assert_allclose(operator(features, "symmetric"), plain / np.sqrt(n[:, None] * n), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(operator(features, "after"), plain / n[:, None], rtol=1e-4, atol=1e-7)


def test_what_one_point_gives_another_it_gets_back():
    matrix = operator(grid(24, 24, 1.0))
    y, x = np.divmod(np.arange(24 * 24), 24)
    inside = np.flatnonzero((np.abs(x - 12) < 5) & (np.abs(y - 12) < 5))
    # At the rim points lack neighbours, so there it matters which axis is blurred first.
    inner = matrix[np.ix_(inside, inside)]
    np.testing.assert_allclose(inner, inner.T, atol=1e-6)


@pytest.mark.parametrize("sigma", [2.0, 3.0, 5.0])
def test_is_a_gaussian_up_to_the_error_of_interpolation(sigma):
    size = 8 * int(sigma) + 1
    features = grid(size, size, sigma)
    centre = size * size // 2
    answer = operator(features)[centre]
    squared = ((features - features[centre]) ** 2).sum(1)
    exact = np.exp(-0.5 * squared)
    share, exact_share = answer / answer.sum(), exact / exact.sum()
    # Measured: the second moment, which is 2 in two dimensions, is off by 3 to 4%; 4 to 5% of the weight is elsewhere.
    assert abs((share * squared).sum() - 2) < 0.1
    assert np.abs(share - exact_share).sum() / 2 < 0.06


def test_a_single_point_only_sees_itself():
    answer, num_points = filtered([[0.3, 1.7, -2.0, 5.0, 0.1]], [[2.0]], "after")
    assert num_points == 6
    np.testing.assert_allclose(answer, [[2.0]], rtol=1e-6)


def test_equal_features_share_one_simplex_and_average():
    answer, num_points = filtered(np.full((50, 5), 1.3), np.arange(50.0)[:, None], "after")
    assert num_points == 6
    np.testing.assert_allclose(answer, np.full((50, 1), 24.5), rtol=1e-5)


def test_features_far_apart_do_not_meet():
    features = np.array([[0, 0, 0, 0, 0], [0, 0, 85, 85, 85], [400, 0, 0, 0, 0], [0, 400, 85, 0, 85]])
    answer, num_points = filtered(features, np.eye(4), "after")
    assert num_points == 24
    np.testing.assert_allclose(answer, np.eye(4), atol=1e-6)


def corners_of_a_box(extents):
    return np.array([np.zeros(len(extents)), extents, *np.diag(extents)])


@pytest.mark.parametrize(
    ("height", "width", "sigma_alpha", "sigma_beta"), [(1, 4000, 1.0, 1.0), (4000, 1, 3.0, 0.5), (2, 2000, 0.2, 3.0)]
)
def test_large_images_with_extreme_colours_get_no_wrong_neighbours(height, width, sigma_alpha, sigma_beta):
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    # Not quite 0 and 255: where coordinates tie, the dictionary may take another of two equally good simplices.
    colours = 255.0 * rng.integers(0, 2, (height, width, 3)) + rng.uniform(0, 0.5, (height, width, 3))
    features = np.concatenate([np.stack([x, y], -1) / sigma_alpha, colours / sigma_beta], -1).reshape(-1, 5)
    features = np.float32(features)
    values = rng.random((len(features), 1))
    answer, _ = filtered(features, values)
    # The dictionary is slow: some pixels, and whatever could reach them.
    some = rng.permutation(len(features))[:20]
    near = np.flatnonzero(np.abs(features[:, None] - features[some]).max(-1).min(1) < 12)
    expected, _ = slow_lattice_filter(features[near], values[near])
    chosen = np.isin(near, some)
    # Coordinates go up to 14,000, where float32 has three digits left behind the point.
    np.testing.assert_allclose(answer[near][chosen], expected[chosen], rtol=0.01, atol=1e-3)


def test_unknown_sizes_give_the_same_in_a_graph():
    features = columns(colourful(seed=6))
    values = tf.constant(np.random.default_rng(3).random((120, 4)), tf.float32)

    @tf.function(input_signature=[[tf.TensorSpec([None])] * 5, tf.TensorSpec([None, None])], autograph=False)
    def in_graph(features, values):
        return apply_filter(build_filter(features, "symmetric"), values)

    eager = apply_filter(build_filter(features, "symmetric"), values)
    np.testing.assert_allclose(in_graph(features, values), eager, rtol=1e-6)


def test_the_gradient_is_the_transposed_filter():
    features = colourful(seed=8, num_points=40)
    rng = np.random.default_rng(4)
    upstream = rng.random((40, 3)).astype(np.float32)
    values = tf.constant(rng.random((40, 3)), tf.float32)
    gaussian = build_filter(columns(features), "after")
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(apply_filter(gaussian, values) * upstream)
    np.testing.assert_allclose(
        tape.gradient(total, values), operator(features, "after").T @ upstream, rtol=1e-4, atol=1e-6
    )


def test_features_that_cannot_be_held_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="too far apart for float32"):
        build_filter(columns([[0.0, 0.0], [1e6, 0.0]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        build_filter(columns([[0.0, float("nan")]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="keys of 62 bits"):
        build_filter(columns(corners_of_a_box([8e3] * 5)))


@pytest.mark.parametrize("extents", [[1e6, 0.0], [float("nan"), 1.0], [8e3] * 5])
def test_extents_that_cannot_be_held_are_refused_beforehand(extents):
    with pytest.raises(ValueError, match="too far apart"):
        check_extents(extents)


@pytest.mark.parametrize("extents", [[4000 / 67, 4000 / 67, 85, 85, 85], [4000, 4000], [4000, 4000, 255, 255, 255]])
def test_large_images_at_usual_sigmas_are_held(extents):
    check_extents(extents)
    # What the check lets through, the graph takes too.
    build_filter(columns(corners_of_a_box(extents)))


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="1 to 6 dimensions, got 0"):
        build_filter([])
    with pytest.raises(ValueError, match="none, symmetric, after, got 'both'"):
        build_filter(columns([[0.0]]), "both")
