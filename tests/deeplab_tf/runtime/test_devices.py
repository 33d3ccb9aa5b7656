import pytest
import tensorflow as tf

from deeplab_tf.runtime import devices


@pytest.fixture
def options(monkeypatch):
    """What is asked of TensorFlow's graph optimizers."""
    asked = {}
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", asked.update)
    return asked


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], {}),
        ([(9, 0)], {"layout_optimizer": False}),
        ([(8, 0), (8, 6)], {"layout_optimizer": False}),
        ([(8, 0), (7, 5)], {}),
        ([None], {}),
    ],
    ids=["no GPU", "one", "two", "one without TF32", "unknown"],
)
def test_graphs_stay_channels_last_on_gpus_whose_tensor_cores_compute_float32(
    monkeypatch, options, capabilities, expected
):
    details = [{"compute_capability": c} if c else {} for c in capabilities]
    physical = {"GPU": range(len(details)), "CPU": tf.config.list_physical_devices("CPU")}
    monkeypatch.setattr(tf.config, "list_physical_devices", physical.get)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    strategy = devices.build_strategy("one_device")
    assert "CPU" in devices.describe(strategy)
    assert options == expected
