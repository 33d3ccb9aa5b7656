"""The solver (Sec. 4): SGD as in Caffe, with per-layer multipliers; Adam for heads that start from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Multipliers:
    """A variable's factors of the learning rate and of the weight decay."""

    lr: float
    decay: float


def lr_multipliers(
    layers: Mapping[str, str],
    classifier: str,
    classifier_lr_mult: float,
    fresh_layers: Collection[str] = (),
    fresh_lr_mult: float = 1.0,
) -> dict[str, float]:
    """Returns each layer's factor of the learning rate: 1 for all but the classifier and what starts from scratch.

    Args:
        layers: of each layer of the network, such as "conv1_1", the group it belongs to, such as "conv1".
        classifier: the group of the classifier.
        classifier_lr_mult: its factor, 10 in the released networks.
        fresh_layers: groups that start from scratch.
        fresh_lr_mult: their factor. The classifier keeps its own.
    """
    factors = dict.fromkeys(fresh_layers, fresh_lr_mult) | {classifier: classifier_lr_mult}
    return {layer: factors.get(group, 1.0) for layer, group in layers.items()}


def variable_multipliers(path: str, of_layers: Mapping[str, float]) -> Multipliers:
    """Returns a variable's multipliers, the released networks': biases learn twice as fast as kernels, without decay.

    Args:
        path: of the variable, ends "layer/kernel" or "layer/bias".
        of_layers: from `lr_multipliers`.

    Raises:
        ValueError: a trainable variable that no rule covers.
    """
    *_, layer, variable = path.split("/")
    if layer in of_layers and variable == "kernel":
        return Multipliers(of_layers[layer], 1.0)
    if layer in of_layers and variable == "bias":
        return Multipliers(2 * of_layers[layer], 0.0)
    raise ValueError(f"no learning rate rule covers {layer}/{variable}; add one.")


def average_decay(update: tf.Tensor, decay: float) -> tf.Tensor:
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


class _PerVariable:
    """Gives a Keras optimizer multipliers per variable. Mixed in before the optimizer's class.

    Args:
        of_layers: from `lr_multipliers`.
        weight_decay: of kernels.
        **kwargs: of the optimizer.
    """

    # What Keras' class has.
    use_ema: bool
    ema_momentum: float
    iterations: keras.Variable
    _model_variables_moving_average: list[keras.Variable]

    def __init__(self, of_layers: Mapping[str, float], weight_decay: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Not a dict, which Keras would track.
        self._of_layers = tuple(of_layers.items())
        self._decay = weight_decay
        self._multipliers: list[Multipliers] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Looks up every variable's multipliers; an uncovered one is an error here, not a silent default."""
        of_layers = dict(self._of_layers)
        self._multipliers = [variable_multipliers(variable.path, of_layers) for variable in variables]
        super().build(variables)  # type: ignore[misc]

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[keras.Variable]) -> None:
        """Replaces Keras' average, whose decay is the full one from the second update on; see `average_decay`."""
        if self.use_ema:
            decay = average_decay(self.iterations, self.ema_momentum)
            for average, weight in zip(self._model_variables_moving_average, trainable_variables, strict=True):
                average.assign(decay * average + (1 - decay) * weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()  # type: ignore[misc]
        return config | {"of_layers": dict(self._of_layers), "weight_decay": self._decay}


@keras.saving.register_keras_serializable(package="deeplab_tf")
class CaffeSGD(_PerVariable, keras.optimizers.SGD):
    """v = momentum*v + lr*lr_mult*(g + decay*decay_mult*w); w -= v.

    The decay is part of the gradient and the learning rate part of the velocity, as in Caffe.
    """

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        """Updates one variable; gradient float32, of the variable's shape."""
        factors = self._multipliers[self._get_variable_index(variable)]
        gradient = gradient + self._decay * factors.decay * variable
        super().update_step(gradient, variable, learning_rate * factors.lr)


@keras.saving.register_keras_serializable(package="deeplab_tf")
class PerLayerAdam(_PerVariable, keras.optimizers.Adam):
    """Adam with a learning rate of lr*lr_mult; the decay is decoupled: w -= lr*lr_mult*decay*decay_mult*w."""

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        """Updates one variable; gradient float32, of the variable's shape."""
        index = self._get_variable_index(variable)
        learning_rate = learning_rate * self._multipliers[index].lr
        decay = self._decay * self._multipliers[index].decay
        if decay:
            variable.assign_sub(learning_rate * decay * variable)
        steps = tf.cast(self.iterations + 1, tf.float32)
        # The formula of `keras.optimizers.Adam` in one pass over memory; Keras' own ops take more than twice the time.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**steps,
            beta2_power=self.beta_2**steps,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="deeplab_tf")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to another schedule: schedule(step) * min(1, (step + 1) / steps)."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step, counted from 0."""
        return self.schedule(step) * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / self.steps)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        """Makes the schedule that `get_config` describes."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])


def build_schedule(
    policy: str, base_lr: float, iterations: int, power: float, step_size: int, gamma: float, warmup: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the learning rate policy.

    Args:
        policy: "poly", base_lr * (1 - step/iterations)^power, or "step", base_lr * gamma^floor(step/step_size).
        base_lr: at step 0.
        iterations: updates of the whole run (poly).
        power: 0.9 in the paper (poly).
        step_size: updates between two drops (step).
        gamma: factor of a drop (step).
        warmup: steps over which the rate rises linearly to the policy's; 0 for none.

    Raises:
        ValueError: another policy.
    """
    schedules = keras.optimizers.schedules
    if policy == "poly":
        schedule = schedules.PolynomialDecay(base_lr, iterations, end_learning_rate=0.0, power=power)
    elif policy == "step":
        schedule = schedules.ExponentialDecay(base_lr, step_size, decay_rate=gamma, staircase=True)
    else:
        raise ValueError(f"policy must be poly or step, got {policy!r}.")
    return Warmup(schedule, warmup) if warmup else schedule


def build_optimizer(
    name: str,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    *,
    of_layers: Mapping[str, float],
    momentum: float,
    weight_decay: float,
    beta_2: float = 0.999,
    ema_decay: float = 0.0,
    loss_scaling: bool = False,
) -> keras.optimizers.Optimizer:
    """Builds the solver.

    Args:
        name: "sgd" or "adam".
        schedule: of the learning rate.
        of_layers: each layer's factor of the learning rate, from `lr_multipliers`.
        momentum: of sgd.
        weight_decay: of kernels.
        beta_2: of adam, its memory of squared gradients.
        ema_decay: of the average of the weights that the solver keeps beside them (`averaging`); 0 for none.
        loss_scaling: scale the loss dynamically, for float16. Gradients are unscaled before the decay is added.

    Raises:
        ValueError: another name.
    """
    averaging = {"use_ema": ema_decay > 0, "ema_momentum": ema_decay}
    optimizer: keras.optimizers.Optimizer
    if name == "sgd":
        optimizer = CaffeSGD(of_layers, weight_decay, learning_rate=schedule, momentum=momentum, **averaging)
    elif name == "adam":
        optimizer = PerLayerAdam(of_layers, weight_decay, learning_rate=schedule, beta_2=beta_2, **averaging)
    else:
        raise ValueError(f"the optimizer must be sgd or adam, got {name!r}.")
    return keras.optimizers.LossScaleOptimizer(optimizer) if loss_scaling else optimizer
