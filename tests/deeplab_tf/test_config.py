import dataclasses
import json

import pytest

from deeplab_tf.config import Config, InferenceConfig, ModelConfig, TrainConfig, override
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS, RECIPES, apply_recipe, experiment_config


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_json(name):
    assert EXPERIMENTS[name].experiment == name
    assert Config.from_json(json.loads(json.dumps(EXPERIMENTS[name].to_json()))) == EXPERIMENTS[name]


def test_a_file_without_a_section_for_inference_is_read():
    fields = EXPERIMENTS["resnet101"].to_json()
    del fields["inference"]
    assert Config.from_json(fields) == EXPERIMENTS["resnet101"]


def test_tiles_need_aligned_corners():
    with pytest.raises(ValueError, match="aligned corners only"):
        InferenceConfig(tile=513, align_corners=False)


def test_the_data_set_survives_json():
    info = DatasetInfo("mine", ("a", "b"), ((0, 0, 0), (1, 2, 3)))
    config = dataclasses.replace(EXPERIMENTS["resnet101"], dataset=info)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))).info == info


def test_every_network_of_the_contract_is_there():
    vgg = {f"vgg16_{head}" for head in ("7x7_r4", "4x4_r4", "4x4_r8", "large_fov", "aspp_s", "aspp_l")}
    heads = ("", "_large_fov", "_aspp")
    resnets = {f"resnet{d}{h}{m}" for d in (50, 101) for h in heads for m in ("", "_msc")}
    lites = {f"efficientnet_lite{size}_aspp" for size in range(3)}
    assert set(EXPERIMENTS) == vgg | resnets | lites


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_recipe_changes_the_training_and_never_the_network(name, recipe):
    before, after = EXPERIMENTS[name], apply_recipe(EXPERIMENTS[name], recipe)
    assert after.train.ema_decay > 0 and after.train.frozen_layers == ()
    rest = {"train": before.train, "optimizer": before.optimizer}
    assert dataclasses.replace(after, **rest) == before
    assert Config.from_json(json.loads(json.dumps(after.to_json()))) == after


def test_fine_tuning_is_shorter_and_slower():
    before, after = EXPERIMENTS["resnet101"], apply_recipe(EXPERIMENTS["resnet101"], "fine_tune")
    assert (after.train.iterations, after.optimizer.base_lr) == (5000, before.optimizer.base_lr / 4)
    assert after.train.augmentation() == before.train.augmentation()


def test_small_data_leaves_the_solver_and_what_set_says_wins():
    before, after = EXPERIMENTS["resnet101"], apply_recipe(EXPERIMENTS["resnet101"], "small_data")
    assert after.optimizer == before.optimizer and after.train.iterations == before.train.iterations
    assert after.train.scale_range == (0.5, 1.5) and not after.train.augment_scales
    assert override(after, ["train.ema_decay=0"]).train.ema_decay == 0


def test_an_unknown_recipe_is_refused_and_none_changes_nothing():
    assert apply_recipe(EXPERIMENTS["resnet101"], "") is EXPERIMENTS["resnet101"]
    with pytest.raises(UserError, match=r"no recipe 'small' .*choose one of small_data, fine_tune"):
        apply_recipe(EXPERIMENTS["resnet101"], "small")


def test_an_average_without_end_is_refused():
    with pytest.raises(ValueError, match=r"ema_decay must be at least 0 and below 1; got 1"):
        TrainConfig(ema_decay=1.0)


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
        ("inference.tile=513", "inference", "tile", 513),
        ("inference.align_corners=false", "inference", "align_corners", False),
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
        ("trian.iterations=3", "knows the sections model, train, optimizer, crf, inference"),
        ("train.itertions=3", "did you mean iterations"),
        ("train.iterations=3.5", "whole number"),
        ("train.iterations=0", "at least 1"),
        ("optimizer.base_lr=nan", "finite number"),
        ("train.deterministic=yes", "true or false"),
        ("model.atrous=fast", "one of deinterlace, dilated, auto"),
        ("crf.sigma_beta=0", "sigma_beta"),
        ("train.scale_range=0.5", "smallest,largest"),
        ("train.scale_range=2,0.5", "smallest,largest"),
        ("train.scale_range=0,2", "smallest,largest"),
        ("train.foreground_crops=1.5", "0 to 1"),
        ("train.colour_jitter=0.1,0.3,0.3,0.6", "up to four numbers from 0 to 1, 0.99, 0.99, 0.5"),
        ("train.colour_jitter=0,0,0,0,0", "up to four numbers"),
        ("train.colour_jitter=-0.1", "up to four numbers"),
        ("train.class_weights=1,-1", "at least 0"),
        ("train.class_weights=0,0", "not all 0"),
        ("train.class_weights=1,inf", "finite number"),
        ("train.class_weights=1,nan", "finite number"),
        ("inference.tile=100", "cannot share 128"),
    ],
)
def test_a_bad_set_is_explained(assignment, says):
    with pytest.raises(UserError, match=says):
        override(EXPERIMENTS["resnet101_aspp"], [assignment])


@pytest.mark.parametrize("name", [None, "", "resnet101_asp"])
def test_no_or_an_unknown_experiment_lists_them(name):
    with pytest.raises(UserError, match="resnet101_aspp_msc"):
        experiment_config(name)


@pytest.fixture
def config():
    return EXPERIMENTS["resnet101_aspp_msc"]


def test_experiments_have_the_solvers_of_the_release():
    msc = EXPERIMENTS["resnet101_aspp_msc"]
    assert (msc.train.batch_size, msc.train.iter_size, msc.train.iterations) == (1, 10, 20000)
    assert (msc.optimizer.base_lr, msc.optimizer.policy, msc.optimizer.power) == (2.5e-4, "poly", 0.9)
    assert msc.train.augment_scales == (0.5, 0.75, 1.0, 1.25, 1.5) and msc.model.scales == (1.0, 0.75, 0.5)
    assert msc.model.rates == (6, 12, 18, 24) and msc.model.hidden_units == 0
    large_fov = EXPERIMENTS["vgg16_large_fov"]
    assert (large_fov.train.batch_size, large_fov.train.iterations) == (30, 6000)
    assert (large_fov.optimizer.policy, large_fov.optimizer.step_size, large_fov.optimizer.gamma) == ("step", 2000, 0.1)
    assert large_fov.model.pool5a and not EXPERIMENTS["vgg16_aspp_l"].model.pool5a
    for config in EXPERIMENTS.values():
        if config.model.backbone.startswith("efficientnet"):  # not the paper's
            continue
        assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 5e-4)
        assert config.train.crop_size == 321


def test_the_options_that_the_paper_does_not_have_are_off_in_its_experiments():
    for config in EXPERIMENTS.values():
        train = config.train
        assert (train.scale_range, train.foreground_crops, train.colour_jitter, train.class_weights) == ((), 0, (), ())


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "rates", "6,12"),
        ("model", "rates", [6.5]),
        ("model", "scales", [1.0, None]),
        ("train", "batch_size", 2.0),
        ("train", "batch_size", True),
        ("train", "deterministic", 1),
        ("train", "iterations", 10**20),
        ("optimizer", "base_lr", "1e-3"),
        ("optimizer", "base_lr", float("inf")),
        ("crf", "sigma_alpha", [67]),
        ("crf", "w3", 1.0),
    ],
)
def test_a_stored_value_of_another_type_is_refused_by_name(config, section, field, value):
    fields = config.to_json()
    fields[section][field] = value
    with pytest.raises(ValueError, match=f"{section}.{field}"):
        Config.from_json(fields)


@pytest.mark.parametrize(
    "change", [lambda f: f.pop("crf"), lambda f: f.update(model=[]), lambda f: f.update(experiment=3)]
)
def test_a_configuration_of_another_form_is_refused(config, change):
    fields = config.to_json()
    change(fields)
    for wrong in (fields, [], None, "text"):
        with pytest.raises(ValueError, match=r"configuration|model|experiment"):
            Config.from_json(wrong)


def test_whole_numbers_may_stand_for_numbers(config):
    fields = config.to_json()
    fields["crf"]["w1"] = 4
    assert Config.from_json(json.loads(json.dumps(fields))).crf.w1 == 4.0


def test_a_config_from_before_an_option_is_read(config):
    fields = config.to_json()
    del fields["train"]["class_weights"], fields["train"]["scale_range"]
    assert Config.from_json(fields) == config


def test_class_weights_are_one_for_each_class():
    info = DatasetInfo("mine", ("a", "b"), ((0, 0, 0), (1, 2, 3)))
    config = dataclasses.replace(EXPERIMENTS["resnet101"], dataset=info)
    config.check_class_weights()
    override(config, ["train.class_weights=1,2"]).check_class_weights()
    with pytest.raises(UserError, match="expected 2 numbers, one for each of a, b; got 3"):
        override(config, ["train.class_weights=1,2,3"]).check_class_weights()


def test_unknown_keys_beside_the_sections_are_left_alone(config):
    assert Config.from_json({**config.to_json(), "run": {"split": "train"}}) == config


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.iterations=2000", 2000),
        ("train.batch_size=4", 4),
        ("train.crop_size=225", 225),
        ("train.iter_size=2", 2),
        ("train.seed=7", 7),
        ("train.precision=bfloat16", "bfloat16"),
        ("train.save_every=50", 50),
        ("train.deterministic=true", True),
        ("train.deterministic=0", False),
        ("train.dropout=0.25", 0.25),
        ("train.augment_scales=", ()),
        ("train.scale_range=0.5,2", (0.5, 2.0)),
        ("train.foreground_crops=0.5", 0.5),
        ("train.colour_jitter=0.1,0.3", (0.1, 0.3)),
        ("train.class_weights=1,2.5,0", (1.0, 2.5, 0.0)),
        ("optimizer.base_lr=1e-4", 1e-4),
        ("optimizer.policy=step", "step"),
        ("model.scales=1,0.75, 0.5", (1.0, 0.75, 0.5)),
        ("model.rates=6", (6,)),
        ("model.atrous=dilated", "dilated"),
        ("crf.w1=5", 5.0),
        ("crf.sigma_alpha=49", 49.0),
        ("crf.sigma_beta=5", 5.0),
        ("crf.w2=2", 2.0),
        ("crf.sigma_gamma=3", 3.0),
        ("crf.iterations=5", 5),
    ],
)
def test_every_promised_field_can_be_set_and_has_the_right_type(config, assignment, value):
    changed = override(config, [assignment])
    section, field = assignment.split("=")[0].split(".")
    result = getattr(getattr(changed, section), field)
    assert result == value and type(result) is type(value)
    before = dataclasses.asdict(config)
    before[section][field] = value
    assert dataclasses.asdict(changed) == before  # and nothing else


def test_later_assignments_win_and_the_original_stays(config):
    changed = override(config, ["train.seed=1", "crf.w1=9", "train.seed=2"])
    assert (changed.train.seed, changed.crf.w1) == (2, 9.0)
    assert config == EXPERIMENTS["resnet101_aspp_msc"] and config.train.seed == 0
    assert override(config, []) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.iteration=5", r"no train\.iteration \(did you mean iterations\?\)"),
        ("train.crop=5", r"no train\.crop .*train has iterations"),
        ("training.seed=5", "knows the sections model, train, optimizer, crf, inference; got 'training'"),
        ("seed=5", r"takes section\.field=value"),
        ("train.seed=two", "train.seed=two: expected a whole number, got 'two'"),
        ("train.seed=1.5", "expected a whole number, got '1.5'"),
        ("optimizer.base_lr=fast", "expected a number, got 'fast'"),
        ("train.deterministic=maybe", "expected true or false, got 'maybe'"),
        ("model.scales=1,half", "expected a number, got 'half'"),
        ("train.iterations=0", "train.iterations must be at least 1; got 0"),
        ("train.seed=-1", "train.seed must be at least 0"),
        ("train.dropout=1", "train.dropout must be at least 0 and below 1; got 1.0"),
        ("train.precision=int8", "must be one of float32, bfloat16, float16; got int8"),
        ("optimizer.policy=cosine", "must be one of poly, step; got cosine"),
        ("optimizer.name=lamb", "must be one of sgd, adam; got lamb"),
        ("optimizer.base_lr=-1", "optimizer.base_lr must be at least 0"),
        ("optimizer.base_lr=nan", "optimizer.base_lr must be a finite number; got nan"),
        ("optimizer.base_lr=inf", "optimizer.base_lr must be a finite number; got inf"),
        ("model.scales=1,nan", "model.scales must be a finite number; got nan"),
        ("train.iterations=3000000000", "train.iterations must be at most 2147483647; got 3000000000"),
        ("inference.tile=99999999999", "inference.tile must be at most 2147483647"),
        ("model.backbone=vgg19", "must be one of vgg16, .*; got vgg19"),
        ("model.output_stride=4", "must be one of 8, 16, 32; got 4"),
        ("model.rates=", "number of model.rates must be at least 1"),
        ("model.rates=6,0", "model.rates must be at least 1"),
        ("model.scales=", "number of model.scales must be at least 1"),
        ("model.scales=0", "model.scales must be at least 0.1"),
        ("crf.w1=-1", "w1 must be >= 0"),
        ("crf.iterations=-1", "iterations must be a whole number >= 0"),
    ],
)
def test_what_cannot_be_set_is_a_user_error_that_says_what_is_wrong(config, assignment, message):
    with pytest.raises(UserError, match=message):
        override(config, [assignment])


def test_bad_values_in_code_are_value_errors():
    with pytest.raises(ValueError, match=r"train.batch_size must be at least 1; got 0"):
        TrainConfig(batch_size=0)
    with pytest.raises(ValueError, match=r"model.backbone must be one of"):
        ModelConfig(backbone="alexnet")


def test_the_constants_of_the_crf_read_as_a_line_and_whole_numbers_may_be_floats():
    assert str(CrfParams(w1=4, sigma_alpha=67.5, iterations=10.0)) == (
        "w1 4, sigma_alpha 67.5, sigma_beta 3, w2 3, sigma_gamma 1, 10 updates"
    )
