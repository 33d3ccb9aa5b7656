"""Whatever is read may be damaged: the answer is right, or a UserError of one line. `make fuzz` runs longer."""

from __future__ import annotations

import random

import hypothesis
import pytest
from hypothesis import strategies

from tests.fuzz.targets import TARGETS

FAST = [name for name, target in TARGETS.items() if not target.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_is_taken(name, tmp_path):
    target = TARGETS[name]
    taken = [target.check(data, tmp_path) for data in target.corpus(tmp_path)]
    assert all(taken) or name in ("image", "mask", "tflite")
    assert any(taken) or name == "tflite"


@pytest.mark.parametrize("name", FAST)
def test_damaged_input_is_read_right_or_refused_in_one_line(name, folder):
    target = TARGETS[name]
    place = folder / name
    place.mkdir()
    corpus = target.corpus(place)

    @hypothesis.settings(
        max_examples=8 if name == "shard" else 25,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(strategies.randoms(use_true_random=False))
    def check(random: random.Random) -> None:
        target.check(target.damage(random.choice(corpus), random), place)

    check()
