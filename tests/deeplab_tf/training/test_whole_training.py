"""`train` and `rehearse` in this process: what they leave, say and refuse."""

import dataclasses
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import config as configs
from deeplab_tf import workdir as workdirs
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import experiment_config
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.runtime import files
from deeplab_tf.training import dry_run, trained_images, validation
from deeplab_tf.training import loop as training
from deeplab_tf.training import step as train_step
from deeplab_tf.training.progress import Progress
from deeplab_tf.training.trained_images import Images, TrainingData
from tests.tiny import tiny_network
from tests.tiny_training import INFO, batches_of, configure, use_tiny_network, validation_split


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the tiny network in tmp_path / "w"."""
    monkeypatch.setattr(training, "build_network", use_tiny_network())

    def run(
        how=training.train,
        workdir=tmp_path / "w",
        init="none",
        batches=batches_of,
        data=None,
        other_data=False,
        **settings,
    ):
        config = configure(deterministic="false", **settings)
        validate = {"validation_split": validation_split(2)} if "eval_every" in settings else {}
        more = {"data": data, "other_data": other_data} if data else {}
        how(config, str(workdir), batches(config), init=init, strategy_name="one_device", **validate, **more)
        return workdir

    return run


def test_a_training_leaves_weights_checkpoints_scores_and_all_that_repeats_it(train, capsys):
    workdir = train(iterations=4, save_every=2, keep_checkpoints=1, eval_every=2)
    assert {path.name for path in workdir.iterdir() if "tfevents" not in path.name} == {
        *("best.weights.h5", "checkpoints", "config.json", "curves.png", "loss.csv", "model.weights.h5"),
        "validation.json",
    }
    assert {path.stem for path in (workdir / "checkpoints").iterdir()} == {"step-4", "health"}
    said = capsys.readouterr().out
    assert "8 images an update = 4 at a time (on one device) x iter_size 2" in said
    assert "step 2  mIoU" in said and "\r" not in said
    run = json.loads((workdir / "config.json").read_text())["run"]
    assert {"command", "date", "git_revision", "versions", "init", "devices", "start_step", "host"} <= run.keys()

    train(iterations=5)
    content = json.loads((workdir / "config.json").read_text())
    assert content["run"]["start_step"] == 4 and [run["start_step"] for run in content["earlier_runs"]] == [0]
    assert "continued with changed settings in train: iterations was 4, is 5" in capsys.readouterr().out


def test_an_update_is_waited_for_when_the_next_one_is_started_or_it_is_to_be_kept(train, monkeypatch):
    told = []

    class Terms:
        """Losses that a GPU is still computing."""

        def __init__(self, terms, number):
            self._terms, self._number = terms, number

        def numpy(self):
            told.append(f"wait for {self._number}")
            return self._terms.numpy()

    def build_watched_step(*arguments):
        step, names = train_step.build_train_step(*arguments)

        def start(batch):
            number = sum(line.startswith("start") for line in told) + 1
            told.append(f"start {number}")
            return Terms(step(batch), number)

        return start, names

    monkeypatch.setattr(training, "build_train_step", build_watched_step)
    train(iterations=6, save_every=4, eval_every=3, summary_every=100)
    assert told == [
        *("start 1", "start 2", "wait for 1", "start 3", "wait for 2", "wait for 3"),  # validated
        *("start 4", "wait for 4"),  # saved
        *("start 5", "start 6", "wait for 5", "wait for 6"),  # the last
    ]


def test_images_a_second_count_from_when_updates_were_started():
    progress = Progress(0, iterations=9, images_per_step=4, silent=True)
    for step, started in ((1, 100.0), (2, 102.0), (3, 104.0)):  # all told of in one moment
        progress.update(step, 1.0, 0.1, started)
    assert progress.images_per_second == 2


def test_a_dry_run_tells_time_memory_and_disk_and_leaves_nothing(train, tmp_path, capsys):
    train(dry_run.rehearse, workdir=tmp_path / "new" / "w", iterations=1000, eval_every=100)
    assert not os.listdir(tmp_path)
    said = capsys.readouterr().out
    for row in ("an update", "memory", "checkpoint", "validation", "disk", "total"):
        assert f" {row}  " in said
    assert "for 1000 updates" in said and "10 times" in said


def test_a_start_that_failed_does_not_block_another_experiment(train, tmp_path):
    with pytest.raises(UserError, match="no weights file"):
        train(init=str(tmp_path / "nothing.npz"))
    workdir = tmp_path / "w"
    assert not workdir.exists()
    # One that failed at its first step has left its settings, and nothing that was trained.
    workdir.mkdir()
    workdirs.write_config(str(workdir), configure(), {})
    other = configure()
    other = training.Config(**{**vars(other), "experiment": "vgg16_aspp_s"})
    workdirs.check_workdir(str(workdir), other, {})
    (workdir / "checkpoints").mkdir()
    (workdir / "checkpoints" / "step-1.index").write_bytes(b"")
    with pytest.raises(UserError, match="holds the experiment resnet101_aspp, not vgg16_aspp_s"):
        workdirs.check_workdir(str(workdir), other, {})


def test_a_training_that_diverged_goes_on_from_the_last_good_checkpoint_at_a_lower_rate(train, capsys):
    # After 22 updates the rate becomes a million times as large.
    how = {"iterations": 60, "save_every": 4, "keep_checkpoints": 2, "optimizer.policy": "step"}
    how |= {"optimizer.step_size": 22}
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; the training has diverged") as refused:
        train(**how, **{"optimizer.gamma": 1e6})
    said = capsys.readouterr().out
    assert "warning: step 24: the loss is" in said and "the training diverges. No checkpoint is written" in said
    # The losses after steps 16 and 20 were not all sane; they are newer, and do not push step 12 out.
    assert "lower --set=optimizer.base_lr" in str(refused.value)
    assert re.search(r"goes back to \S*/step-12;", str(refused.value))

    workdir = train(**how, **{"optimizer.gamma": 0.5})
    said = capsys.readouterr().out
    assert "had diverged at step 24, so it goes back to step 12." in said and "resuming at step 12 from" in said
    assert "trained to step 60" in said and "warning" not in said
    assert (workdir / "model.weights.h5").is_file()
    losses = [float(loss) for loss in re.findall(r"step \d+/\d+  loss (\S+)", said)]
    assert losses[-1] < np.log(3)


def test_exploded_but_finite_weights_do_not_end_as_trained_and_do_not_push_good_ones_out(
    train, tmp_path, monkeypatch, capsys
):
    losses = iter([*[1.0] * 25, *[1e30] * 15])

    def build_step(*arguments):
        _, names = train_step.build_train_step(*arguments)
        return lambda _: tf.constant([next(losses)]), names

    monkeypatch.setattr(training, "build_train_step", build_step)
    with pytest.raises(UserError, match=r"the loss is 1e\+30 at the end, step 40; .* goes back to \S*/step-20;"):
        train(iterations=40, save_every=5, keep_checkpoints=1)
    assert not (tmp_path / "w" / "model.weights.h5").exists()
    assert {path.stem for path in (tmp_path / "w" / "checkpoints").iterdir()} == {"step-20", "step-25", "health"}
    said = capsys.readouterr().out
    assert "step 30: no checkpoint, for the training has diverged" in said and "trained to" not in said


def test_a_process_stopped_while_the_training_diverges_goes_back(train, monkeypatch, capsys):
    losses = iter([*[1.0] * 25, 1e30])

    def build_step(*arguments):
        _, names = train_step.build_train_step(*arguments)

        def step(_):
            loss = next(losses)
            if loss > 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return tf.constant([loss])

        return step, names

    monkeypatch.setattr(training, "build_train_step", build_step)
    with pytest.raises(SystemExit) as stopped:
        train(iterations=40, save_every=5)
    assert stopped.value.code == 143
    said = capsys.readouterr()
    assert "stopped by SIGTERM after step 26, not saved: the training has diverged" in said.err


# As TensorFlow 2.21 says it, from its allocators, from XLA and from a copy to a full GPU.
ON_CPU = (
    "{{function_node __inference_step_16}} OOM when allocating tensor with shape[1,1000,1000,512] and type float on "
    "/job:localhost/replica:0/task:0/device:CPU:0 by allocator mklcpu\n\t [[{{node zeros}}]]\nHint: If you want to see "
    "a list of allocated tensors when OOM happens, add report_tensor_allocations_upon_oom to RunOptions."
)
ON_GPU = (
    "Graph execution error:\n\nDetected at node conv\n\nOOM when allocating tensor with shape[30,512,41,41] and type "
    "half on /job:localhost/replica:0/task:0/device:GPU:1 by allocator GPU_1_bfc [Op:__inference_step_16]"
)
BY_XLA = "Out of memory while trying to allocate 14.55TiB. [Op:__inference_g_36]"


@pytest.fixture(params=[training.train, dry_run.rehearse])
def refused(request, train, monkeypatch):
    """A function from what a step does to the line with which a training, or its rehearsal, ends."""

    def end_with(step):
        def build_step(*arguments):
            return lambda _: step(), train_step.build_train_step(*arguments)[1]

        for module in (training, dry_run):
            monkeypatch.setattr(module, "build_train_step", build_step)
        with pytest.raises(UserError) as refused:
            train(request.param)
        said = str(refused.value)
        assert "\n" not in said and said.startswith("out of memory in ")
        assert "4 crops of 33 pixels at a time on 1 device in float32" in said
        assert "--set=train.batch_size=2 with --set=train.iter_size=4 (the same update" in said
        assert "--set=train.crop_size below 33" in said and "--set=train.precision=bfloat16" in said
        assert ("--dry_run" in said) == (request.param is training.train)
        return said

    return end_with


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (tf.errors.ResourceExhaustedError(None, None, ON_CPU), "float [1,1000,1000,512], 2.05 GB, on CPU:0. An update"),
        (tf.errors.ResourceExhaustedError(None, None, ON_GPU), "half [30,512,41,41], 51.64 MB, on GPU:1. An update"),
        (tf.errors.ResourceExhaustedError(None, None, BY_XLA), "14.55TiB in one piece. An update"),
        (tf.errors.InternalError(None, None, "Dst tensor is not initialized."), "Dst tensor is not initialized"),
        (MemoryError(), "more than there is. An update"),
    ],
)
def test_a_training_that_does_not_fit_into_memory_says_what_and_what_to_do(refused, error, says):
    def fail():
        raise error

    assert says in refused(fail)


def test_an_array_of_numpy_that_does_not_fit_is_told_of_too(refused):
    assert "728. TiB in one piece" in refused(lambda: np.ones((10**7, 10**7)))


@pytest.mark.slow  # TensorFlow waits ten seconds for memory
def test_what_tensorflow_itself_says_of_too_little_memory_is_known(refused):
    assert "a tensor of float [10000000,1000000], 40000.00 GB, on CPU:0" in refused(lambda: tf.zeros([10**7, 10**6]))


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "/w/step-1; Too many open files"),
        tf.errors.InternalError(None, None, "libdevice not found"),
    ],
)
def test_what_is_not_about_memory_keeps_its_traceback(train, monkeypatch, error):
    def build_step(*arguments):
        def fail(_):
            raise error

        return fail, train_step.build_train_step(*arguments)[1]

    monkeypatch.setattr(training, "build_train_step", build_step)
    with pytest.raises(type(error)):
        train()


def test_an_image_too_large_to_validate_is_told_of_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "predict_probabilities", lambda *_: np.ones((10**7, 10**7)))
    watched = validation.Validation(str(tmp_path), validation_split(1), INFO)
    with pytest.raises(UserError, match=r"out of memory in validating an image of 33x33 .* --set=inference\.tile=513"):
        watched.run(tiny_network(), 1)


def test_a_resumed_workdir_says_that_another_init_is_not_used_and_refuses_one_that_is_not_there(
    train, tmp_path, capsys
):
    train(iterations=1)
    train(iterations=2)
    assert "is not used" not in capsys.readouterr().out
    (tmp_path / "other.npz").write_bytes(b"")
    workdir = train(iterations=3, init=str(tmp_path / "other.npz"))
    assert f"--init={tmp_path / 'other.npz'} is not used" in capsys.readouterr().out
    assert json.loads((workdir / "config.json").read_text())["run"]["init"] == "none"
    with pytest.raises(UserError, match=r"no weights file and no workdir '.*gone\.npz'"):
        train(iterations=4, init=str(tmp_path / "gone.npz"))


def test_a_resume_says_that_images_which_were_trained_on_are_now_validated_on(train, capsys):
    def data(train, val):
        return TrainingData(
            "d", "train", {name: Images(tuple(ids), tuple(ids)) for name, ids in {"train": train, "val": val}.items()}
        )

    workdir = train(iterations=1, data=data("abc", "de"))
    train(iterations=2, data=data("abc", "de"))
    assert "warning" not in capsys.readouterr().out.replace("warning: the loss", "")
    train(iterations=3, data=data("abfg", "cde"))
    said = capsys.readouterr().out
    assert "train of d has 2 more images, and lacks 1 that it had; 1 of the 3 images of val were trained on" in said
    assert trained_images.read(str(workdir)).before.ids == ("c",)
    # Without a checkpoint nothing was trained on.
    shutil.rmtree(workdir / "checkpoints")
    train(iterations=1, data=data("xy", "x"), eval_every=1)
    assert "1 of the 2 images of val, the --eval_split, are in train, which is trained on" in capsys.readouterr().out
    assert trained_images.read(str(workdir)).everything().ids == ("x", "y")


def test_a_workdir_of_other_data_is_refused_unless_told(train, capsys):
    def data(train, val):
        return TrainingData("d", "train", {"train": Images(tuple(train), None), "val": Images(tuple(val), None)})

    workdir = train(iterations=1, data=data("abc", "de"))
    says = r"was trained on other data: 2 of its 3 images are in no split of d\. .*--init=\S*w with another one"
    for how in (training.train, dry_run.rehearse):
        with pytest.raises(UserError, match=says):
            train(how, iterations=2, data=data("axy", "z"))
    train(iterations=2, data=data("axyz", "b"))  # b moved to val
    train(iterations=3, data=data("pqr", "s"), other_data=True)
    assert trained_images.read(str(workdir)).now.ids == tuple("pqr")


def test_ignored_labels_are_told_of_while_it_trains(train, capsys):
    def ignored(config):
        make_batches = batches_of(config)
        return lambda **where: make_batches(**where).map(
            lambda batch: {**batch, "labels": tf.fill(tf.shape(batch["labels"]), 255)}
        )

    train(iterations=12, batches=ignored)
    said = capsys.readouterr().out
    assert "warning: step 10: the last 10 losses are exactly 0" in said
    assert "warning: the last 12 losses are exactly 0" in said


def test_a_workdir_in_use_is_refused_and_the_user_told_by_whom(tmp_path):
    # A second open file is to the system what another process has.
    with (
        workdirs.locked(str(tmp_path)),
        pytest.raises(UserError, match=f"process {os.getpid()} on .* is training"),
        workdirs.locked(str(tmp_path)),
    ):
        pass
    with workdirs.locked(str(tmp_path)):
        pass


def test_a_lock_that_its_holder_removed_before_this_process_had_it_is_not_taken_for_one(tmp_path, monkeypatch):
    lock, removed = files.lock, []

    def late(descriptor, *patience):
        if not removed:
            removed.append((tmp_path / ".lock").unlink())
        return lock(descriptor, *patience)

    monkeypatch.setattr(files, "lock", late)
    with workdirs.locked(str(tmp_path)):
        assert removed and (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / ".lock").exists() and tmp_path.exists()


def test_the_best_weights_are_those_of_the_best_score_and_scores_survive_a_restart(tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.3, 0.5])
    monkeypatch.setattr(validation.ConfusionMatrix, "summary", lambda *_: {"miou": next(scores), "per_class_iou": {}})
    model, split = tiny_network(), validation_split(1)
    for step in (1, 2, 3, 4):
        model.trainable_variables[0].assign(tf.fill(model.trainable_variables[0].shape, float(step)))
        # As after a restart each time.
        watched = validation.Validation(str(tmp_path), split, INFO)
        assert not watched.has(step)
        watched.run(model, step)
        assert watched.has(step)
    assert "best 50.00 % at step 2" in watched.describe(3)
    assert json.loads((tmp_path / "validation.json").read_text())["best"] == {"step": 2, "miou": 0.5}
    model.load_weights(tmp_path / "best.weights.h5")
    assert np.unique(model.trainable_variables[0]) == [2.0]
    with pytest.raises(UserError, match="is about the split val, not test"):
        validation.Validation(str(tmp_path), validation.ValidationSplit("test", 1, lambda: ()), INFO)


def test_a_signal_ends_a_validation_without_a_score(tmp_path):
    watched = validation.Validation(str(tmp_path), validation_split(5), INFO)
    assert watched.run(tiny_network(), 1, interrupted=["SIGTERM"]) is None
    assert not watched.has(1) and not os.listdir(tmp_path)


def test_a_classifier_for_other_classes_starts_afresh_even_if_they_are_as_many(train, tmp_path, capsys):
    workdir = train(iterations=1)
    loaded, fresh = tiny_network(seed=5, hidden_units=4), tiny_network(seed=5, hidden_units=4)
    trained = tiny_network(seed=6, hidden_units=4)
    config = configure()
    training.initialise(trained, str(workdir), config, batches_of(config))
    assert "other classes" not in capsys.readouterr().out
    config = dataclasses.replace(config, dataset=DatasetInfo("mine", ("road", "sky", "tree"), pascal_palette(3)))
    training.initialise(loaded, str(workdir), config, batches_of(config))
    assert "was trained for other classes, dark, middle, bright" in capsys.readouterr().out
    for variable, before, there in zip(loaded.variables, fresh.variables, trained.variables, strict=True):
        expected = before if "fc8" in variable.path else there
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())
        assert not np.array_equal(before.numpy(), there.numpy()) or "bias" in variable.path


@pytest.mark.parametrize("experiment", ["resnet50_aspp", "efficientnet_lite0_aspp"])
def test_a_random_network_with_batch_normalisation_starts_with_scores_of_a_sensible_size(experiment, capsys):
    config = dataclasses.replace(experiment_config(experiment), dataset=INFO)
    config = configs.override(config, ["train.crop_size=33", "train.batch_size=4", "train.iter_size=2"])
    model = build_network(config.model, 3)
    image = 255 * np.random.default_rng(0).uniform(size=(1, 33, 33, 3)).astype(np.float32)
    before = model(image).numpy().std()
    training.initialise(model, "none", config, batches_of(config))
    assert "batch normalisations are those of 16 training images" in capsys.readouterr().out
    features = model.backbone(model.backbone.normalize(tf.constant(image))).numpy()
    assert 0.1 < features.std() < 10
    assert model(image).numpy().std() < 10 and (before > 1000 or experiment != "resnet50_aspp")
