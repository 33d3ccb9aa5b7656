"""Settings that change nothing."""

import pytest

from deeplab_tf.config import override
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.training.idle_settings import idle_settings


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        (["optimizer.beta_2=0.9"], ["optimizer.beta_2"]),
        (["optimizer.beta_2=0.9", "optimizer.name=adam"], []),
        (["optimizer.momentum=0.8", "optimizer.name=adam"], ["optimizer.momentum"]),
        (["optimizer.power=1", "optimizer.policy=step", "optimizer.gamma=0.5"], ["optimizer.power"]),
        (["optimizer.gamma=0.5", "optimizer.step_size=3"], ["optimizer.gamma", "optimizer.step_size"]),
        (["optimizer.fresh_lr_mult=5"], ["optimizer.fresh_lr_mult"]),
        (["optimizer.fresh_lr_mult=5", "optimizer.fresh_layers=conv5"], []),
        (["train.dropout=0.1"], ["train.dropout"]),
        (["train.augment_scales=1,2", "train.scale_range=0.5,2"], ["train.augment_scales"]),
        (["train.eval_every=5", "train.iterations=3"], ["train.eval_every"]),
    ],
)
def test_each_setting_without_effect_is_named_with_the_reason(settings, idle):
    config = override(EXPERIMENTS["resnet101_aspp"], settings)
    said = idle_settings(config, [setting.partition("=")[0] for setting in settings], validates=False)
    assert [line.partition(" has no effect: ")[0] for line in said] == idle


def test_what_has_an_effect_elsewhere_is_not_named():
    vgg = EXPERIMENTS["vgg16_aspp_l"]
    assert idle_settings(vgg, ["train.dropout", "optimizer.power", "train.eval_every", "crf.w1"], validates=True) == []
