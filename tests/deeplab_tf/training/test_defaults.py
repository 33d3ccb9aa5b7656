import pytest

from deeplab_tf.config import override
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.training.defaults import with_intervals, with_iterations


@pytest.fixture
def config():
    return EXPERIMENTS["resnet101_aspp"]  # ten images an update, as 1 x 10


@pytest.mark.parametrize(("epochs", "images", "iterations"), [(30, 100, 300), (1, 101, 11), (0.001, 5, 1)])
def test_epochs_become_the_updates_that_see_so_many_images(config, epochs, images, iterations):
    config = override(config, [f"train.epochs={epochs}"])
    assert with_iterations(config, images, ["train.epochs"]).train.iterations == iterations


def test_iterations_that_are_given_take_the_place_of_the_epochs_of_a_file(config):
    config = override(config, ["train.epochs=30", "train.iterations=7"])
    train = with_iterations(config, 100, ["train.iterations"]).train
    assert (train.iterations, train.epochs) == (7, 0)
    with pytest.raises(UserError, match="give only one of them"):
        with_iterations(config, 100, ["train.iterations", "train.epochs"])
    assert with_iterations(config, 100).train.iterations == 300


def test_more_epochs_than_can_be_counted_are_refused(config):
    with pytest.raises(UserError, match=r"train\.epochs=1e\+09 of 100 images: train\.iterations must be at most"):
        with_iterations(override(config, ["train.epochs=1e9"]), 100)


@pytest.mark.parametrize(
    ("iterations", "save_every", "eval_every"), [(1, 1, 1), (9, 1, 1), (1400, 70, 140), (20000, 500, 1000)]
)
def test_checkpoints_and_validations_are_spread_over_the_updates(config, iterations, save_every, eval_every):
    train = with_intervals(override(config, [f"train.iterations={iterations}"])).train
    assert (train.save_every, train.eval_every) == (save_every, eval_every)


def test_intervals_that_are_given_stay(config):
    train = with_intervals(override(config, ["train.save_every=3", "train.eval_every=4"])).train
    assert (train.save_every, train.eval_every) == (3, 4)
