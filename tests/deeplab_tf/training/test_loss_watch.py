"""What a loss says of the training."""

import math

import pytest

from deeplab_tf.training.loss_watch import PROBATION, LossWatch

GUESSING = math.log(3)


def follow(losses, usual=None, guessing=GUESSING):
    watch = LossWatch(guessing, usual)
    said = [watch.add(step, loss) for step, loss in enumerate(losses, 1)]
    return watch, [line for line in said if line]


def test_a_loss_that_grew_a_hundredfold_is_warned_of_once_and_so_is_its_return():
    watch, said = follow([1.0] * 30 + [90.0, 101.0, 1e30, 102.0] + [1.0] * (PROBATION - 1))
    assert len(said) == 1 and watch.diverged
    assert said[0].startswith("warning: step 32: the loss is 101 and was 1: the training diverges")
    assert "back to what it was" in watch.add(100, 1.0) and not watch.diverged


def test_a_slow_divergence_does_not_pass_for_what_is_usual():
    # 3 % a step: no loss is a tenth above the one before, and the median of all would follow.
    watch, said = follow([0.5] * 100 + [0.5 * 1.03**step for step in range(160)])
    assert watch.diverged and "and was 0.5" in said[0]


def test_a_divergence_within_the_first_steps_is_seen():
    watch, _ = follow([2.0**step for step in range(20)])
    assert watch.diverged
    watch, said = follow([190_000 * 0.5**step for step in range(40)])  # a bad start that mends itself
    assert not watch.diverged and not said


def test_a_network_that_knows_its_images_by_heart_may_meet_a_new_one():
    losses = [0.001] * 30
    assert not follow([*losses, 2 * GUESSING])[0].diverged
    assert follow([*losses, 2.1 * GUESSING])[0].diverged
    watch, _ = follow([*losses, GUESSING, *[0.001] * PROBATION])
    assert watch.confirms(30)


@pytest.mark.parametrize(
    ("after", "good"),
    [
        ([1.0] * (PROBATION - 1), False),
        ([1.0] * PROBATION, True),
        ([9.0] * PROBATION, True),
        ([11.0, *[1.0] * (2 * PROBATION)], False),
        ([1.0] * (PROBATION - 1) + [11.0], False),
    ],
    ids=["too early", "sane", "nine times the usual", "one that was not", "the last was not"],
)
def test_a_checkpoint_is_good_when_the_losses_after_it_were_sane(after, good):
    watch, _ = follow([1.0] * 30 + after)
    assert watch.confirms(30) == good


def test_the_usual_loss_outlives_the_process():
    watch, _ = follow([1.0] * 30)
    assert watch.lowest == 1.0
    assert follow([1e20], usual=watch.lowest)[0].diverged and not follow([1e20])[0].diverged


def test_labels_that_are_all_ignored_are_said_while_it_trains_and_at_the_end():
    watch, said = follow([0.0] * 30)
    assert len(said) == 1 and "step 10" in said[0] and "every pixel of these crops is ignored" in said[0]
    assert "is ignored" in watch.verdict()
    assert "every pixel" in follow([0.0] * 2)[0].verdict()
    assert follow([0.0] * 9 + [0.1] + [0.0] * 9)[1] == []
    assert "the data set has one class" in follow([0.0] * 10, guessing=0.0)[1][0]


def test_a_training_that_learned_nothing_or_became_worse_does_not_end_without_a_word():
    assert follow([1.0] * 100)[0].verdict() == "" and LossWatch(GUESSING).verdict() == ""
    assert "the network has learned nothing" in follow([1.0] * 50 + [1.2] * 50)[0].verdict()
    assert "was 0.1 before: the training has become worse" in follow([0.1] * 50 + [0.3] * 50)[0].verdict()
    # Its first loss was a lucky one.
    assert follow([0.1] + [0.5] * 50)[0].verdict() == ""
