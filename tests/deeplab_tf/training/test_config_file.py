import json

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS, experiment_config
from deeplab_tf.training import config_file


def configured(path, experiment=""):
    content = config_file.read(str(path))
    config = experiment_config(config_file.experiment_of(content, str(path), experiment))
    return config_file.apply(config, content, str(path))


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_the_settings_of_a_workdir_train_another_one(tmp_path):
    before = EXPERIMENTS["resnet101_aspp"]
    content = {**before.to_json(), "run": {"split": "train"}, "earlier_runs": []}
    content["train"] = {**content["train"], "iterations": 7, "scale_range": [0.5, 2]}
    config = configured(write(tmp_path / "config.json", content))
    assert config.experiment == "resnet101_aspp" and config.dataset is None
    assert (config.train.iterations, config.train.scale_range) == (7, (0.5, 2.0))
    assert config.optimizer == before.optimizer and config.model == before.model


def test_a_part_is_enough_and_the_experiment_may_be_a_flag(tmp_path):
    path = write(tmp_path / "a.json", {"optimizer": {"base_lr": 1}})
    assert configured(path, "vgg16_large_fov").optimizer.base_lr == 1.0
    with pytest.raises(UserError, match="--experiment is missing"):
        configured(path)
    with pytest.raises(UserError, match="is of the experiment resnet50, not vgg16_large_fov: leave --experiment out"):
        configured(write(tmp_path / "b.json", {"experiment": "resnet50"}), "vgg16_large_fov")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"trian": {}}, r"there is no section trian \(did you mean train\?\)"),
        ({"train": {"itertions": 3}}, r"there is no train\.itertions \(did you mean iterations\?\)"),
        ({"train": {"iterations": "many"}}, r"train\.iterations: expected a whole number, got 'many'\.$"),
        ({"train": {"iterations": 0}}, r"train\.iterations must be at least 1; got 0\.$"),
        ({"train": {"xla": 1}}, r"train\.xla should be of type bool, it is 1\.$"),
        ({"train": 3}, r"train should hold fields, such as iterations; got 3\."),
        ([1], r"should hold sections of settings"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest_name(tmp_path, content, says):
    with pytest.raises(UserError, match=says):
        configured(write(tmp_path / "a.json", content), "resnet101")


def test_a_file_that_is_not_there_or_no_json_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read --config=\S*gone\.json: No such file"):
        config_file.read(str(tmp_path / "gone.json"))
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read --config=\S*a\.json: Expecting"):
        config_file.read(str(tmp_path / "a.json"))


def test_yaml_is_read_as_people_write_it(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "a.yaml"
    path.write_text("experiment: resnet101\noptimizer: {base_lr: 1e-4}\nmodel:\n  rates: [6, 12]\n")
    config = configured(path)
    assert config.optimizer.base_lr == 1e-4 and config.model.rates == (6, 12)
    path.write_text("a: [")
    with pytest.raises(UserError, match=r"cannot read --config=\S*a\.yaml: while parsing"):
        config_file.read(str(path))
