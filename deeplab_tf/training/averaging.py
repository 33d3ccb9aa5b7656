"""The average of the weights over the updates, which evaluates better than the last of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


def decay_at(update: tf.Tensor, decay: float) -> tf.Tensor:
    """Returns how much of the average an update keeps: average = decay * average + (1 - decay) * weight.

    As `num_updates` of `tf.train.ExponentialMovingAverage`, so that the first weights do not count for long: after t
    updates the average is mostly of the last tenth of them, until the full decay is reached.

    Args:
        update: t, the number of updates before this one, a scalar integer.
        decay: the full one, 0..1.

    Returns:
        float32 []: min(decay, (1 + t) / (10 + t)); 0 at t = 0, where there is no average yet.
    """
    t = tf.cast(update, tf.float32)
    return tf.where(t > 0, tf.minimum(decay, (1 + t) / (10 + t)), 0.0)


def averages(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns (average, weight) for each trained weight; empty where the solver keeps no averages.

    The solver keeps them among its own variables: after the first update average = weight, then
    average = decay * average + (1 - decay) * weight, with the decay of `decay_at`.

    Args:
        model: the network.
        optimizer: built for the model's trainable variables.
    """
    solver = _solver(optimizer)
    if not solver.use_ema:
        return []
    return list(zip(solver._model_variables_moving_average, model.trainable_variables, strict=True))


@contextlib.contextmanager
def averaged(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Gives the model the averages of its weights inside the context, and its weights back at the end.

    Without averages, and before the first update, the model stays as it is.

    Args:
        model: the network.
        optimizer: built for the model's trainable variables.
    """
    pairs = averages(model, optimizer) if _solver(optimizer).iterations.numpy() else []
    weights = [weight.numpy() for _, weight in pairs]
    for average, weight in pairs:
        weight.assign(average)
    try:
        yield
    finally:
        for (_, weight), value in zip(pairs, weights, strict=True):
            weight.assign(value)


def _solver(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Looks behind the loss scaling of float16."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer
