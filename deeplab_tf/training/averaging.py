"""The average of the weights over the updates, which evaluates better than the last of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


def averages(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns (average, weight) for each trained weight; empty where the solver keeps no averages.

    The solver keeps them among its own variables: after the first update average = weight, then
    average = decay * average + (1 - decay) * weight, with the decay of `optimizer.average_decay`.

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
