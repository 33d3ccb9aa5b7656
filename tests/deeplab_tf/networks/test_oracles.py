"""Logits of public PyTorch implementations, reproduced from the same weights and images.

`tests/data/oracles.npz` holds 200 logits of each network for one size of image (`NETWORK_positions` into the flattened
array) and the standard deviation of all of them. A working copy of this project may have the whole arrays beside it,
in `../shared/oracles`; the tests that need them are skipped elsewhere.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import load_weights
from tests import oracles

HERE = Path(__file__).resolve()
COMMITTED = HERE.parents[2] / "data" / "oracles.npz"
SHARED = HERE.parents[4] / "shared" / "oracles"

# experiment: (its parameters, the file in SHARED, sizes of images, the first of which is in COMMITTED)
NETWORKS = {
    "vgg16_large_fov": (oracles.vgg16_parameters(1), "vgg16_largefov_pool5a", ("65x97x2", "129x129x1")),
    "vgg16_aspp_l": (oracles.vgg16_parameters(4), "vgg16_aspp_l", ("65x97x2", "129x129x1")),
    "vgg16_aspp_s": (oracles.vgg16_parameters(4), "vgg16_aspp_s", ("65x97x2", "129x129x1")),
    "resnet50_aspp": (oracles.resnet_parameters(50), "resnet50_aspp", ("65x97x2", "129x129x1")),
    "resnet101_aspp": (oracles.resnet_parameters(101), "resnet101_aspp", ("65x97x2", "129x129x1")),
    "resnet101_aspp_msc": (oracles.resnet_parameters(101), "resnet101_aspp_msc", ("129x129x1", "161x225x1")),
}
LARGE = "321x321x1"  # the only size at which off-centre taps of rate 24 see data
SLOW = ("vgg16_aspp_l", "resnet101_aspp", "resnet101_aspp_msc")
# The bound of the arrays' own page; float32 in another order of summation reaches 1.3e-5.
BOUND = 1e-4


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS]
)
def filled(request, tmp_path_factory):
    """(experiment, its network with the weights that its parameters' names say)."""
    experiment = request.param
    path = tmp_path_factory.mktemp("oracle") / "weights.npz"
    np.savez(path, **{name: oracles.parameter(name, shape) for name, shape in NETWORKS[experiment][0]})
    model = build_model(experiment, num_classes=21)
    report = load_weights(model, str(path))
    path.unlink()
    assert not report.missing
    return experiment, model


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the whole arrays are not part of the repository")


def logits_of(model, size):
    return model(oracles.image(*map(int, size.split("x")))).numpy()


def assert_equals(logits, expected, deviation):
    difference = np.abs(logits - expected).max()
    assert difference <= BOUND * deviation, f"{difference / deviation:.2g} of the standard deviation"


def assert_equals_shared(experiment, model, size):
    with np.load(SHARED / f"{NETWORKS[experiment][1]}.npz") as arrays:
        expected = arrays[f"logits_{size}"]
    logits = logits_of(model, size)
    assert logits.shape == expected.shape
    assert_equals(logits, expected, expected.std())


def test_some_logits_equal_those_of_the_public_implementation(filled):
    experiment, model = filled
    logits = logits_of(model, NETWORKS[experiment][2][0])
    with np.load(COMMITTED) as arrays:
        assert_equals(
            logits.ravel()[arrays[f"{experiment}_positions"]], arrays[experiment], arrays[f"{experiment}_deviation"]
        )


@needs_shared
def test_all_logits_equal_those_of_the_public_implementation(filled):
    for size in NETWORKS[filled[0]][2]:
        assert_equals_shared(*filled, size)


@needs_shared
@pytest.mark.slow
def test_all_logits_of_a_training_crop_equal_those_of_the_public_implementation(filled):
    if filled[0] not in ("resnet50_aspp", "vgg16_aspp_l"):
        pytest.skip("there is no array of this size")
    assert_equals_shared(*filled, LARGE)


@needs_shared
def test_the_parameters_are_those_of_the_public_implementations():
    names = json.loads((SHARED / "names.json").read_text())
    for parameters, file, _ in NETWORKS.values():
        listed = names[file.removesuffix("_msc")]
        assert [(name, tuple(shape)) for name, shape in listed] == parameters


@needs_shared
def test_the_committed_values_are_some_of_the_shared_ones():
    with np.load(COMMITTED) as committed:
        for experiment, (_, file, sizes) in NETWORKS.items():
            with np.load(SHARED / f"{file}.npz") as arrays:
                logits = arrays[f"logits_{sizes[0]}"]
            np.testing.assert_array_equal(logits.ravel()[committed[f"{experiment}_positions"]], committed[experiment])
            assert committed[f"{experiment}_deviation"] == logits.std()
