"""The settings of a run: network, training, solver, CRF, inference. The data set is what its manifest says."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, require_fields
from deeplab_tf.errors import UserError
from deeplab_tf.networks import BACKBONES

PRECISIONS = ("float32", "bfloat16", "float16")
POLICIES = ("poly", "step")
OPTIMIZERS = ("sgd", "adam")
SECTIONS = ("model", "train", "optimizer", "crf", "inference")
_LARGEST_INT, _LARGEST_FLOAT = 2**31 - 1, 1e30


def _require_one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!s:.60}.")


def _require_at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")


def _require_representable(section: str, values: Any) -> None:
    """Raises ValueError for a number that TensorFlow has no int32 or float32 for; NaN is none of these."""
    for name, value in vars(values).items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not -_LARGEST_INT <= number <= _LARGEST_INT:
                raise ValueError(f"{section}.{name} must be at most {_LARGEST_INT}; got {number}.")
            if isinstance(number, float) and not -_LARGEST_FLOAT <= number <= _LARGEST_FLOAT:
                raise ValueError(f"{section}.{name} must be a finite number; got {number}.")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network.

    Attributes:
        backbone: a name in `deeplab_tf.networks.BACKBONES`, such as vgg16 or resnet101.
        rates: one atrous branch of the head per rate, in score-map cells.
        kernel_size: of those branches.
        hidden_units: of fc6 and fc7; 0 for branches straight to the scores (ResNet, EfficientNet).
        pool5a: the average pool of the released VGG LargeFOV network.
        scales: of the input, fused by maximum.
        output_stride: input pixels per score-map cell: 8, 16 or 32.
        atrous: deinterlace, dilated or auto, see `AtrousConv2D`.
    """

    backbone: str = "vgg16"
    rates: tuple[int, ...] = (12,)
    kernel_size: int = 3
    hidden_units: int = 1024
    pool5a: bool = False
    scales: tuple[float, ...] = (1.0,)
    output_stride: int = 8
    atrous: str = "deinterlace"

    def __post_init__(self) -> None:
        _require_representable("model", self)
        _require_one_of("model.backbone", self.backbone, BACKBONES)
        _require_one_of("model.output_stride", self.output_stride, (8, 16, 32))
        _require_one_of("model.atrous", self.atrous, ("deinterlace", "dilated", "auto"))
        _require_at_least("the number of model.rates", len(self.rates), 1)
        _require_at_least("model.rates", min(self.rates), 1)
        _require_at_least("the number of model.scales", len(self.scales), 1)
        _require_at_least("model.scales", min(self.scales), 0.1)
        _require_at_least("model.kernel_size", self.kernel_size, 1)
        _require_at_least("model.hidden_units", self.hidden_units, 0)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop.

    Attributes:
        iterations: updates of the weights.
        epochs: times through the training images; they say how many iterations that is. 0 for as many iterations as
            are given.
        batch_size: images of one micro-step, over all replicas.
        iter_size: micro-steps whose gradients are averaged into one update.
        crop_size: side of the square crops, in pixels; size_multiple*k + 1.
        augment_scales: an image is scaled by one of these, at random; empty for none.
        scale_range: smallest,largest factor: any between them, in place of augment_scales; empty, as in the paper.
        foreground_crops: share of the crops that are laid over some object, rare classes as often as others; 0, as in
            the paper, lays all of them anywhere.
        colour_jitter: up to four strengths, of brightness, contrast, saturation and hue; empty, as in the paper. Usual
            are 0.1,0.3,0.3,0.05.
        class_weights: a factor of the loss for each class; empty, as in the paper. datasets.check suggests some.
        seed: of the order, the augmentation, the dropout and the fresh weights.
        precision: float32, bfloat16 or float16.
        dropout: rate after fc6 and fc7.
        ema_decay: of the average of the weights, such as 0.998; validation and model.weights.h5 take the average. After
            t updates it is (1 + t) / (10 + t) at most. 0 for none, as in the paper.
        frozen_layers: groups of layers that keep their weights, such as conv1,conv2; saves time and memory.
        save_every: updates between two checkpoints; 0 for a twentieth of all, 500 at most.
        keep_checkpoints: how many of them stay.
        eval_every: updates between two validations, with --eval_split; 0 for a tenth of all, 1000 at most.
        patience: with --eval_split, training stops after so many validations without a better mean IoU; 0 for never.
        summary_every: updates between two TensorBoard entries.
        xla: let XLA compile the network, for GPUs; the first step takes minutes, and dropout draws other units.
        deterministic: repeat bit for bit on the same machine, at some cost in speed.
    """

    iterations: int = 20000
    epochs: float = 0.0
    batch_size: int = 10
    iter_size: int = 1
    crop_size: int = 321
    augment_scales: tuple[float, ...] = ()
    scale_range: tuple[float, ...] = ()
    foreground_crops: float = 0.0
    colour_jitter: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    seed: int = 0
    precision: str = "float32"
    dropout: float = 0.5
    ema_decay: float = 0.0
    frozen_layers: tuple[str, ...] = ()
    save_every: int = 0
    keep_checkpoints: int = 3
    eval_every: int = 0
    patience: int = 0
    summary_every: int = 50
    xla: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        _require_representable("train", self)
        for name in "iterations batch_size iter_size crop_size keep_checkpoints summary_every".split():
            _require_at_least(f"train.{name}", getattr(self, name), 1)
        for name in "epochs save_every eval_every patience seed".split():
            _require_at_least(f"train.{name}", getattr(self, name), 0)
        _require_one_of("train.precision", self.precision, PRECISIONS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"train.dropout must be at least 0 and below 1; got {self.dropout}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay must be at least 0 and below 1; got {self.ema_decay}.")
        if self.augment_scales:
            _require_at_least("train.augment_scales", min(self.augment_scales), 0.1)
        if self.scale_range and not (len(self.scale_range) == 2 and 0.1 <= self.scale_range[0] <= self.scale_range[1]):
            raise ValueError(f"train.scale_range takes smallest,largest, such as 0.5,2; got {self.scale_range}.")
        if not 0 <= self.foreground_crops <= 1:
            raise ValueError(f"train.foreground_crops must be 0 to 1; got {self.foreground_crops}.")
        most = (1, 0.99, 0.99, 0.5)
        jitter = self.colour_jitter
        if len(jitter) > 4 or not all(0 <= value <= limit for value, limit in zip(jitter, most, strict=False)):
            raise ValueError(
                f"train.colour_jitter takes up to four numbers from 0 to {', '.join(map(str, most))} (brightness,"
                f" contrast, saturation, hue), such as 0.1,0.3,0.3,0.05; got {jitter}."
            )
        if self.class_weights and not (min(self.class_weights) >= 0 and sum(self.class_weights) > 0):
            raise ValueError(f"train.class_weights must be at least 0 and not all 0; got {self.class_weights}.")

    def augmentation(self) -> dict[str, Any]:
        """Returns the arguments of `datasets.augmentation.augment`, so that training and pictures of it agree."""
        return {
            "crop_size": self.crop_size,
            "scales": self.augment_scales,
            "scale_range": self.scale_range,
            "foreground_crops": self.foreground_crops,
            "colour_jitter": self.colour_jitter,
        }


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The solver.

    Attributes:
        name: sgd, the paper's, or adam, for heads that start from scratch.
        base_lr: learning rate at the start, before the multipliers.
        policy: poly, base_lr * (1 - step/iterations)^power, or step, base_lr * gamma^floor(step/step_size).
        power: of poly.
        step_size: updates between two drops of step.
        gamma: factor of a drop.
        warmup: updates over which the rate rises linearly to the policy's; 0 for none, as in the paper.
        momentum: of sgd.
        beta_2: of adam; 0.99 forgets the large gradients of a fresh head sooner than the usual 0.999.
        weight_decay: of kernels; biases have none.
        classifier_lr_mult: multiplies the learning rate of the classifier's kernel (its bias: twice that).
        fresh_layers: groups of layers that start from scratch, such as conv5,fc6,fc7 with --init=hed.
        fresh_lr_mult: the same factor for their kernels.
    """

    name: str = "sgd"
    base_lr: float = 1e-3
    policy: str = "poly"
    power: float = 0.9
    step_size: int = 2000
    gamma: float = 0.1
    warmup: int = 0
    momentum: float = 0.9
    beta_2: float = 0.999
    weight_decay: float = 5e-4
    classifier_lr_mult: float = 10.0
    fresh_layers: tuple[str, ...] = ()
    fresh_lr_mult: float = 10.0

    def __post_init__(self) -> None:
        _require_representable("optimizer", self)
        _require_one_of("optimizer.name", self.name, OPTIMIZERS)
        _require_one_of("optimizer.policy", self.policy, POLICIES)
        _require_at_least("optimizer.step_size", self.step_size, 1)
        _require_at_least("optimizer.warmup", self.warmup, 0)
        if not 0 <= self.beta_2 < 1:
            raise ValueError(f"optimizer.beta_2 must be at least 0 and below 1; got {self.beta_2}.")
        for name in ("base_lr", "power", "gamma", "momentum", "weight_decay", "classifier_lr_mult", "fresh_lr_mult"):
            _require_at_least(f"optimizer.{name}", getattr(self, name), 0)


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """How a network is run. Evaluation, prediction and export take it from here, so that they agree.

    The scales of the input are the network's: `ModelConfig.scales`.

    Attributes:
        flip: also look at the mirrored image, and average the two probabilities.
        tile: side of square tiles, in pixels, rounded up to a size that the network takes without rounding; 0 for the
            image as a whole.
        tile_overlap: pixels that neighbouring tiles share, at least.
        pad_to: images are padded to at least this many pixels a side, 513 in the released code; 0 for no more than
            the network's sizes ask for.
        align_corners: how images and scores are resized. False is for networks that were trained so; then nothing is
            padded unless `pad_to` says it.
        winograd: compute wide 3x3 convolutions with half of the multiplications (`winograd.py`) where that is faster:
            in float32 on CPUs. It doubles their kernels, in memory and in exports.
    """

    flip: bool = False
    tile: int = 0
    tile_overlap: int = 128
    pad_to: int = 0
    align_corners: bool = True
    winograd: bool = True

    def __post_init__(self) -> None:
        _require_representable("inference", self)
        for name in ("tile", "tile_overlap", "pad_to"):
            _require_at_least(f"inference.{name}", getattr(self, name), 0)
        if self.tile and self.tile_overlap >= self.tile:
            raise ValueError(f"tiles of {self.tile} pixels cannot share {self.tile_overlap}; lower tile_overlap.")
        if self.tile and not self.align_corners:
            raise ValueError("tiles fit together with aligned corners only; leave tile out, or align_corners=true.")


@dataclasses.dataclass(frozen=True)
class Config:
    """An experiment: network, training, solver, inference, CRF, and the data set once it is known."""

    experiment: str
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    crf: CrfParams = dataclasses.field(default_factory=CrfParams)
    inference: InferenceConfig = InferenceConfig()
    dataset: DatasetInfo | None = None

    @property
    def info(self) -> DatasetInfo:
        """The data set.

        Raises:
            ValueError: it is not known yet.
        """
        if self.dataset is None:
            raise ValueError("the configuration names no data set; set it from the manifest.")
        return self.dataset

    def check_class_weights(self) -> None:
        """Raises UserError where there are class weights, but not one for each class of the data set."""
        given, names = self.train.class_weights, self.info.class_names
        if given and len(given) != len(names):
            raise UserError(
                f"train.class_weights: expected {len(names)} numbers, one for each of {', '.join(names)}; got"
                f" {len(given)}."
            )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as json.dump takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Config:
        """Rebuilds what `to_json` gave, also after a trip through a file; extra keys are left alone.

        A file from before there was a section for inference has none: then it is the default.

        Raises:
            ValueError: something else.
        """
        hints = typing.get_type_hints(cls)
        require_fields(fields, "the configuration", ("experiment", "dataset", *(set(SECTIONS) - {"inference"})))
        sections = {name: _section_from_json(name, hints[name], fields.get(name, {})) for name in SECTIONS}
        dataset = None if fields["dataset"] is None else DatasetInfo.from_json(fields["dataset"])
        return cls(_typed("experiment", fields["experiment"], str), dataset=dataset, **sections)


def _section_from_json(section: str, kind: Any, fields: Any) -> Any:
    """Rebuilds a section, each of whose values has to be of its field's type."""
    require_fields(fields, section)
    hints = typing.get_type_hints(kind)
    unknown = [name for name in fields if name not in hints]
    if unknown:
        raise ValueError(f"there is no {section}.{unknown[0]}")
    return kind(**{name: _typed(f"{section}.{name}", value, hints[name]) for name, value in fields.items()})


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Checks a value of JSON against a type: int, float, bool, str, or tuple[one of these, ...] for a list."""
    if isinstance(kind, types.GenericAlias) and isinstance(value, list | tuple):
        return tuple(_typed(name, item, typing.get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int and abs(value) <= _LARGEST_INT:
        return float(value)
    # A bool is an int to isinstance.
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        wanted = kind.__name__ if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) else str(kind)
        raise ValueError(f"{name} should be of type {wanted}, it is {value!r:.60}")
    return value


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Applies `--set section.field=value` assignments.

    Args:
        config: the experiment.
        assignments: such as "train.iterations=2000" or "model.scales=1,0.75,0.5".

    Returns:
        A new configuration.

    Raises:
        UserError: not of that form, an unknown section or field, a value of the wrong type or out of range.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        section_name, dot, field_name = path.strip().partition(".")
        if not equals or not dot:
            raise UserError(
                f"--set takes section.field=value, got {assignment!r:.200}. Example: --set=train.iterations=2000"
            )
        if section_name not in SECTIONS:
            raise UserError(
                f"--set knows the sections {', '.join(SECTIONS)}; got {section_name!r:.60} in {assignment!r:.200}."
            )
        section = getattr(config, section_name)
        hints = typing.get_type_hints(type(section))
        if field_name not in hints:
            raise UserError(
                f"--set knows no {path.strip():.200}{did_you_mean(field_name, hints)}: "
                f"{section_name} has {', '.join(hints)}."
            )
        try:
            value = _parse(text.strip(), hints[field_name])
            config = dataclasses.replace(config, **{section_name: dataclasses.replace(section, **{field_name: value})})
        except ValueError as error:
            raise UserError(f"--set={assignment:.200}: {error}") from error
    return config


def merged(config: Config, sections: Mapping[str, Any], source: str) -> Config:
    """Applies fields of a file: {"train": {"iterations": 1400}}.

    Args:
        config: the experiment.
        sections: fields by section. A text may stand for a number, for YAML takes 1e-4 for one.
        source: what to call the file in messages.

    Returns:
        A new configuration.

    Raises:
        UserError: a section that holds no fields, an unknown field, a value of the wrong type or out of range.
    """
    for section_name, fields in sections.items():
        section = getattr(config, section_name)
        hints = typing.get_type_hints(type(section))
        if not isinstance(fields, Mapping):
            raise UserError(
                f"{source}: {section_name} should hold fields, such as {next(iter(hints))}; got {fields!r:.60}."
            )
        unknown = [name for name in fields if name not in hints]
        if unknown:
            raise UserError(
                f"{source}: there is no {section_name}.{unknown[0]!s:.60}{did_you_mean(str(unknown[0]), hints)}: "
                f"{section_name} has {', '.join(hints)}."
            )
        try:
            values = {name: _from_file(f"{section_name}.{name}", value, hints[name]) for name, value in fields.items()}
            config = dataclasses.replace(config, **{section_name: dataclasses.replace(section, **values)})
        except ValueError as error:
            raise UserError(f"{source}: {str(error).rstrip('.')}.") from error
    return config


def _from_file(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, list | tuple) and isinstance(kind, types.GenericAlias):
        return tuple(_from_file(name, item, typing.get_args(kind)[0]) for item in value)
    if isinstance(value, str) and kind in (int, float):
        try:
            return _parse(value, kind)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return _typed(name, value, kind)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns " (did you mean X?)" where one of the names is close to the given one, else ""."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _parse(text: str, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[int, ...] or tuple[float, ...]
        return tuple(_parse(part.strip(), typing.get_args(kind)[0]) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"expected true or false, got {text!r:.60}.")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        names = {int: "a whole number", float: "a number"}
        raise ValueError(f"expected {names[kind]}, got {text!r:.60}.") from None
