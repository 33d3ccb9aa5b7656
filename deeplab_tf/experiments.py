"""The experiments: the paper's networks with their solvers, by name; a variant is a delta on the default."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable

from deeplab_tf.config import Config, ModelConfig, OptimizerConfig, TrainConfig, did_you_mean
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError


def _experiments() -> dict[str, Config]:
    step = OptimizerConfig(policy="step")
    experiments = {}

    # VGG-16, Table 1, 2 and 3. LargeFOV and the Table 1 rows: the first release's solver.
    def vgg(name: str, model: ModelConfig, train: TrainConfig, optimizer: OptimizerConfig) -> None:
        experiments[f"vgg16_{name}"] = Config(
            f"vgg16_{name}",
            model,
            train,
            optimizer,
            CrfParams(w1=4, sigma_alpha=121, sigma_beta=5, w2=3, sigma_gamma=3),
        )

    table1 = TrainConfig(iterations=6000, batch_size=20)
    vgg("7x7_r4", ModelConfig(rates=(4,), kernel_size=7, hidden_units=4096), table1, step)
    vgg("4x4_r4", ModelConfig(rates=(4,), kernel_size=4, hidden_units=4096), table1, step)
    vgg("4x4_r8", ModelConfig(rates=(8,), kernel_size=4, hidden_units=4096), table1, step)
    vgg("large_fov", ModelConfig(rates=(12,), pool5a=True), TrainConfig(iterations=6000, batch_size=30), step)
    vgg("aspp_s", ModelConfig(rates=(2, 4, 8, 12)), TrainConfig(), OptimizerConfig())
    vgg("aspp_l", ModelConfig(rates=(6, 12, 18, 24)), TrainConfig(), OptimizerConfig())

    # ResNet, Table 4.
    resnet_train = TrainConfig(batch_size=1, iter_size=10, augment_scales=(0.5, 0.75, 1.0, 1.25, 1.5))
    heads = {"": ((1,), 1), "_large_fov": ((12,), 3), "_aspp": ((6, 12, 18, 24), 3)}
    for backbone in ("resnet101", "resnet50"):
        for head, (rates, kernel_size) in heads.items():
            for msc, scales in (("", (1.0,)), ("_msc", (1.0, 0.75, 0.5))):
                name = f"{backbone}{head}{msc}"
                model = ModelConfig(backbone, rates, kernel_size, hidden_units=0, scales=scales)
                experiments[name] = Config(name, model, resnet_train, OptimizerConfig(base_lr=2.5e-4), CrfParams())

    # Small backbones, not in the paper.
    for size in range(3):
        name = f"efficientnet_lite{size}_aspp"
        experiments[name] = Config(
            name,
            ModelConfig(f"efficientnet_lite{size}", (3, 6, 9, 12), hidden_units=0, output_stride=16),
            TrainConfig(
                iterations=1400,
                batch_size=8,
                crop_size=257,
                augment_scales=(0.5, 0.75, 1.0, 1.25),
                frozen_layers=("stem", "block0", "block1", "block2"),
            ),
            OptimizerConfig(name="adam", base_lr=2e-4, warmup=100, classifier_lr_mult=2.0),
            CrfParams(),
        )
    return experiments


EXPERIMENTS: dict[str, Config] = _experiments()


def experiment_config(name: str | None) -> Config:
    """Looks an experiment up by name.

    Raises:
        UserError: no or an unknown name.
    """
    if not name:
        raise UserError(f"--experiment is missing: choose one of {', '.join(EXPERIMENTS)}.")
    if name not in EXPERIMENTS:
        raise UserError(
            f"there is no experiment {name!r}{did_you_mean(name, EXPERIMENTS)}: choose one of {', '.join(EXPERIMENTS)}."
        )
    return EXPERIMENTS[name]


def list_experiments(pattern: str = "*") -> list[str]:
    """Lists the names of the experiments: networks with their solvers.

    Args:
        pattern: only those that match, such as "resnet101*".
    """
    return fnmatch.filter(EXPERIMENTS, pattern)


def _small_data(config: Config) -> Config:
    """For some hundred to some thousand images: more variety, and a steadier network at the end.

    The images are scaled by any factor between 0.5 and 1.5, their colours vary, half of the crops are laid over an
    object, all layers train, and the average of the weights is what counts.
    """
    train = dataclasses.replace(
        config.train,
        augment_scales=(),
        scale_range=(0.5, 1.5),
        foreground_crops=0.5,
        colour_jitter=(0.1, 0.3, 0.3, 0.05),
        frozen_layers=(),
        ema_decay=0.998,
    )
    return dataclasses.replace(config, train=train)


def _fine_tune(config: Config) -> Config:
    """To go on from a trained network (--init=WORKDIR): a quarter of the rate and of the updates, with a warm-up.

    All layers train, and the average of the weights is what counts.
    """
    iterations = max(1, config.train.iterations // 4)
    return dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, iterations=iterations, frozen_layers=(), ema_decay=0.998),
        optimizer=dataclasses.replace(
            config.optimizer, base_lr=config.optimizer.base_lr / 4, warmup=min(100, iterations)
        ),
    )


RECIPES: dict[str, Callable[[Config], Config]] = {"small_data": _small_data, "fine_tune": _fine_tune}
"""Changes of an experiment's training by name. They leave the network alone; `--set` comes after them."""


def apply_recipe(config: Config, name: str) -> Config:
    """Changes an experiment's training as a recipe says.

    Args:
        config: the experiment.
        name: of the recipe; empty for none.

    Returns:
        The experiment with another training.

    Raises:
        UserError: no such recipe.
    """
    if not name:
        return config
    if name not in RECIPES:
        raise UserError(
            f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}: choose one of {', '.join(RECIPES)}."
        )
    return RECIPES[name](config)
