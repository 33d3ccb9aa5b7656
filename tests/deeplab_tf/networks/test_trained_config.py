import dataclasses

import numpy as np
import pytest

from deeplab_tf import workdir as workdirs
from deeplab_tf.config import ModelConfig
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks.deeplab import build_network, rebuild
from deeplab_tf.networks.restride import restride
from deeplab_tf.networks.trained_config import settle

TRAINED = ModelConfig("resnet101", rates=(6, 12), hidden_units=0, output_stride=16)


def test_a_finer_output_stride_takes_the_rates_with_it(capsys):
    finer = dataclasses.replace(TRAINED, output_stride=8)
    wanted = dataclasses.replace(finer, rates=(12, 24))
    assert settle(TRAINED, finer, "runs/mine") == wanted
    assert capsys.readouterr().out == "runs/mine answers at output stride 8, with the rates 12,24.\n"


def test_rates_that_are_doubled_already_stay():
    wanted = dataclasses.replace(TRAINED, output_stride=8, rates=(12, 24))
    assert settle(TRAINED, wanted, "runs/mine") == wanted


def test_scales_and_the_implementation_are_free(capsys):
    wanted = dataclasses.replace(TRAINED, scales=(0.5, 1.0), atrous="auto")
    assert settle(TRAINED, wanted, "runs/mine") == wanted and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rates": (6, 18)}, "trained with model.rates=6,12 and .* at output stride 16 they are 6,12"),
        ({"rates": (6, 18), "output_stride": 8}, "at output stride 8 they are 12,24"),
        ({"output_stride": 32}, "model.output_stride=16 and .* with 32; it can only be finer"),
        ({"pool5a": True}, "model.pool5a=False and .* with True; leave the setting out"),
        ({"kernel_size": 5}, "model.kernel_size=3 and .* with 5"),
        ({"backbone": "resnet50"}, "model.backbone=resnet101"),
    ],
    ids=str,
)
def test_settings_that_trained_weights_do_not_have_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        settle(TRAINED, dataclasses.replace(TRAINED, **changes), "runs/mine")


def test_what_a_file_of_unknown_training_is_taken_for_is_said(capsys):
    wanted = dataclasses.replace(TRAINED, rates=(3, 6), pool5a=True)
    assert settle(TRAINED, wanted, "some.pth", is_certain=False) == wanted
    said = "some.pth is assumed to have been trained with model.pool5a=True, model.rates=3,6, unlike the experiment.\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        ("efficientnet_lite0_aspp", {"output_stride": 16}),
        ("vgg16_large_fov", {"output_stride": 16, "rates": (3,), "hidden_units": 8}),
    ],
)
def test_a_workdir_at_a_finer_output_stride_is_the_restrided_network(tmp_path, experiment, settings):
    before = EXPERIMENTS[experiment]
    info = DatasetInfo("toy", ("background", "thing"), ((0, 0, 0), (9, 9, 9)))
    config = dataclasses.replace(before, dataset=info, model=dataclasses.replace(before.model, **settings))
    workdirs.write_config(str(tmp_path), config, {})
    model = build_network(config.model, 2)
    workdirs.save_weights(model, str(tmp_path))
    finer = dataclasses.replace(config, model=dataclasses.replace(config.model, output_stride=8))
    loaded, used = workdirs.load(str(tmp_path), finer)
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    scores = loaded(image).numpy()
    assert used.model.rates == tuple(2 * rate for rate in config.model.rates) and scores.shape == (1, 9, 9, 2)
    np.testing.assert_allclose(scores, restride(model, 8)(image), rtol=0, atol=1e-5 * scores.std())
    np.testing.assert_allclose(scores[:, ::2, ::2], model(image), rtol=0, atol=1e-4 * scores.std())
    dilated = rebuild(loaded, "dilated")  # as for TensorFlow Lite
    np.testing.assert_allclose(dilated(image), scores, rtol=0, atol=1e-4 * scores.std())
