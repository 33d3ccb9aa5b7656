"""Logits of public PyTorch implementations, reproduced from the same weights and images.

`tests/data/oracles.npz` holds 200 values of each network at 65x97 (`positions` into the flat [2, 9, 13, 21] logits) and
the standard deviation of all of them. A working copy of this project may have the whole arrays beside it, in
`../shared/oracles`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.model import build_model
from deeplab_tf.weights import load_weights
from tests import oracles

HERE = Path(__file__).resolve()
COMMITTED = HERE.parents[1] / "data" / "oracles.npz"
SHARED = HERE.parents[3] / "shared" / "oracles"

# experiment: (its parameters, the file in SHARED)
NETWORKS = {
    "vgg16_large_fov": (oracles.vgg16_parameters(1), "vgg16_largefov_pool5a"),
    "vgg16_aspp_l": (oracles.vgg16_parameters(4), "vgg16_aspp_l"),
    "vgg16_aspp_s": (oracles.vgg16_parameters(4), "vgg16_aspp_s"),
    "resnet50_aspp": (oracles.resnet_parameters(50), "resnet50_aspp"),
    "resnet101_aspp": (oracles.resnet_parameters(101), "resnet101_aspp"),
    "resnet101_aspp_msc": (oracles.resnet_parameters(101), "resnet101_aspp_msc"),
}
# The bound of the arrays' own page; float32 in another order of summation reaches 1.3e-5.
BOUND = 1e-4


@pytest.fixture(scope="module")
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


def slow(*parameters):
    return pytest.param(*parameters, marks=pytest.mark.slow)


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the whole arrays are not part of the repository")


def assert_equals(logits, expected, deviation):
    difference = np.abs(logits - expected).max()
    assert difference <= BOUND * deviation, f"{difference / deviation:.2g} of the standard deviation"


@pytest.mark.parametrize(
    "filled", ["vgg16_large_fov", "vgg16_aspp_s", "resnet50_aspp", slow("vgg16_aspp_l")], indirect=True
)
def test_some_logits_equal_those_of_the_public_implementation(filled):
    experiment, model = filled
    logits = model(oracles.image(65, 97, 2)).numpy()
    assert logits.shape == (2, 9, 13, 21)
    with np.load(COMMITTED) as arrays:
        assert_equals(logits.ravel()[arrays["positions"]], arrays[experiment], arrays[f"{experiment}_std"])


@needs_shared
@pytest.mark.parametrize(
    ("filled", "size"),
    [
        ("vgg16_large_fov", "65x97x2"),
        ("vgg16_large_fov", "129x129x1"),
        ("vgg16_aspp_s", "65x97x2"),
        ("vgg16_aspp_s", "129x129x1"),
        ("resnet50_aspp", "65x97x2"),
        ("resnet50_aspp", "129x129x1"),
        slow("resnet50_aspp", "321x321x1"),
        slow("vgg16_aspp_l", "65x97x2"),
        slow("vgg16_aspp_l", "129x129x1"),
        slow("vgg16_aspp_l", "321x321x1"),
        slow("resnet101_aspp", "65x97x2"),
        slow("resnet101_aspp", "129x129x1"),
        slow("resnet101_aspp_msc", "129x129x1"),
        slow("resnet101_aspp_msc", "161x225x1"),
    ],
    indirect=["filled"],
)
def test_all_logits_equal_those_of_the_public_implementation(filled, size):
    experiment, model = filled
    with np.load(SHARED / f"{NETWORKS[experiment][1]}.npz") as arrays:
        expected = arrays[f"logits_{size}"]
    logits = model(oracles.image(*map(int, size.split("x")))).numpy()
    assert logits.shape == expected.shape
    assert_equals(logits, expected, expected.std())


@needs_shared
def test_the_parameters_are_those_of_the_public_implementations():
    names = json.loads((SHARED / "names.json").read_text())
    for parameters, file in NETWORKS.values():
        listed = names[file.removesuffix("_msc")]
        assert [(name, tuple(shape)) for name, shape in listed] == parameters


@needs_shared
def test_the_committed_values_are_some_of_the_shared_ones():
    with np.load(COMMITTED) as committed:
        for experiment in ("vgg16_large_fov", "vgg16_aspp_l", "vgg16_aspp_s", "resnet50_aspp"):
            with np.load(SHARED / f"{NETWORKS[experiment][1]}.npz") as arrays:
                logits = arrays["logits_65x97x2"]
            np.testing.assert_array_equal(logits.ravel()[committed["positions"]], committed[experiment])
            assert committed[f"{experiment}_std"] == logits.std()
