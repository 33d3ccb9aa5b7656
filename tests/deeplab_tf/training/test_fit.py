"""`compile` and `fit` of Keras train what train.py trains, and say what eval.py says."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf as dl
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.inference.probabilities import predict_probabilities
from deeplab_tf.training.optimizer import Warmup, build_optimizer, build_schedule
from deeplab_tf.training.step import build_train_step
from tests.deeplab_tf.training.test_loop import batch, solver
from tests.references import slow_cross_entropy
from tests.tiny import TINY_MULTIPLIERS, tiny_network

ROOT = Path(__file__).resolve().parents[3]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 41, 57, 3), np.uint8)
LABELS = RNG.integers(0, 3, (4, 41, 57)).astype(np.uint8)
LABELS[:, :7] = 255


def of_batches(batches):
    """The batches as a data set like that of datasets.pipeline."""
    signature = {name: tf.TensorSpec(x.shape, x.dtype) for name, x in batches[0].items()}
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)


def compiled(model, name="sgd", **kwargs):
    model.compile(solver(name), dl.SegmentationLoss(**kwargs), metrics=[dl.MeanIoU(3)])
    return model


@pytest.mark.parametrize(("name", "iter_size", "scales"), [("sgd", 1, (1.0, 0.5)), ("adam", 2, (1.0,))])
def test_fifty_updates_of_fit_give_the_weights_of_train_py_to_the_bit(name, iter_size, scales):
    batches = [batch(2, iter_size, seed=number) for number in range(50)]  # with their seeds of dropout
    ours, other = (tiny_network(hidden_units=4, scales=scales) for _ in range(2))
    step, _ = build_train_step(ours, solver(name), tf.distribute.get_strategy(), 255)
    losses = [float(tf.reduce_sum(step(each))) for each in batches]
    history = compiled(other, name).fit(of_batches(batches), steps_per_epoch=50, shuffle=False, verbose=0).history
    for weight, expected in zip(other.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    np.testing.assert_allclose(history["loss"], [np.mean(losses)], rtol=1e-5)


def test_class_weights_and_the_ignore_label_of_the_loss_are_those_of_train_py():
    weights, batches = (2.0, 0.5, 1.0), [batch(2, 1, seed=number) for number in range(2)]
    for each in batches:
        each["labels"] = tf.where(each["labels"] == 255, 9, each["labels"])
    ours, other = tiny_network(), tiny_network()
    step, _ = build_train_step(ours, solver(), tf.distribute.get_strategy(), 9, weights)
    for each in batches:
        step(each)
    other.compile(solver(), dl.SegmentationLoss(9, weights))
    other.fit(of_batches(batches), steps_per_epoch=2, shuffle=False, verbose=0)
    for weight, expected in zip(other.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_plain_arrays_of_any_size_train_and_are_scored_as_eval_py_scores_them():
    model = compiled(tiny_network())
    history = model.fit(IMAGES, LABELS[..., None], batch_size=2, epochs=3, verbose=0, validation_split=0.5).history
    assert history["loss"][-1] < history["loss"][0] and len(history["val_mean_iou"]) == 3
    loss, miou = model.evaluate(IMAGES, LABELS, batch_size=4, verbose=0)
    matrix = ConfusionMatrix(3)
    for image, labels in zip(IMAGES, LABELS, strict=True):
        matrix.update(labels, predict_probabilities(model, image).argmax(-1))
    assert miou == pytest.approx(matrix.summary(["a", "b", "c"])["miou"], abs=2e-4)  # ties of rounding
    total, count = slow_cross_entropy(model(IMAGES).numpy(), LABELS[:, ::8, ::8])
    assert loss == pytest.approx(total / count, rel=1e-4)


def test_the_loss_alone_is_the_mean_over_the_valid_cells_of_a_score_map():
    scores = RNG.normal(size=(4, 6, 8, 3)).astype(np.float32)
    total, count = slow_cross_entropy(scores, LABELS[:, ::8, ::8])
    assert float(dl.SegmentationLoss()(LABELS, scores)) == pytest.approx(total / count, rel=1e-5)
    assert float(dl.SegmentationLoss()(LABELS[..., None], scores)) == pytest.approx(total / count, rel=1e-5)
    assert float(dl.SegmentationLoss()(LABELS * 0 + 255, scores)) == 0
    # Of sizes that are no stride*k + 1, and of a single cell: the label at or before the place of a cell.
    for rows, columns in (([0, 9, 19], [0, 8, 16, 24, 32, 40, 48]), ([0], [0, 48])):
        scores = RNG.normal(size=(4, len(rows), len(columns), 3)).astype(np.float32)
        total, count = slow_cross_entropy(scores, LABELS[:, 20:40][:, rows][:, :, columns])
        loss = dl.SegmentationLoss()(LABELS[:, 20:40, :49], scores)
        assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_the_metric_counts_as_the_confusion_matrix_does():
    metric, matrix = dl.MeanIoU(5), ConfusionMatrix(5)  # class 4 is in neither
    for seed in range(2):
        rng = np.random.default_rng(seed)
        predicted = rng.integers(0, 4, (2, 9, 9))
        labels = np.where(rng.random((2, 9, 9)) < 0.2, 255, rng.integers(0, 3, (2, 9, 9)))
        metric.update_state(labels[..., None] if seed else labels, predicted)
        matrix.update(labels, predicted)
    np.testing.assert_array_equal(metric.matrix, matrix.matrix)
    assert float(metric.result()) == pytest.approx(matrix.summary([*"abcde"])["miou"], rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0 and not np.any(metric.matrix)


def test_losses_and_metrics_of_keras_see_the_scores_at_the_size_of_the_labels():
    model = tiny_network(hidden_units=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    images, labels = IMAGES[:, :33, :33], LABELS[:, :33, :33]
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()
    value, accuracy = model.evaluate(images, labels, batch_size=4, verbose=0)
    resized = tf.raw_ops.ResizeBilinear(images=model(images), size=(33, 33), align_corners=True)
    assert value == pytest.approx(float(loss(labels, resized)), rel=1e-5)
    assert accuracy == pytest.approx(np.mean(np.argmax(resized, -1) == labels), abs=2e-4)


def test_what_fit_cannot_take_is_said_in_one_line():
    model = compiled(tiny_network())
    for more, line in (
        ({"y": LABELS, "sample_weight": np.ones(4)}, r"weighted by class, SegmentationLoss\(class_weights"),
        ({"y": np.eye(3)[LABELS % 3]}, r"one class index for each pixel, got \[.*\]; of one-hot labels"),
        ({}, "fit and evaluate need labels"),
    ):
        with pytest.raises(ValueError, match=line):
            model.fit(IMAGES, verbose=0, **more)


def test_a_model_is_compiled_as_an_experiment_says_and_goes_on_from_what_callbacks_saved(tmp_path):
    keras.utils.set_random_seed(0)
    name = "efficientnet_lite0_aspp"
    model = dl.build_model(name, 3)
    config = dl.compile_model(model, name, ["train.iterations=40", "optimizer.warmup=2"])
    assert config.train.iterations == 40
    assert not any(v.trainable for v in model.backbone.stem.variables)  # the experiment freezes it
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "last.keras"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", "loss", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "tensorboard"),
        keras.callbacks.EarlyStopping("loss", patience=0, min_delta=100.0),
    ]
    images, labels = IMAGES[:2, :33, :33], LABELS[:2, :33, :33]
    history = model.fit(images, labels, batch_size=2, epochs=5, verbose=0, callbacks=callbacks).history
    assert len(history["loss"]) == 2  # stopped early
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,loss,mean_iou") and len(lines) == 3
    assert list((tmp_path / "tensorboard" / "train").iterdir())
    dl.load_weights(dl.build_model(name, 3), tmp_path / "best.weights.h5")

    loaded = keras.saving.load_model(tmp_path / "last.keras")
    assert isinstance(loaded.optimizer._learning_rate, Warmup) and loaded.loss.ignore_label == 255
    for ours, saved in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(saved, ours)
    for network in (model, loaded):
        network.fit(images, labels, batch_size=2, verbose=0)
    for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_an_experiment_or_setting_that_there_is_not_is_refused():
    model = tiny_network()
    with pytest.raises(UserError, match="no experiment 'vgg17'"):
        dl.compile_model(model, "vgg17")
    with pytest.raises(UserError, match=r"train\.frozen_layers: there is no 'stem'"):
        dl.compile_model(model, "efficientnet_lite0_aspp")


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_solvers_and_schedules_are_made_again_from_their_configuration(name):
    schedule = build_schedule("step", 0.1, 10, 0.9, 3, 0.5, warmup=2)
    ours = build_optimizer(
        name, schedule, momentum=0.8, weight_decay=0.01, of_layers=TINY_MULTIPLIERS, ema_decay=0.9, loss_scaling=True
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert again.get_config() == ours.get_config()
    inner = again.inner_optimizer
    assert type(inner) is type(ours.inner_optimizer) and inner._of_layers == ours.inner_optimizer._of_layers
    assert [float(inner._learning_rate(step)) for step in range(5)] == [float(schedule(step)) for step in range(5)]


MIRRORED = """
import sys
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import deeplab_tf as dl
from tests.deeplab_tf.training.test_fit import IMAGES, LABELS, batch, compiled, of_batches, solver
from tests.tiny import tiny_network

def run(strategy, loss, size):
    images, labels = (x[:, : size[0], : size[1]] for x in (IMAGES, LABELS[..., np.newaxis]))
    if loss is of_keras:
        labels = np.minimum(labels, 2)
    with strategy.scope():
        model = tiny_network(scales=(1.0, 0.5))
        model.compile(solver(), loss, metrics=[dl.MeanIoU(3), keras.metrics.SparseCategoricalAccuracy()])
    history = model.fit(images, labels, batch_size=4, epochs=5, shuffle=False, verbose=0).history
    scores = model.evaluate(images, labels, batch_size=4, verbose=0)
    return [*map(np.array, history.values()), scores], model.get_weights(), model

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
of_keras = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# The first size is padded. Keras' loss is the mean of each device's mean: without ignored labels, the same.
for loss, size in ((dl.SegmentationLoss(), (24, 57)), (of_keras, (33, 49))):
    one_said, one, _ = run(tf.distribute.OneDeviceStrategy("CPU:0"), loss, size)
    two_said, two, model = run(mirrored, loss, size)
    for a, b in zip(one_said + one, two_said + two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-6)
try:
    model.fit(of_batches([batch(4, 1)]), steps_per_epoch=1, verbose=0)
except ValueError as error:
    assert "train.py --strategy=mirrored" in str(error), error
else:
    sys.exit("batches of datasets.pipeline were taken")
"""


@pytest.mark.slow
def test_fit_on_two_devices_gives_the_weights_of_one():
    # The tolerance is that of train.py's step on two replicas, in test_loop.py.
    done = subprocess.run([sys.executable, "-c", MIRRORED], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_process_whose_weights_are_said_to_be_frozen_does_not_train(monkeypatch):
    model = tiny_network(num_classes=3)
    model.compile(optimizer="sgd", loss=dl.SegmentationLoss())
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    with pytest.raises(UserError, match="would train with the weights of the first step"):
        model.fit(IMAGES[:2, :33, :33], LABELS[:2, :33, :33], verbose=0)
    model.predict(IMAGES[:1, :33, :33], verbose=0)
