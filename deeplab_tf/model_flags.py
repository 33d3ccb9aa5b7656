"""The flags by which eval.py, predict.py and export.py name a trained network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from deeplab_tf.crf.backends import BACKENDS
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import refuse_idle

if TYPE_CHECKING:
    from deeplab_tf.config import Config
    from deeplab_tf.export.load import Loaded
    from deeplab_tf.networks.deeplab import DeepLab

# What `define` defines counts as the calling command's own, and so stands in its --help.
flags.disclaim_key_flags()

# The fields of InferenceConfig, each with a flag of its name.
_INFERENCE = ("flip", "tile", "tile_overlap", "pad_to", "align_corners", "winograd")


def define_crf_backend() -> None:
    """Defines the flag that says what computes the dense CRF."""
    flags.DEFINE_enum(
        "crf_backend",
        "auto",
        BACKENDS,
        "Implementation of the CRF. auto: tf on a GPU, otherwise compiled. pydensecrf needs requirements-crf.txt.",
    )


def define(workdir: bool = True, weights: bool = True) -> None:
    """Defines the flags; `workdir` for commands that have no other flag for it, `weights` for `load`."""
    if workdir:
        flags.DEFINE_string("workdir", "", "The --workdir of train.py.")
    flags.DEFINE_bool(
        "best", False, "With a workdir: use the weights with the best validation score instead of the last ones."
    )
    if weights:
        flags.DEFINE_string("weights", "", "Instead of a workdir: a weights file for --experiment (docs/model_zoo.md).")
        flags.DEFINE_string("experiment", "", "With --weights: the experiment that the file belongs to.")
        flags.DEFINE_string(
            "dataset", "", "With --weights: the data set whose classes the file was trained for, such as voc12."
        )
    flags.DEFINE_multi_string("set", [], "section.field=value: change a setting. Example: --set=crf.w1=5")
    # Not given means: as the configuration says.
    flags.DEFINE_list(
        "scales",
        None,
        "Scales of the input, fused by their maximum. Default: those of the training. Example: 0.5,0.75,1.0",
    )
    flags.DEFINE_bool("flip", None, "Average with the result for the mirrored image, at twice the cost.")
    flags.DEFINE_integer(
        "tile",
        None,
        "Cut large images into overlapping tiles of this many pixels a side; 0 for no tiles. Example: 513",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "tile_overlap", None, "Least number of pixels that neighbouring tiles share (default: 128).", lower_bound=0
    )
    flags.DEFINE_integer(
        "pad_to",
        None,
        "Pad smaller images to this many pixels a side. The released code uses 513.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "align_corners",
        None,
        "Resize with aligned corners (the default). Use --noalign_corners for PyTorch's networks.",
    )
    flags.DEFINE_bool(
        "winograd",
        None,
        "In float32 on CPUs: compute wide 3x3 convolutions with half of the multiplications (the default). "
        "An export with --nowinograd is smaller, and slower on CPUs.",
    )


def inference_changed() -> list[str]:
    """Returns the flags that were given of those that change how the network is run, such as ["--flip"]."""
    return [f"--{name}" for name in ("scales", *_INFERENCE) if flags.FLAGS[name].value is not None]


def refuse_settings(reasons: Mapping[str, str], but: Sequence[str] = ()) -> None:
    """Refuses --set where it would change nothing.

    Args:
        reasons: for each section that has no effect now, why.
        but: settings of these sections that have one.

    Raises:
        UserError: one of these settings was given.
    """
    for assignment in flags.FLAGS["set"].value or []:
        name = assignment.partition("=")[0].strip()
        section = name.partition(".")[0]
        if section in reasons and name not in but:
            raise UserError(f"--set={assignment:.200} has no effect: {reasons[section]}. Leave it out.")


def configure(config: Config) -> Config:
    """Applies --set and the flags that change how the network is run.

    Raises:
        UserError: a setting that does not exist or has no effect, or a value that does not fit.
    """
    from deeplab_tf import config as configs

    values = flags.FLAGS
    trained = "it says how a network is trained, and this one has been"
    refuse_settings({"train": trained, "optimizer": trained}, but=("train.precision",))
    config = configs.override(config, values["set"].value or [])
    if values.scales:
        try:
            scales = tuple(float(text) for text in values.scales)
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, scales=scales))
        except ValueError as error:
            raise UserError(f"--scales takes numbers such as 0.5,0.75,1.0: {error}") from error
    given: dict[str, Any] = {name: values[name].value for name in _INFERENCE if values[name].value is not None}
    try:
        return dataclasses.replace(config, inference=dataclasses.replace(config.inference, **given))
    except ValueError as error:
        raise UserError(str(error)) from error


def load(workdir: str, info_of: Callable[[str], DatasetInfo], precision: str | None = None) -> tuple[DeepLab, Config]:
    """Loads the network that the flags name.

    Args:
        workdir: of train.py, or the name of a network that comes with the installation; "" where --weights stands
            for it.
        info_of: from a --dataset name to its classes.
        precision: what the network computes in; None for what it was trained in.

    Returns:
        The model and its configuration, with the flags applied and its data set known.

    Raises:
        UserError: flags that do not go together, or anything wrong with the files.
    """
    from deeplab_tf import shipped, weights
    from deeplab_tf import workdir as workdirs
    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.networks import trained_config

    values = flags.FLAGS
    if bool(workdir) == bool(values.weights):
        raise UserError("give a workdir of train.py, or --weights=FILE --experiment=NAME --dataset=NAME instead.")
    if workdir:
        workdir = shipped.folder_or_path(workdir)
        known = f"{workdir} says itself what it holds"
        refuse_idle({"experiment": known, "dataset": known})
        config = workdirs.read_config(workdir)
    else:
        refuse_idle({"best": "--weights names one file, and a workdir has the weights of its best validation"})
        if not values.dataset:
            raise UserError(
                "--weights needs --dataset=NAME too: whose classes does the file know? Example: --dataset=voc12"
            )
        config = dataclasses.replace(experiment_config(values.experiment), dataset=info_of(values.dataset))
    trained = config.model
    config = configure(config)
    if workdir:
        return workdirs.load(workdir, config, best=values.best, precision=precision)
    model_config = trained_config.settle(trained, config.model, values.weights, is_certain=False)
    config = dataclasses.replace(config, model=model_config)
    num_classes, precision = config.info.num_classes, precision or config.train.precision

    def fill(model: DeepLab) -> None:
        report = weights.load_weights(model, values.weights)
        print(report)
        if report.missing:
            raise UserError(
                f"{values.weights} does not hold all of {config.experiment} for the {num_classes} classes of "
                f"{values.dataset}: {len(report.missing)} tensors are missing, such as {report.missing[-1]}."
            )

    return trained_config.build_trained(trained, config.model, num_classes, precision, fill), config


def load_segmenter(path: str, info_of: Callable[[str], DatasetInfo] | None = None) -> Loaded:
    """Loads what the flags name, a network or an exported model, for use on images.

    Args:
        path: a workdir of train.py, what export.py wrote, or the name of a network that comes with the installation;
            "" where --weights stands for it.
        info_of: from a --dataset name to its classes; needed for --weights.

    Raises:
        UserError: flags that do not go together or with the model, or anything wrong with the files.
    """
    from deeplab_tf import shipped
    from deeplab_tf.export import load as loader

    path = shipped.folder_or_path(path)
    if path and loader.is_exported(path):
        if inference_changed():
            raise UserError(
                f"{', '.join(inference_changed())}: these settings of an exported model were fixed at export; "
                "give the flags to export.py."
            )
        named = f"{path} is an exported model, which holds its weights and says what it is"
        refuse_idle({name: named for name in ("best", "weights", "experiment", "dataset") if name in flags.FLAGS})
        inside = "these settings of an exported model were fixed at export; give it to export.py"
        refuse_settings({"model": inside, "inference": inside, "train": inside})
        return loader.load_segmenter(path, configure)
    if path:
        loader.check_workdir_path(path)
    if info_of is None:
        return loader.load_segmenter(path, configure, flags.FLAGS.best)
    return loader.segmenter_of_network(*load(path, info_of), path or flags.FLAGS.weights)
