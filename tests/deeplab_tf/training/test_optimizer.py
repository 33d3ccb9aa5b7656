import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.optimizer import (
    CaffeSGD,
    Multipliers,
    build_optimizer,
    build_schedule,
    lr_multipliers,
    variable_multipliers,
)

LAYERS = {"conv1_1": "conv1", "conv5_2": "conv5", "res4b3_branch2a": "res4b3", "res4b7_branch2b": "res4b7"}
LAYERS |= {"fc6": "fc6", "fc6_3": "fc6", "fc7": "fc7", "fc7_3": "fc7", "fc8": "fc8", "fc8_1": "fc8", "fc8_2": "fc8"}
SOLVER = {"momentum": 0.9, "weight_decay": 0.01, "of_layers": lr_multipliers(LAYERS, "fc8", 10.0)}


def layer_multipliers(layer, variable, classifier_lr_mult, fresh_layers=(), fresh_lr_mult=1.0):
    classifier = "fc1" if layer.startswith("fc1") else "fc8"
    layers = LAYERS | {"fc1_4": "fc1"}
    of_layers = lr_multipliers(layers, classifier, classifier_lr_mult, fresh_layers, fresh_lr_mult)
    return variable_multipliers(f"deeplab/head/{layer}/{variable}", of_layers)


def variable(layer, name, value):
    with keras.name_scope("deeplab"), keras.name_scope(layer):
        return keras.Variable(np.float32(value), name=name)


@pytest.fixture
def variables():
    return [
        variable("conv1_1", "kernel", [1.0, -2.0]),
        variable("conv1_1", "bias", [0.5]),
        variable("fc8", "kernel", [3.0]),
        variable("fc8", "bias", [-1.0]),
    ]


FACTORS = [(1, 1), (2, 0), (10, 1), (20, 0)]


def test_sgd_takes_the_steps_of_caffe(variables):
    optimizer = build_optimizer("sgd", build_schedule("poly", 0.1, 10, 0.9, 1, 0.1), **SOLVER)
    weights = [np.array(v) for v in variables]
    velocities = [np.zeros_like(w) for w in weights]
    rng = np.random.default_rng(0)
    for step in range(3):
        gradients = [rng.normal(size=w.shape).astype(np.float32) for w in weights]
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        lr = 0.1 * (1 - step / 10) ** 0.9
        for i, (lr_mult, decay_mult) in enumerate(FACTORS):
            rate = lr * lr_mult
            velocities[i] = 0.9 * velocities[i] + rate * (gradients[i] + 0.01 * decay_mult * weights[i])
            weights[i] = weights[i] - velocities[i]
    for v, expected in zip(variables, weights, strict=True):
        np.testing.assert_allclose(v, expected, rtol=1e-5)


def test_float16_gradients_are_unscaled_before_the_decay_is_added(variables):
    schedule = build_schedule("step", 0.1, 10, 0.9, 100, 0.1)
    plain, scaled = (build_optimizer("sgd", schedule, loss_scaling=s, **SOLVER) for s in (False, True))
    copies = [variable(v.path.split("/")[-2], v.path.split("/")[-1], np.array(v)) for v in variables]
    scaled.build(copies)
    gradients = [tf.ones(v.shape) for v in variables]
    factor = float(scaled.scale_loss(1.0))
    assert factor > 1
    plain.apply(gradients, variables)
    scaled.apply([g * factor for g in gradients], copies)
    for v, copy in zip(variables, copies, strict=True):
        np.testing.assert_allclose(copy, v, rtol=1e-6)


def test_adam_multiplies_its_step_and_decays_apart_from_the_gradient(variables):
    optimizer = build_optimizer("adam", build_schedule("step", 0.01, 10, 0.9, 100, 0.1), **SOLVER)
    before = [np.array(v) for v in variables]
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    # The first step of Adam is lr * sign(gradient), up to its epsilon.
    for v, old, (lr_mult, decay_mult) in zip(variables, before, FACTORS, strict=True):
        rate = 0.01 * lr_mult
        np.testing.assert_allclose(v, old - rate * 0.01 * decay_mult * old - rate, rtol=1e-4, atol=1e-6)


def test_fresh_layers_have_a_factor_of_their_own():
    fresh = layer_multipliers("conv5_2", "kernel", 10, ("conv5", "fc6"), 5)
    assert (fresh.lr, fresh.decay) == (5, 1)
    assert layer_multipliers("fc6_3", "bias", 10, ("conv5", "fc6"), 5).lr == 10
    assert layer_multipliers("fc7", "kernel", 10, ("conv5", "fc6"), 5).lr == 1
    assert layer_multipliers("res4b3_branch2a", "kernel", 10).lr == 1


@pytest.mark.parametrize(("layer", "name"), [("decoder", "kernel"), ("conv1_1", "scale")])
def test_a_variable_without_a_rule_is_named(layer, name):
    with pytest.raises(ValueError, match=f"{layer}/{name}"):
        layer_multipliers(layer, name, 10)


def test_poly_and_step_follow_their_formulas():
    poly = build_schedule("poly", 2.5e-4, 20000, 0.9, 1, 0.1)
    step = build_schedule("step", 1e-3, 6000, 0.9, 2000, 0.1)
    for at in (0, 1, 9999, 19999):
        # 1 - step/iterations is rounded in float32: off by 6e-8 of the base rate, not of the little that is left.
        assert float(poly(at)) == pytest.approx(2.5e-4 * (1 - at / 20000) ** 0.9, rel=1e-6, abs=2.5e-4 * 1e-6)
    assert [float(step(at)) for at in (0, 1999, 2000, 5999)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])


def test_two_steps_of_sgd_written_out():
    # v1 = 0.1*(1 + 0.5*2) = 0.2, w1 = 1.8; v2 = 0.9*0.2 + 0.1*(1 + 0.5*1.8) = 0.37, w2 = 1.43
    w = variable("layer", "kernel", 2.0)
    optimizer = CaffeSGD({"layer": 1.0}, 0.5, learning_rate=0.1, momentum=0.9)
    optimizer.build([w])
    for expected in (1.8, 1.43):
        optimizer.apply([tf.constant(1.0)], [w])
        assert float(w.value) == pytest.approx(expected)


def test_the_learning_rate_is_inside_the_velocity():
    # Where it falls, what is already in motion keeps its speed: Caffe's rule, not the textbook's.
    w = variable("layer", "kernel", 0.0)
    optimizer = CaffeSGD(
        {"layer": 1.0},
        0.0,
        learning_rate=build_schedule("step", 1.0, 10, 0.9, 1, 0.1),
        momentum=0.5,
    )
    optimizer.build([w])
    optimizer.apply([tf.constant(1.0)], [w])  # v = 1
    optimizer.apply([tf.constant(1.0)], [w])  # v = 0.5*1 + 0.1*1
    assert float(w.value) == pytest.approx(-1.6)


def test_three_steps_of_adam_with_a_decoupled_decay(variables):
    optimizer = build_optimizer("adam", build_schedule("step", 0.01, 10, 0.9, 100, 0.1), **SOLVER)
    weights = [np.array(v, np.float64) for v in variables]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    rng = np.random.default_rng(0)
    for step in range(1, 4):
        gradients = [rng.normal(size=w.shape).astype(np.float32) for w in weights]
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        for i, (lr_mult, decay_mult) in enumerate(FACTORS):
            rate = 0.01 * lr_mult
            first[i] = 0.9 * first[i] + 0.1 * gradients[i]
            second[i] = 0.999 * second[i] + 0.001 * gradients[i] ** 2
            m, v = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
            weights[i] = weights[i] * (1 - rate * 0.01 * decay_mult) - rate * m / (np.sqrt(v) + 1e-7)
    for v, expected in zip(variables, weights, strict=True):
        # Keras adds its epsilon before the bias correction: up to 1e-5 of each step of at most 0.2.
        np.testing.assert_allclose(v, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("layer", "kernel"),
    [("conv1_1", 1), ("res4b7_branch2b", 1), ("fc6", 1), ("fc7_3", 1), ("fc8", 10), ("fc8_2", 10), ("fc1_4", 10)],
)
def test_the_released_multipliers_are_1_2_and_10_20_and_biases_do_not_decay(layer, kernel):
    assert layer_multipliers(layer, "kernel", 10) == Multipliers(kernel, 1)
    assert layer_multipliers(layer, "bias", 10) == Multipliers(2 * kernel, 0)


def test_the_classifier_keeps_its_own_factor_among_fresh_layers():
    assert layer_multipliers("fc8_1", "kernel", 10, ("fc6", "fc8"), 5).lr == 10


def test_the_built_solver_gives_fresh_layers_their_factor():
    fresh = [variable("fc6", "kernel", [1.0]), variable("fc6", "bias", [1.0]), variable("fc7", "kernel", [1.0])]
    schedule = build_schedule("step", 0.01, 10, 0.9, 100, 0.1)
    solver = SOLVER | {"of_layers": lr_multipliers(LAYERS, "fc8", 10.0, ("fc6",), 3.0)}
    build_optimizer("sgd", schedule, **solver).apply([tf.ones(1)] * 3, fresh)
    # gradient 1 plus 0.01*1 of decay for kernels
    np.testing.assert_allclose([1 - float(v.value[0]) for v in fresh], [0.0303, 0.06, 0.0101], rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_solver_is_not_built_around_a_variable_without_a_rule(name):
    optimizer = build_optimizer(name, build_schedule("step", 0.1, 10, 0.9, 100, 0.1), **SOLVER)
    with pytest.raises(ValueError, match="attention/kernel"):
        optimizer.build([variable("conv1_1", "kernel", [1.0]), variable("attention", "kernel", [1.0])])


def test_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_halved(variables):
    optimizer = build_optimizer("sgd", build_schedule("step", 0.1, 10, 0.9, 100, 0.1), loss_scaling=True, **SOLVER)
    optimizer.build(variables)
    before, factor = [np.array(v) for v in variables], float(optimizer.scale_loss(1.0))
    gradients = [tf.ones(v.shape) for v in variables]
    gradients[1] = tf.fill(gradients[1].shape, np.inf)
    optimizer.apply(gradients, variables)
    for v, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(v, old)
    assert float(optimizer.scale_loss(1.0)) == factor / 2


def test_the_learning_rate_ends_at_zero_and_drops_exactly_at_the_step_size():
    assert float(build_schedule("poly", 1e-3, 100, 0.9, 1, 0.1)(100)) == 0
    step = build_schedule("step", 1e-3, 6000, 0.9, 2000, 0.1)
    assert [float(step(at)) for at in (2000, 3999, 4000)] == pytest.approx([1e-4, 1e-4, 1e-5])


def test_unknown_policies_and_solvers_are_refused():
    with pytest.raises(ValueError, match="poly or step, got 'cosine'"):
        build_schedule("cosine", 1e-3, 10, 0.9, 1, 0.1)
    with pytest.raises(ValueError, match="sgd or adam, got 'lamb'"):
        build_optimizer("lamb", build_schedule("poly", 0.1, 10, 0.9, 1, 0.1), **SOLVER)


def test_warmup_rises_linearly_to_the_policy():
    plain, warm = (build_schedule("poly", 1.0, 100, 0.9, 1, 0.1, warmup) for warmup in (0, 4))
    factors = [float(warm(step)) / float(plain(step)) for step in range(6)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_solver_survives_its_configuration(name, variables):
    optimizer = build_optimizer(name, build_schedule("poly", 0.01, 10, 0.9, 1, 0.1), **SOLVER)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    copies = [variable(*v.path.split("/")[-2:], np.array(v)) for v in variables]
    for solver, trained in ((optimizer, variables), (copy, copies)):
        for _ in range(2):
            solver.apply([tf.ones(v.shape) for v in trained], trained)
    for v, other in zip(variables, copies, strict=True):
        np.testing.assert_array_equal(v, other)
