import json

import pytest

from deeplab_tf.config import EXPERIMENTS, Config, experiment_config, override
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_json(name):
    assert EXPERIMENTS[name].experiment == name
    assert Config.from_json(json.loads(json.dumps(EXPERIMENTS[name].to_json()))) == EXPERIMENTS[name]


def test_the_data_set_survives_json():
    import dataclasses

    info = DatasetInfo("mine", ("a", "b"), ((0, 0, 0), (1, 2, 3)))
    config = dataclasses.replace(EXPERIMENTS["resnet101"], dataset=info)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))).info == info


def test_every_network_of_the_contract_is_there():
    vgg = {f"vgg16_{head}" for head in ("7x7_r4", "4x4_r4", "4x4_r8", "large_fov", "aspp_s", "aspp_l")}
    heads = ("", "_large_fov", "_aspp")
    resnets = {f"resnet{d}{h}{m}" for d in (50, 101) for h in heads for m in ("", "_msc")}
    assert set(EXPERIMENTS) == vgg | resnets


@pytest.mark.parametrize(
    ("assignment", "section", "field", "value"),
    [
        ("train.iterations=7", "train", "iterations", 7),
        ("train.precision=bfloat16", "train", "precision", "bfloat16"),
        ("train.deterministic=true", "train", "deterministic", True),
        ("train.dropout=0", "train", "dropout", 0.0),
        ("optimizer.base_lr=1e-3", "optimizer", "base_lr", 1e-3),
        ("optimizer.policy=step", "optimizer", "policy", "step"),
        ("model.scales=1,0.75,0.5", "model", "scales", (1.0, 0.75, 0.5)),
        ("model.atrous=dilated", "model", "atrous", "dilated"),
        ("crf.w1=5", "crf", "w1", 5.0),
        ("crf.iterations=3", "crf", "iterations", 3),
    ],
)
def test_set_changes_one_field(assignment, section, field, value):
    changed = override(EXPERIMENTS["resnet101_aspp"], [assignment])
    got = getattr(getattr(changed, section), field)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("train.iterations", "section.field=value"),
        ("trian.iterations=3", "knows the sections model, train, optimizer, crf"),
        ("train.itertions=3", "did you mean iterations"),
        ("train.iterations=3.5", "whole number"),
        ("train.iterations=0", "at least 1"),
        ("optimizer.base_lr=nan", "at least 0"),
        ("train.deterministic=yes", "true or false"),
        ("model.atrous=fast", "one of deinterlace, dilated"),
        ("crf.sigma_beta=0", "sigma_beta"),
    ],
)
def test_a_bad_set_is_explained(assignment, says):
    with pytest.raises(UserError, match=says):
        override(EXPERIMENTS["resnet101_aspp"], [assignment])


@pytest.mark.parametrize("name", [None, "", "resnet101_asp"])
def test_no_or_an_unknown_experiment_lists_them(name):
    with pytest.raises(UserError, match="resnet101_aspp_msc"):
        experiment_config(name)
