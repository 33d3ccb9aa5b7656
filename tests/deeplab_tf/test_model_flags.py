import re

import pytest
from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import load as exported

BEFORE = EXPERIMENTS["resnet101_aspp_msc"]


@pytest.fixture
def configure():
    """A function from command-line arguments to the configuration they make."""
    known = set(flags.FLAGS)
    model_flags.define()
    added = set(flags.FLAGS) - known

    def parse(*arguments):
        flags.FLAGS(["program", *arguments])
        return model_flags.configure(BEFORE)

    yield parse
    flags.FLAGS.unparse_flags()
    for name in added:
        delattr(flags.FLAGS, name)


def test_without_flags_the_configuration_decides(configure):
    assert configure() == BEFORE and model_flags.inference_changed() == []


def test_flags_say_how_the_network_is_asked(configure):
    config = configure("--scales=0.5,1.0", "--flip", "--tile=65", "--tile_overlap=16", "--pad_to=513")
    assert config.model.scales == (0.5, 1.0)
    assert config.inference == InferenceConfig(flip=True, tile=65, tile_overlap=16, pad_to=513)
    assert model_flags.inference_changed() == ["--scales", "--flip", "--tile", "--tile_overlap", "--pad_to"]


def test_a_flag_outdoes_a_setting(configure):
    settings = ("--set=inference.flip=true", "--set=inference.align_corners=false")
    assert configure(*settings, "--noflip").inference == InferenceConfig(align_corners=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scales=0.5,big"], "--scales takes numbers .* 'big'"),
        (["--scales=0.01"], "--scales takes numbers .* at least 0.1"),
        (["--tile=100"], "tiles of 100 pixels cannot share 128"),
        (["--tile=513", "--noalign_corners"], "aligned corners only"),
    ],
)
def test_values_that_do_not_fit_are_explained(configure, arguments, says):
    with pytest.raises(UserError, match=says):
        configure(*arguments)


@pytest.mark.parametrize("setting", ["train.iterations=3", "optimizer.base_lr=1", " train.dropout=0.1"])
def test_settings_of_the_training_are_refused_where_nothing_is_trained(configure, setting):
    with pytest.raises(UserError, match=r"--set=.* has no effect: it says how a network is trained"):
        configure(f"--set={setting}")


def test_the_precision_of_a_trained_network_may_be_another(configure):
    assert configure("--set=train.precision=bfloat16").train.precision == "bfloat16"


@pytest.mark.parametrize("flag", ["--experiment=vgg16_large_fov", "--dataset=voc12"])
def test_a_workdir_refuses_flags_that_say_what_it_says_itself(configure, flag):
    configure(flag)
    with pytest.raises(UserError, match=r"--(experiment|dataset) has no effect: runs/w says itself"):
        model_flags.load("runs/w", None)


def test_best_is_refused_where_there_is_no_workdir(configure):
    configure("--weights=file.npz", "--best", "--dataset=voc12")
    with pytest.raises(UserError, match="--best has no effect: --weights names one file"):
        model_flags.load("", None)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--best", "--best has no effect"),
        ("--weights=w.npz", "--weights has no effect"),
        ("--dataset=voc12", "--dataset has no effect"),
        ("--set=inference.flip=true", "--set=inference.flip=true has no effect"),
        ("--set=model.scales=0.5", "were fixed at export"),
        ("--set=train.precision=bfloat16", "were fixed at export"),
        ("--flip", "were fixed at export"),
    ],
)
def test_an_exported_model_refuses_what_it_would_not_follow(configure, monkeypatch, argument, says):
    monkeypatch.setattr(exported, "is_exported", lambda path: True)
    configure(argument)
    with pytest.raises(UserError, match=re.escape(says)):
        model_flags.load_segmenter("saved_model/1")
