import pytest
from absl import flags

from deeplab_tf import model_flags
from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS

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
