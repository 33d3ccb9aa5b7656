"""Kernels that find out what the choice of labels depends on: compiled by numba, on a range of pixels each."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from deeplab_tf.crf.compiled_cache import B1, F1, FROZEN_F2, I1, WHOLE, compiled

PLACES = 4
"""Labels between two places of `sum_tails`."""


@compiled(numba.void(FROZEN_F2, WHOLE, WHOLE, F1, F1, B1))
def survey(
    probabilities: np.ndarray, first: int, last: int, factors: np.ndarray, highest: np.ndarray, is_likeliest: np.ndarray
) -> None:
    """Finds the highest probability of each label, and which labels are the likeliest of some pixel.

    Args:
        probabilities: float32 [N, K], to be divided by their sums.
        first: the first pixel.
        last: the one after the last.
        factors: float32 [N], written: one over the sums.
        highest: float32 [K], raised.
        is_likeliest: uint8 [K], set to 1, and else left as it is.
    """
    num_classes = probabilities.shape[1]
    even = num_classes - num_classes % 4
    for n in range(first, last):
        p = probabilities[n]
        sum0 = sum1 = sum2 = sum3 = top0 = top1 = top2 = top3 = np.float32(0)
        for k in range(0, even, 4):
            sum0 += p[k]
            sum1 += p[k + 1]
            sum2 += p[k + 2]
            sum3 += p[k + 3]
            top0 = max(top0, p[k])
            top1 = max(top1, p[k + 1])
            top2 = max(top2, p[k + 2])
            top3 = max(top3, p[k + 3])
        for k in range(even, num_classes):
            sum0 += p[k]
            top0 = max(top0, p[k])
        factor = np.float32(1) / ((sum0 + sum1) + (sum2 + sum3))
        factors[n] = factor
        top = max(max(top0, top1), max(top2, top3))
        for k in range(num_classes):
            highest[k] = max(highest[k], p[k] * factor)
        for k in range(num_classes):
            if p[k] >= top:
                is_likeliest[k] = 1


@compiled(numba.void(FROZEN_F2, F1, I1, WHOLE, WHOLE, WHOLE, F1))
def sum_tails(
    probabilities: np.ndarray,
    factors: np.ndarray,
    order: np.ndarray,
    first_place: int,
    first: int,
    last: int,
    together: np.ndarray,
) -> None:
    """Finds what the labels from a place of an order on have together, at most.

    Args:
        probabilities: float32 [N, K].
        factors: float32 [N], of `survey`.
        order: int32 [K], the labels.
        first_place: the first that matters; place s begins with label `PLACES` * s.
        first: the first pixel.
        last: the one after the last.
        together: float32 [S], raised from that place on.
    """
    num_classes = order.size
    whole_places = num_classes // PLACES
    for n in range(first, last):
        p, factor = probabilities[n], factors[n]
        tail: Any = np.float32(0)
        for i in range(whole_places * PLACES, num_classes):
            tail += p[order[i]]
        if whole_places < together.size:
            together[whole_places] = max(together[whole_places], tail * factor)
        for place in range(whole_places - 1, first_place - 1, -1):
            i = place * PLACES
            tail += (p[order[i]] + p[order[i + 1]]) + (p[order[i + 2]] + p[order[i + 3]])
            together[place] = max(together[place], tail * factor)
