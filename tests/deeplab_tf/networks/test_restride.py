import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.networks.aspp import ASPP
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.efficientnet import EfficientNetLite0
from deeplab_tf.networks.resnet import ResNet
from deeplab_tf.networks.restride import restride
from deeplab_tf.networks.vgg import VGG16
from tests.tiny import tiny_network


def network(backbone, **head):
    """A DeepLab whose weights are all random and that answers with differences between the cells."""
    keras.utils.set_random_seed(0)
    model = DeepLab(backbone, ASPP(3, **head), (1.0,))
    model(keras.Input((None, None, 3)))
    for variable in model.variables:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(keras.random.normal(variable.shape, stddev=0.3))
    return model


@pytest.mark.parametrize(
    ("backbone", "head", "finer"),
    [
        (lambda: VGG16(8, pool5a=True), {"rates": (3,), "hidden_units": 8}, 4),
        (lambda: VGG16(32), {"rates": (1,)}, 8),
        (lambda: VGG16(16), {"rates": (1, 2), "hidden_units": 8}, 4),
        (lambda: VGG16(8), {"rates": (2,), "kernel_size": 4, "hidden_units": 8}, 4),
        (lambda: ResNet(50, 32), {"rates": (1, 2)}, 8),
        (lambda: ResNet(50, 8), {"rates": (2,)}, 4),
        (lambda: EfficientNetLite0(16), {"rates": (1, 2)}, 8),
    ],
    ids=[
        "VGG LargeFOV 8 to 4",
        "VGG 32 to 8",
        "VGG 16 to 4",
        "VGG 4x4 8 to 4",
        "ResNet 32 to 8",
        "ResNet 8 to 4",
        "EfficientNet 16 to 8",
    ],
)
def test_a_restrided_network_subsampled_is_the_original(backbone, head, finer):
    model = network(backbone(), **head)
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 97, 129, 3)), tf.float32)
    restrided = restride(model, finer)
    factor = model.output_stride // finer
    assert restrided.output_stride == finer
    scores, dense = model(images).numpy(), restrided(images).numpy()
    assert dense.shape == (1, 96 // finer + 1, 128 // finer + 1, 3)
    # Rounding of some 50 layers in another order; a pool or a convolution that is not dilated gives 0.1 and more.
    np.testing.assert_allclose(dense[:, ::factor, ::factor], scores, rtol=0, atol=1e-4 * scores.std())
    assert np.abs(np.diff(dense, axis=2)).max() > 0.1 * scores.std()


def test_restriding_copies_weights_precision_and_implementation():
    model = network(ResNet(50, 16, "dilated", dtype="mixed_bfloat16"), rates=(1,), implementation="dilated")
    restrided = restride(model, 8)
    assert restrided.backbone.compute_dtype == "bfloat16"
    assert restrided.backbone.res5b_branch2b.implementation == restrided.head.fc1.implementation == "dilated"
    for one, other in zip(model.variables, restrided.variables, strict=True):
        assert one is not other
        np.testing.assert_array_equal(one, other)


def test_coarser_strides_and_other_backbones_are_refused():
    with pytest.raises(ValueError, match=r"of output stride 8 can be re-strided to \[4, 8\], got 16"):
        restride(network(VGG16(8), rates=(1,)), 16)
    with pytest.raises(ValueError, match="TinyBackbone cannot be re-strided"):
        restride(tiny_network(), 4)
    with pytest.raises(ValueError, match=r"can be re-strided to \[8, 16\], got 4"):
        restride(network(EfficientNetLite0(16), rates=(1,)), 4)
