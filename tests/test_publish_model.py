import dataclasses
import json
import os

import h5py
import numpy as np
import pytest

from deeplab_tf import workdir as workdirs
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks.deeplab import build_network
from scripts import publish_model


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("run"))
    info = DatasetInfo("toy", ("background", "thing"), ((0, 0, 0), (9, 9, 9)))
    config = dataclasses.replace(EXPERIMENTS["efficientnet_lite0_aspp"], dataset=info)
    for _ in range(2):  # as after a resume
        workdirs.write_config(folder, config, {"init": "none", "data_dir": "/home/someone/data", "split": "train"})
    workdirs.save_weights(build_network(config.model, 2), folder)
    return folder


def test_a_published_model_is_half_as_large_and_loads_like_a_workdir(workdir, tmp_path):
    out = str(tmp_path / "models" / "toy")
    publish_model.publish(workdir, out)
    sizes = [os.path.getsize(os.path.join(folder, "model.weights.h5")) for folder in (workdir, out)]
    assert sizes[1] < 0.6 * sizes[0]
    (before, config), (after, published) = workdirs.load(workdir), workdirs.load(out)
    assert published == config
    for ours, theirs in zip(after.variables, before.variables, strict=True):
        # A kernel loses all but 11 bits; below float16's normal numbers the step is 6e-8.
        np.testing.assert_allclose(ours, theirs, rtol=2**-11 if len(ours.shape) == 4 else 0, atol=3e-8)
    text = (tmp_path / "models" / "toy" / "config.json").read_text()
    assert json.loads(text)["run"]["split"] == "train" and "someone" not in text


def test_a_kernel_beyond_float16_is_refused(tmp_path):
    with h5py.File(tmp_path / "large.weights.h5", "w") as file:
        file.create_dataset("layer/vars/0", data=np.full((1, 1, 2, 2), 1e5, np.float32))
    with pytest.raises(UserError, match="float16 cannot hold"):
        publish_model.halve(str(tmp_path / "large.weights.h5"), str(tmp_path / "small.weights.h5"))
