"""The average of the weights: what it is, where it is used, and that it survives a restart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training import loop
from deeplab_tf.training.averaging import averaged, averages
from deeplab_tf.training.checkpoints import Checkpoints
from deeplab_tf.training.optimizer import build_optimizer, build_schedule
from tests.tiny import TINY_MULTIPLIERS, tiny_network
from tests.tiny_training import batches_of, configure, use_tiny_network

ROOT = Path(__file__).resolve().parents[3]


def solver(name="sgd", ema_decay=0.75, loss_scaling=False):
    schedule = build_schedule("poly", 0.01, 100, 0.9, 1, 0.1)
    return build_optimizer(
        *(name, schedule),
        momentum=0.9,
        weight_decay=5e-4,
        of_layers=TINY_MULTIPLIERS,
        ema_decay=ema_decay,
        loss_scaling=loss_scaling,
    )


def update(model, optimizer, seed):
    """Takes a step in a random direction."""
    rng = np.random.default_rng(seed)
    scale = float(optimizer.scale_loss(1.0))
    optimizer.apply([tf.constant(scale * rng.normal(size=v.shape), tf.float32) for v in model.trainable_variables])


def weights(model):
    return [np.array(variable) for variable in model.trainable_variables]


@pytest.mark.parametrize(("name", "loss_scaling"), [("sgd", False), ("adam", False), ("sgd", True)])
def test_the_average_forgets_by_its_decay_after_a_warm_up(name, loss_scaling):
    model, optimizer = tiny_network(hidden_units=4), solver(name, 0.375, loss_scaling)
    optimizer.build(model.trainable_variables)
    expected = None
    for t, kept in enumerate([0, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.375, 0.375, 0.375]):
        update(model, optimizer, t)
        now = [weight.astype(np.float64) for weight in weights(model)]
        expected = now if t == 0 else [kept * a + (1 - kept) * w for a, w in zip(expected, now, strict=True)]
    for (average, weight), value in zip(averages(model, optimizer), expected, strict=True):
        np.testing.assert_allclose(average, value, rtol=1e-5, atol=1e-7)
        assert not np.allclose(weight, value, rtol=1e-5, atol=1e-7)


def test_the_model_has_the_average_for_a_while_and_its_weights_again():
    model, optimizer = tiny_network(), solver()
    optimizer.build(model.trainable_variables)
    start = weights(model)
    with averaged(model, optimizer):  # nothing was averaged yet
        np.testing.assert_array_equal(weights(model)[0], start[0])
    for seed in (1, 2):
        update(model, optimizer, seed)
    before, average = weights(model), [np.array(average) for average, _ in averages(model, optimizer)]
    with pytest.raises(KeyError), averaged(model, optimizer):
        inside = weights(model)
        raise KeyError
    for value, expected in zip(inside + weights(model), average + before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_without_a_decay_nothing_is_kept():
    model, optimizer = tiny_network(), solver(ema_decay=0.0)
    optimizer.build(model.trainable_variables)
    assert averages(model, optimizer) == []
    update(model, optimizer, 1)
    before = weights(model)
    with averaged(model, optimizer):
        np.testing.assert_array_equal(weights(model)[0], before[0])


def test_a_checkpoint_without_averages_starts_them_at_its_weights(tmp_path):
    def run(ema_decay):
        model, optimizer = tiny_network(), solver(ema_decay=ema_decay)
        optimizer.build(model.trainable_variables)
        return model, optimizer, Checkpoints(str(tmp_path), model, optimizer, keep=3)

    model, optimizer, checkpoints = run(0.0)
    update(model, optimizer, 1)
    checkpoints.save(1)
    saved = weights(model)
    model, optimizer, checkpoints = run(0.9)
    assert checkpoints.restore() and checkpoints.step == 1
    for (average, weight), value in zip(averages(model, optimizer), saved, strict=True):
        np.testing.assert_array_equal(average, value)
        np.testing.assert_array_equal(weight, value)
    # And the way back: averages that are no longer wanted are left in the file.
    checkpoints.save(2)
    model, _, checkpoints = run(0.0)
    assert checkpoints.restore() and checkpoints.step == 2
    np.testing.assert_array_equal(weights(model)[0], saved[0])


def test_a_training_writes_and_validates_the_average_and_resumes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build_network", use_tiny_network())
    seen = []

    def train(folder, **settings):
        config = configure(deterministic="false", save_every=2, **settings)
        loop.train(config, str(tmp_path / folder), batches_of(config), init="none", strategy_name="one_device")
        model = tiny_network(hidden_units=4)
        model.load_weights(tmp_path / folder / "model.weights.h5")
        return weights(model)

    class Watch:
        scores = ()

        def __init__(self, *_):
            pass

        def has(self, step):
            return False

        def run(self, model, *_):
            seen.append(weights(model))

    monkeypatch.setattr(loop, "Validation", Watch)
    build = loop.build

    def keep(*arguments):
        built = build(*arguments)
        seen.append(built)
        return built

    monkeypatch.setattr(loop, "build", keep)
    written = train("whole", iterations=6, ema_decay=0.5)
    model, optimizer = seen.pop()
    for value, (average, weight) in zip(written, averages(model, optimizer), strict=True):
        np.testing.assert_array_equal(value, average)
        assert not np.array_equal(value, weight)
    last = weights(model)

    # As after a kill: the average goes on where the checkpoint left it.
    for path in (tmp_path / "whole" / "checkpoints").glob("step-6.*"):
        path.unlink()
    for value, expected in zip(train("whole", iterations=6, ema_decay=0.5), written, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)

    # The average takes no part in the training.
    plain = train("plain", iterations=6)
    for value, expected in zip(plain, last, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)

    config = configure(deterministic="false", save_every=2, iterations=6, ema_decay=0.5, eval_every=6)
    seen.clear()
    split = object()
    loop.train(
        *(config, str(tmp_path / "scored"), batches_of(config)),
        init="none",
        strategy_name="one_device",
        validation_split=split,
    )
    for value, expected in zip(seen[-1], written, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


TWO_REPLICAS = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from deeplab_tf.training.averaging import averaged
from tests.deeplab_tf.training.test_averaging import solver, weights
from tests.tiny import tiny_network

def run(strategy, loss_scaling):
    with strategy.scope():
        model = tiny_network(hidden_units=4)
        optimizer = solver("sgd", 0.75, loss_scaling)
        optimizer.build(model.trainable_variables)

    @tf.function
    def step(seed):
        def replica_step():
            share = optimizer.scale_loss(1.0) / strategy.num_replicas_in_sync
            optimizer.apply([
                share * tf.random.stateless_normal(v.shape, [seed, i]) for i, v in enumerate(model.trainable_variables)
            ], model.trainable_variables)
        strategy.run(replica_step)

    for seed in range(4):
        step(tf.constant(seed))
    with averaged(model, optimizer):
        average = weights(model)
    return average, weights(model)

for loss_scaling in (False, True):
    one = run(tf.distribute.OneDeviceStrategy("CPU:0"), loss_scaling)
    two = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), loss_scaling)
    for ours, expected in zip(two, one):
        for a, b in zip(ours, expected):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert not np.allclose(one[0][0], one[1][0])
"""


def test_two_replicas_keep_the_average_of_one():
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
