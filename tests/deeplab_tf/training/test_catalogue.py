import pytest

from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.training import catalogue


def test_the_table_has_every_experiment_and_those_for_everybody_first():
    header, _, *lines = catalogue.table().partition("\n\n")[0].splitlines()
    assert header.split()[:4] == ["experiment", "backbone", "rates", "scales"]
    assert {line.split()[0] for line in lines} == set(EXPERIMENTS)
    assert lines[0].split()[0] == "efficientnet_lite0_aspp" and "installed" in lines[0] and "start here" in lines[0]
    by_name = {line.split()[0]: line.split() for line in lines}
    assert by_name["resnet101_aspp_msc"][1:6] == ["resnet101", "6,12,18,24", "1,0.75,0.5", "44.2M", "20000"]


@pytest.mark.parametrize(
    "experiment",
    [
        *("vgg16_large_fov", "efficientnet_lite0_aspp", "resnet50_aspp"),
        *(pytest.param(f"efficientnet_lite{size}_aspp", marks=pytest.mark.slow) for size in (1, 2)),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet101_msc", "vgg16_aspp_s", "vgg16_4x4_r8")),
    ],
)
def test_parameters_are_counted_as_the_network_has_them(experiment):
    model = EXPERIMENTS[experiment].model
    assert catalogue.parameters(model, 5) == build_network(model, 5).count_params()
