import concurrent.futures
import inspect
import io

import numpy as np
import pytest
from PIL import Image

import deeplab_tf as dl
from datasets.source import Example
from deeplab_tf.commands import trainer
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.training import stop_signals
from deeplab_tf.training.validation import ValidationSplit
from tests.datasets.converted import write_examples


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder of one grey image in train, and one in val."""
    folder, encoded = tmp_path_factory.mktemp("records"), io.BytesIO()
    Image.new("RGB", (20, 20), "grey").save(encoded, "PNG")
    info = DatasetInfo("mine", ("dark", "bright"), pascal_palette(2))
    for split in ("train", "val"):
        example = Example(split, encoded.getvalue(), np.zeros((20, 20), np.uint8))
        write_examples([example], info, split, folder)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """What `training.train` is called with."""
    calls = []
    monkeypatch.setattr(trainer.training, "train", lambda *args, **more: calls.append((*args, more)))
    return calls


def test_train_wires_names_data_and_settings_together(converted, trained, tmp_path):
    history = dl.train(
        "efficientnet_lite0_aspp",
        converted,
        tmp_path / "run",
        iterations=7,
        eval_split="val",
        init="none",
        settings={"train.batch_size": 4, "model.scales": (1.0, 0.5), "train.deterministic": True},
    )
    [(config, workdir, _, how)] = trained
    assert (config.train.iterations, config.train.batch_size, config.train.deterministic) == (7, 4, True)
    assert config.model.scales == (1.0, 0.5) and config.dataset.name == "mine"
    assert workdir == str(tmp_path / "run") and how["init"] == "none"
    assert isinstance(how["validation_split"], ValidationSplit) and how["run"]["eval_split"] == "val"
    assert history.workdir == workdir and history.losses == {} and history.best is None


def test_a_network_that_comes_with_the_installation_can_be_the_start(converted, trained, tmp_path):
    dl.train("efficientnet_lite2_aspp", converted, tmp_path / "run", init="voc_animals", settings=["train.seed=5"])
    [(config, _, _, how)] = trained
    assert config.train.seed == 5 and how["init"].endswith("models/voc_animals")


def test_what_is_wrong_is_said_before_anything_is_written(converted, trained, tmp_path):
    with pytest.raises(dl.UserError, match="did you mean efficientnet_lite0_aspp"):
        dl.train("efficientnet_lite0_asp", converted, tmp_path / "run")
    with pytest.raises(dl.UserError, match="did you mean batch_size"):
        dl.train("efficientnet_lite0_aspp", converted, tmp_path / "run", settings={"train.batchsize": 4})
    assert not trained and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("code", "becomes"), [(130, KeyboardInterrupt), (143, SystemExit)])
def test_ctrl_c_stays_ctrl_c_in_a_notebook(monkeypatch, code, becomes):
    def stop(*_, **__):
        raise SystemExit(code)

    monkeypatch.setattr(trainer, "run_training", stop)
    with pytest.raises(becomes):
        dl.train("efficientnet_lite0_aspp", "data", "run")


def test_the_function_takes_what_the_command_takes():
    named = set(inspect.signature(trainer.run_training).parameters) - {"assignments", "dry_run"}
    assert named | {"iterations", "settings"} == set(inspect.signature(dl.train).parameters)


def test_a_training_in_a_thread_of_a_notebook_does_without_signals():
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def collected():
            with stop_signals.collect() as received:
                return received

        assert pool.submit(collected).result() == []
