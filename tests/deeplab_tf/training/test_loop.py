"""The step of the solver, on a network small enough to check by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.training import losses
from deeplab_tf.training.layer_groups import check_fresh_layers, freeze
from deeplab_tf.training.optimizer import build_optimizer, build_schedule
from deeplab_tf.training.step import build_train_step
from tests.references import slow_cross_entropy
from tests.tiny import TINY_MULTIPLIERS, tiny_network

ROOT = Path(__file__).resolve().parents[3]


def batch(rows, iter_size, size=33, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (rows, iter_size, size, size)).astype(np.int32)
    labels[:, :, :9] = 255
    labels[0, 0, :17] = 255  # micro-batches with different numbers of valid pixels
    return {
        "image": tf.constant(rng.uniform(0, 255, (rows, iter_size, size, size, 3)), tf.float32),
        "labels": tf.constant(labels),
        "seeds": tf.constant(rng.integers(0, 1 << 30, (rows, iter_size, 2)), tf.int32),
    }


def solver(name="sgd"):
    schedule = build_schedule("poly", 1e-2, 100, 0.9, 1, 0.1)
    return build_optimizer(name, schedule, momentum=0.9, weight_decay=5e-4, of_layers=TINY_MULTIPLIERS)


def mean_loss(logits, labels, stride):
    cells = losses.subsample_labels(labels, stride)
    return losses.cross_entropy_sum(logits, cells, 255) / losses.count_valid(cells, 255)


def test_the_loss_is_the_mean_over_valid_pixels_and_iter_size_averages_gradients():
    model, twin = tiny_network(hidden_units=4), tiny_network(hidden_units=4)
    data = batch(2, 3)
    step, names = build_train_step(model, solver(), tf.distribute.get_strategy(), 255)
    terms = step(data)
    assert names == ["scale_1"]

    values, gradients = [], []
    for i in range(3):
        with tf.GradientTape() as tape:
            scores = twin(data["image"][:, i], dropout_seeds=data["seeds"][:, i])
            loss = mean_loss(scores, data["labels"][:, i], 8)
        values.append(float(loss))
        gradients.append(tape.gradient(loss, twin.trainable_variables))
    solver().apply([sum(g) / 3 for g in zip(*gradients, strict=True)], twin.trainable_variables)
    np.testing.assert_allclose(terms, [np.mean(values)], rtol=1e-5)
    for ours, expected in zip(model.trainable_variables, twin.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_a_class_of_weight_zero_trains_like_ignored_pixels():
    data = batch(2, 1)
    without = {**data, "labels": tf.where(data["labels"] == 1, 255, data["labels"])}
    results = []
    for seen, weights in ((data, (7.0, 0.0, 7.0)), (without, ())):
        model = tiny_network()
        step, _ = build_train_step(model, solver(), tf.distribute.get_strategy(), 255, weights)
        results.append([step(seen), *model.trainable_variables])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_a_multi_scale_network_has_four_losses():
    model, twin = tiny_network(scales=(1.0, 0.75, 0.5)), tiny_network(scales=(1.0, 0.75, 0.5))
    data = batch(2, 1)
    step, names = build_train_step(model, solver(), tf.distribute.get_strategy(), 255)
    assert names == ["scale_1", "scale_0.75", "scale_0.5", "fused"]
    images, labels = data["image"][:, 0], data["labels"][:, 0]
    maps = twin.score_maps(images, data["seeds"][:, 0])
    fused, resized = twin.fuse(maps, images)
    expected = [
        mean_loss(maps[0], labels, 8),
        mean_loss(resized[1], labels, 8),
        mean_loss(maps[2], labels, 16),
        mean_loss(fused, labels, 8),
    ]
    np.testing.assert_allclose(step(data), expected, rtol=1e-5)


def test_a_batch_of_ignored_pixels_has_loss_zero_and_changes_nothing_but_the_decay():
    model = tiny_network()
    data = batch(1, 1)
    data["labels"] = tf.fill(data["labels"].shape, 255)
    before = [np.array(v) for v in model.trainable_variables]
    step, _ = build_train_step(model, solver(), tf.distribute.get_strategy(), 255)
    np.testing.assert_array_equal(step(data), [0.0])
    for v, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(v, old, rtol=1e-3, atol=1e-7)


def test_frozen_groups_keep_their_weights():
    model = tiny_network()
    freeze(model, ["conv1"])
    assert all("conv1" not in variable.path for variable in model.trainable_variables)
    assert model.trainable_variables
    with pytest.raises(UserError, match="conv9"):
        freeze(model, ["conv9"])


def test_groups_of_layers_that_are_misspelt_or_have_no_effect_are_refused_and_the_known_ones_named():
    model = tiny_network(hidden_units=4)
    check_fresh_layers(model, ["conv1", "fc6"])
    for setting, check in (("train.frozen_layers", freeze), ("optimizer.fresh_layers", check_fresh_layers)):
        says = rf"{setting}: .* 'conv_1' among conv1, fc6, fc7, fc8 \(did you mean conv1\?\)"
        with pytest.raises(UserError, match=says):
            check(model, ["conv_1"])
    with pytest.raises(UserError, match=r"fc8, the classifier, is multiplied by optimizer\.classifier_lr_mult"):
        check_fresh_layers(model, ["fc8"])
    with pytest.raises(UserError, match=r"conv1 is not trained, because train\.frozen_layers names it too"):
        check_fresh_layers(model, ["fc6", "conv1"], frozen=["conv1"])


def test_a_network_of_which_every_group_is_frozen_is_refused():
    with pytest.raises(UserError, match=r"nothing would be trained\. Leave out .* conv1, fc1"):
        freeze(tiny_network(), ["conv1", "fc1"])


TWO_REPLICAS = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from deeplab_tf.training.step import build_train_step
from tests.deeplab_tf.training.test_loop import batch, solver
from tests.tiny import TINY_MULTIPLIERS, tiny_network

def run(strategy, name):
    with strategy.scope():
        model = tiny_network(scales=(1.0, 0.5), hidden_units=4)
        optimizer = solver(name)
        optimizer.build(model.trainable_variables)
    step, _ = build_train_step(model, optimizer, strategy, 255)
    rows = 4 // strategy.num_replicas_in_sync
    for number in range(5):
        whole = batch(4, 2, seed=number)
        def part(context):
            at = context.replica_id_in_sync_group * rows
            return {name: value[at : at + rows] for name, value in whole.items()}
        terms = step({
            name: strategy.experimental_distribute_values_from_function(
                lambda context, name=name: part(context)[name]) for name in whole})
    return terms, [np.array(v) for v in model.trainable_variables]

for name in ("sgd", "adam"):
    one_terms, one = run(tf.distribute.OneDeviceStrategy("CPU:0"), name)
    two_terms, two = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), name)
    np.testing.assert_allclose(two_terms, one_terms, rtol=1e-4)
    for a, b in zip(one, two):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-6)
"""


def test_two_replicas_give_the_weights_of_one_device():
    # Float additions come in another order; five steps keep the difference below the tolerance in the script.
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_loss_equals_a_loop_over_the_pixels_that_are_not_ignored():
    model = tiny_network()
    data = batch(2, 1)
    images, labels = data["image"][:, 0], data["labels"][:, 0]
    total, count = slow_cross_entropy(model(images).numpy(), labels.numpy()[:, ::8, ::8])
    assert 0 < count < 2 * 5 * 5
    step, _ = build_train_step(model, solver(), tf.distribute.get_strategy(), 255)
    np.testing.assert_allclose(step(data), [total / count], rtol=1e-5)


def test_two_updates_of_two_micro_batches_are_caffes_by_hand():
    model = tiny_network()
    variables = model.trainable_variables
    weights = [np.array(v, np.float64) for v in variables]
    velocities = [np.zeros_like(w) for w in weights]
    factors = [(20.0, 0.0) if v.path.endswith("bias") else (10.0, 1.0) for v in variables]
    factors = [(lr / 10 if "conv1_1" in v.path else lr, d) for v, (lr, d) in zip(variables, factors, strict=True)]
    step, _ = build_train_step(model, solver(), tf.distribute.get_strategy(), 255)
    twin = tiny_network()
    for number in range(2):
        data = batch(2, 2, seed=number)
        for variable, weight in zip(twin.trainable_variables, weights, strict=True):
            variable.assign(weight)
        averaged = [np.zeros_like(w) for w in weights]
        for i in range(2):
            with tf.GradientTape() as tape:
                loss = mean_loss(twin(data["image"][:, i]), data["labels"][:, i], 8)
            for total, gradient in zip(averaged, tape.gradient(loss, twin.trainable_variables), strict=True):
                total += gradient.numpy() / 2
        step(data)
        lr = 1e-2 * (1 - number / 100) ** 0.9
        for i, (lr_mult, decay_mult) in enumerate(factors):
            coupled = averaged[i] + 5e-4 * decay_mult * weights[i]
            velocities[i] = 0.9 * velocities[i] + lr * lr_mult * coupled
            weights[i] = weights[i] - velocities[i]
    for variable, expected in zip(variables, weights, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_xla_computes_the_same_step():
    results = []
    for xla in (False, True):
        model = tiny_network()
        step, _ = build_train_step(model, solver(), tf.distribute.get_strategy(), 255, xla=xla)
        terms = [step(batch(2, 2, seed=number)).numpy() for number in range(2)]
        results.append([*terms, *(variable.numpy() for variable in model.trainable_variables)])
    for compiled, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-6)


OVERFLOW = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from deeplab_tf.training.optimizer import build_optimizer, build_schedule
from deeplab_tf.training.step import build_train_step
from tests.deeplab_tf.training.test_loop import batch
from tests.tiny import TINY_MULTIPLIERS, tiny_network

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = tiny_network(hidden_units=4)
    schedule = build_schedule("poly", 1e-2, 100, 0.9, 1, 0.1)
    optimizer = build_optimizer(
        "sgd", schedule, momentum=0.9, weight_decay=5e-4, of_layers=TINY_MULTIPLIERS, loss_scaling=True)
    optimizer.build(model.trainable_variables)
step, _ = build_train_step(model, optimizer, strategy, 255)
before = [v.numpy() for v in model.trainable_variables]
for bad in (0, 3, None):
    data = {name: value.numpy() for name, value in batch(4, 2).items()}
    if bad is not None:
        data["image"][bad] = np.inf  # one replica's
    step({name: strategy.experimental_distribute_values_from_function(
        lambda context, name=name: tf.constant(data[name][2 * context.replica_id_in_sync_group :][:2]))
        for name in data})
    copies = [[strategy.experimental_local_results(v.value)[replica].numpy() for v in model.trainable_variables]
              for replica in (0, 1)]
    for one, other, old in zip(*copies, before):
        np.testing.assert_array_equal(one, other)
        assert np.array_equal(one, old) == (bad is not None)
assert optimizer.dynamic_scale.numpy() == 2.0**15 / 4 and optimizer.iterations.numpy() == 1
"""


@pytest.mark.slow
def test_an_overflow_on_one_replica_leaves_the_update_out_on_all():
    done = subprocess.run([sys.executable, "-c", OVERFLOW], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
