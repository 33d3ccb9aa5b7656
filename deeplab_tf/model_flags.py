"""The flags by which eval.py, predict.py and export.py name a trained network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError

if TYPE_CHECKING:
    from deeplab_tf.config import Config
    from deeplab_tf.model import DeepLab

# What `define` defines counts as the calling command's own, and so stands in its --help.
flags.disclaim_key_flags()


def define(workdir: bool = True) -> None:
    """Defines the flags; `workdir` for commands that have no other flag for it."""
    if workdir:
        flags.DEFINE_string("workdir", "", "The --workdir of train.py.")
    flags.DEFINE_string("weights", "", "Instead of a workdir: a weights file for --experiment (docs/model_zoo.md).")
    flags.DEFINE_string("experiment", "", "With --weights: the experiment that the file belongs to.")
    flags.DEFINE_string(
        "dataset", "", "With --weights: the data set whose classes the file was trained for, such as voc12."
    )
    flags.DEFINE_multi_string("set", [], "section.field=value, changing the configuration. Example: --set=crf.w1=5")


def load(
    workdir: str, info_of: Callable[[str], DatasetInfo], scales: tuple[float, ...] | None = None
) -> tuple[DeepLab, Config]:
    """Loads the network that the flags name.

    Args:
        workdir: of train.py, or "" where --weights stands for it.
        info_of: from a --dataset name to its classes.
        scales: of the input instead of the configured ones.

    Returns:
        The model and its configuration, with --set applied and its data set known.

    Raises:
        UserError: flags that do not go together, or anything wrong with the files.
    """
    from deeplab_tf import config as configs
    from deeplab_tf import weights
    from deeplab_tf import workdir as workdirs
    from deeplab_tf.model import build_network

    values = flags.FLAGS
    if bool(workdir) == bool(values.weights):
        raise UserError("name a workdir of train.py, or --weights=FILE --experiment=NAME --dataset=NAME instead of it.")
    if workdir:
        config = workdirs.read_config(workdir)
    else:
        if not values.dataset:
            raise UserError(
                "--weights needs --dataset=NAME too: whose classes does the file know? Example: --dataset=voc12"
            )
        config = dataclasses.replace(configs.experiment_config(values.experiment), dataset=info_of(values.dataset))
    config = configs.override(config, values["set"].value or [])
    if scales:
        config = configs.override(config, [f"model.scales={','.join(map(str, scales))}"])
    if workdir:
        return workdirs.load(workdir, config)
    model = build_network(config.model, config.info.num_classes, config.train.precision)
    report = weights.load_weights(model, values.weights)
    print(report)
    if report.missing:
        raise UserError(
            f"{values.weights} does not hold all of {config.experiment} for the {config.info.num_classes} classes of "
            f"{values.dataset}: {len(report.missing)} tensors are missing, such as {report.missing[-1]}."
        )
    return model, config
