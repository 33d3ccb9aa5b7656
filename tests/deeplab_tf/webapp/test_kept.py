import numpy as np
import pytest

from deeplab_tf.webapp import kept
from deeplab_tf.webapp.kept import Kept
from deeplab_tf.webapp.served_model import Segmented


def segmented(num_bytes):
    return Segmented(np.zeros(num_bytes // 2, np.uint8), np.zeros(num_bytes - num_bytes // 2, np.uint8), None, 0.0)


@pytest.fixture
def clock(monkeypatch):
    """What the time is, in seconds: to be set."""
    now = [0.0]
    monkeypatch.setattr(kept.time, "monotonic", lambda: now[0])
    return now


def test_all_together_are_bounded_in_bytes_and_the_one_unused_for_longest_goes():
    images = Kept(100, 3600)
    first, second = images.add(segmented(40)), images.add(segmented(40))
    assert images.get(first) is not None
    third = images.add(segmented(40))
    assert images.get(second) is None and images.get(first) is not None and images.get(third) is not None
    assert images.num_bytes == 80


def test_probabilities_count():
    images = Kept(10**9, 3600)
    images.add(segmented(8)._replace(probabilities=np.zeros((2, 5), np.float32)))
    assert images.num_bytes == 8 + 40


def test_the_newest_is_kept_however_large_it_is():
    images = Kept(100, 3600)
    small, large = images.add(segmented(40)), images.add(segmented(1000))
    assert images.get(small) is None and images.get(large) is not None
    images.add(segmented(40))
    assert images.get(large) is None and images.num_bytes == 40


def test_what_is_not_used_is_forgotten(clock):
    images = Kept(1000, 3600)
    used, unused = images.add(segmented(40)), images.add(segmented(40))
    clock[0] = 3000
    assert images.get(used) is not None
    clock[0] = 3601
    images.forget_old()
    assert images.num_bytes == 40 and images.get(unused) is None and images.get(used) is not None
    clock[0] = 7202
    assert images.get(used) is None


def test_keys_cannot_be_guessed():
    images = Kept(1000, 3600)
    keys = {images.add(segmented(8)) for _ in range(100)}
    assert len(keys) == 100 and min(map(len, keys)) >= 22  # 128 bits
    assert images.get("") is None
