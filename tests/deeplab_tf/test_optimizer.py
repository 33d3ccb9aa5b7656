import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.optimizer import build_optimizer, build_schedule, layer_multipliers

SOLVER = {"momentum": 0.9, "weight_decay": 0.01, "classifier_lr_mult": 10.0}


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
