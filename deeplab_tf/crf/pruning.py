"""Which labels the mean field may leave out, and the proof that they could not have won.

Time goes with the number of labels, and a photograph shows few of them. Write p_i(l) for the unary probability of label
l in pixel i, and one mean-field update as

    q_i(l) = p_i(l) exp(M_i(l)) / Z_i,    M_i(l) = sum_j A_ij q_j(l),    Z_i = sum_k p_i(k) exp(M_i(k)),

with A the normalised kernels, weighted with w1 and w2 and added up, and q = p before the first update. All entries of
A are >= 0. Let W be the largest sum of a row of A. Kernels normalised "after" filtering have rows that sum to 1, so
W = w1 + w2. In "symmetric", k_ij / sqrt(n_i n_j), a pixel gets more than 1 if its neighbours have fewer neighbours than
it has: rows sum to about 1.4 in photographs, and no small constant bounds them in all images. So the sums are computed,
by filtering a constant once (`GaussianFilter.largest_row_sum`), and W = w1 R1 + w2 R2 with the largest sums R1 and R2.

**A label that is improbable everywhere stays improbable.** Let x > 0 and p_i(l) < x exp(-W x) in every pixel. Then
q_i(l) < x in every pixel after any number of updates. Proof by induction: before the first update q = p < x. If q < x
after some update, then 0 <= M_i(l) <= W x. M >= 0 gives Z_i >= sum_k p_i(k) = 1. So the next q_i(l) is at most
p_i(l) exp(W x) < x.

Take x = min(1 / K, 1 / (4 W)) for K classes. The first part means that such a label is never the likeliest of a pixel
in the mean field of all labels, because the likeliest has at least 1 / K. The second means that its M stays below 1/4.

**The labels left out keep their share of a pixel.** Together they can have a part in Z_i that matters. So Z_i is the
sum over the labels kept of p_i(k) exp(M_i(k)) plus the sum over those left out of p_i(l), as if their M were 0 and not
between 0 and 1/4. Labels are only left out while they have at most 0.1 together in every pixel. So in each update Z_i
is right within a factor of 1 + 0.1 (exp(1/4) - 1) = 1.03, and the log-odds between two labels that are kept follow from
their own messages alone. After the last update the labels left out get 0, and the others all.

This does not prove that the labels of the answer never change. Where w1 + w2 > 2, a mean field can amplify any
difference, even that of rounding, where two labels are about to tie. docs/crf.md says how often that happened.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_LARGEST_MESSAGE = 0.25
"""What a label left out might have earned from its neighbours in an update, in nats."""
_LARGEST_SHARE = 0.1
"""What labels left out may have together in a pixel, before the first update."""


class Limits(NamedTuple):
    """A label may be left out if every pixel gives it less than `each`, and all that are left out at most `together`.

    Attributes:
        each: float32 [].
        together: float32 [].
    """

    each: tf.Tensor
    together: tf.Tensor


def proven_limits(total_weight: tf.Tensor | float, num_classes: int) -> Limits:
    """Returns the limits of the module's proof, which holds for any number of updates.

    Args:
        total_weight: W >= 0, the largest sum of a row of the weighted kernels: w1 + w2 in normalization "after".
        num_classes: K >= 1, all of them.

    Returns:
        The limits; `each` is 0.028 for W = 7 and K = 21, and 0.005 for W = 40.
    """
    weight = tf.convert_to_tensor(total_weight, tf.float32)
    most = 1 / tf.maximum(weight / _LARGEST_MESSAGE, float(num_classes))
    # An infinite weight leaves out nothing: 0 times infinity counts as 0.
    return Limits(most * tf.exp(-tf.math.multiply_no_nan(weight, most)), tf.constant(_LARGEST_SHARE))


def given_limits(min_probability: tf.Tensor | float) -> Limits:
    """Returns the limits of someone who knows better: whatever stays below min_probability everywhere."""
    return Limits(tf.convert_to_tensor(min_probability, tf.float32), tf.constant(float("inf")))


def choose_labels(by_class: tf.Tensor, limits: Limits, multiple: int = 1) -> tf.Tensor:
    """Picks the labels to keep: no label that is the likeliest of some pixel is ever left out.

    Args:
        by_class: float32 [K, N], the probabilities of N pixels; K known while tracing.
        limits: which may be left out.
        multiple: the number of labels that stay is a multiple of this, or all stay.

    Returns:
        int32 [L], 1 <= L <= K: the classes kept, the likeliest first.
    """
    num_classes = by_class.shape[0]
    highest = tf.reduce_max(by_class, axis=1)  # [K]
    is_likeliest = tf.reduce_any(by_class >= tf.reduce_max(by_class, axis=0), axis=1)  # [K]
    order, needed = rank_labels(highest, is_likeliest, limits)
    places = tf.range(0, num_classes, multiple)
    later = tf.cast(tf.math.invert_permutation(order) >= places[:, None], tf.float32)  # [S, K]
    together = tf.reduce_max(tf.matmul(later, by_class), axis=1)
    return keep_labels(order, needed, together, limits, multiple)


def rank_labels(highest: tf.Tensor, is_likeliest: tf.Tensor, limits: Limits) -> tuple[tf.Tensor, tf.Tensor]:
    """Orders labels by their probability.

    Args:
        highest: float32 [K], the most that a pixel gives each.
        is_likeliest: bool [K], whether it is the likeliest of some pixel.
        limits: which may be left out.

    Returns:
        int32 [K], all labels, those to keep first, and int32 [], how many of them have to be kept, each by itself.
    """
    order = tf.argsort(tf.where(is_likeliest, highest + 1, highest), direction="DESCENDING", stable=True)
    return order, tf.math.count_nonzero(is_likeliest | (highest >= limits.each), dtype=tf.int32)


def keep_labels(
    order: tf.Tensor, needed: tf.Tensor, together: tf.Tensor, limits: Limits, multiple: int = 1
) -> tf.Tensor:
    """Decides how many labels of an order are kept.

    Args:
        order: int32 [K], as by `rank_labels`.
        needed: int32 [], likewise.
        together: float32 [S], the most that the labels from a place of the order on have together in a pixel, for the
            places 0, multiple, 2 multiple and so on below K. Where fewer labels than needed stand before the place, it
            does not matter.
        limits: which may be left out.
        multiple: so many are kept, or a multiple; or all.

    Returns:
        int32 [L], the first labels of the order.
    """
    is_needed = tf.range(tf.size(together)) * multiple < needed
    kept = multiple * tf.math.count_nonzero(is_needed | (together > limits.together), dtype=tf.int32)
    return order[: tf.minimum(kept, tf.size(order))]
