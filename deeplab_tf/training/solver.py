"""The solver of an experiment for a network, and all that `DeepLab.fit` needs to train as train.py does."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from deeplab_tf.config import Config, override
from deeplab_tf.evaluation.mean_iou import MeanIoU
from deeplab_tf.experiments import experiment_config
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.training.layer_groups import check_fresh_layers, freeze
from deeplab_tf.training.losses import SegmentationLoss
from deeplab_tf.training.optimizer import build_optimizer, build_schedule, lr_multipliers


def compile_model(
    model: DeepLab, experiment: str | Config, settings: Sequence[str] = (), ignore_label: int = 255
) -> Config:
    """Compiles a network for `fit` with the solver, the losses and the frozen layers of an experiment.

    Args:
        model: the network.
        experiment: its name, or a configuration.
        settings: changes of it, as of `--set`: "train.iterations=1000", "optimizer.base_lr=1e-4".
        ignore_label: of pixels that do not count.

    Returns:
        The configuration: the learning rate ends after its `train.iterations`.

    Raises:
        UserError: no such experiment or setting, or one that does not fit the network.
    """
    config = override(experiment_config(experiment) if isinstance(experiment, str) else experiment, settings)
    check_fresh_layers(model, config.optimizer.fresh_layers, config.train.frozen_layers)
    freeze(model, config.train.frozen_layers)
    optimizer = build_solver(config, model)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss=SegmentationLoss(ignore_label, config.train.class_weights),
        metrics=[MeanIoU(model.output_shape[-1], ignore_label)],
    )
    return config


def build_solver(config: Config, model: DeepLab) -> keras.optimizers.Optimizer:
    """Builds the solver that a configuration describes, for a network.

    Args:
        config: the settings of the solver and the number of updates.
        model: the network, whose layers get their multipliers.
    """
    solver = config.optimizer
    groups = model.variable_groups()
    layers = {variable.path.split("/")[-2]: group for group, variables in groups.items() for variable in variables}
    schedule = build_schedule(
        solver.policy,
        solver.base_lr,
        config.train.iterations,
        solver.power,
        solver.step_size,
        solver.gamma,
        solver.warmup,
    )
    return build_optimizer(
        solver.name,
        schedule,
        of_layers=lr_multipliers(
            layers, model.head.classifier, solver.classifier_lr_mult, solver.fresh_layers, solver.fresh_lr_mult
        ),
        momentum=solver.momentum,
        weight_decay=solver.weight_decay,
        beta_2=solver.beta_2,
        ema_decay=config.train.ema_decay,
        loss_scaling=config.train.precision == "float16",
    )
