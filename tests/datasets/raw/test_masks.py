"""What the pixels of a mask mean."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.raw import masks


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (8, 8), (21, 33)])
def test_distinct_values_are_found_wherever_they_are(shape: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = np.repeat(rng.integers(0, 256, shape[0] * shape[1]), rng.integers(1, 20))[: shape[0] * shape[1]]
        values[rng.integers(values.size)] = 255  # alone among others
        values = values.astype(dtype).reshape(shape)
        np.testing.assert_array_equal(masks._distinct(values), np.unique(values))
