"""Experiments: which network and which solver. The data set is what its manifest says."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any

from deeplab_tf.crf import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError

BACKBONES = ("vgg16", "resnet50", "resnet101")
PRECISIONS = ("float32", "bfloat16", "float16")
POLICIES = ("poly", "step")
OPTIMIZERS = ("sgd", "adam")
SECTIONS = ("model", "train", "optimizer", "crf")


def _require_one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}; got {value}.")


def _require_at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network.

    Attributes:
        backbone: vgg16, resnet50 or resnet101.
        rates: one atrous branch of the head per rate, in score-map cells.
        kernel_size: of those branches.
        hidden_units: of fc6 and fc7; 0 for branches straight to the scores (ResNet).
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
        batch_size: images of one micro-step, over all replicas.
        iter_size: micro-steps whose gradients are averaged into one update.
        crop_size: side of the square crops, in pixels; size_multiple*k + 1.
        augment_scales: an image is scaled by one of these, at random; empty for none.
        seed: of the order, the augmentation, the dropout and the fresh weights.
        precision: float32, bfloat16 or float16.
        dropout: rate after fc6 and fc7.
        frozen_layers: groups of layers that keep their weights, such as conv1,conv2; saves time and memory.
        save_every: updates between two checkpoints.
        summary_every: updates between two TensorBoard entries.
        deterministic: repeat bit for bit on the same machine, at some cost in speed.
    """

    iterations: int = 20000
    batch_size: int = 10
    iter_size: int = 1
    crop_size: int = 321
    augment_scales: tuple[float, ...] = ()
    seed: int = 0
    precision: str = "float32"
    dropout: float = 0.5
    frozen_layers: tuple[str, ...] = ()
    save_every: int = 500
    summary_every: int = 50
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "iter_size", "crop_size", "save_every", "summary_every"):
            _require_at_least(f"train.{name}", getattr(self, name), 1)
        _require_at_least("train.seed", self.seed, 0)
        _require_one_of("train.precision", self.precision, PRECISIONS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"train.dropout must be at least 0 and below 1; got {self.dropout}.")
        if self.augment_scales:
            _require_at_least("train.augment_scales", min(self.augment_scales), 0.1)


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
        _require_one_of("optimizer.name", self.name, OPTIMIZERS)
        _require_one_of("optimizer.policy", self.policy, POLICIES)
        _require_at_least("optimizer.step_size", self.step_size, 1)
        _require_at_least("optimizer.warmup", self.warmup, 0)
        if not 0 <= self.beta_2 < 1:
            raise ValueError(f"optimizer.beta_2 must be at least 0 and below 1; got {self.beta_2}.")
        for name in ("base_lr", "power", "gamma", "momentum", "weight_decay", "classifier_lr_mult", "fresh_lr_mult"):
            _require_at_least(f"optimizer.{name}", getattr(self, name), 0)


@dataclasses.dataclass(frozen=True)
class Config:
    """An experiment: network, training, solver, the CRF that refines the answers, and the data set once it is known."""

    experiment: str
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    crf: CrfParams = dataclasses.field(default_factory=CrfParams)
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

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as json.dump takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Config:
        """Rebuilds what `to_json` gave, also after a trip through a file; extra keys are left alone."""
        hints = typing.get_type_hints(cls)
        sections = {}
        for name in SECTIONS:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields[name].items()}
            sections[name] = hints[name](**values)
        dataset = DatasetInfo.from_json(fields["dataset"]) if fields["dataset"] else None
        return cls(experiment=fields["experiment"], dataset=dataset, **sections)


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
            f"there is no experiment {name!r}{_did_you_mean(name, EXPERIMENTS)}: "
            f"choose one of {', '.join(EXPERIMENTS)}."
        )
    return EXPERIMENTS[name]


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
                f"--set takes section.field=value, got {assignment!r}. Example: --set=train.iterations=2000"
            )
        if section_name not in SECTIONS:
            raise UserError(f"--set knows the sections {', '.join(SECTIONS)}; got {section_name!r} in {assignment!r}.")
        section = getattr(config, section_name)
        hints = typing.get_type_hints(type(section))
        if field_name not in hints:
            raise UserError(
                f"--set knows no {path.strip()}{_did_you_mean(field_name, hints)}: "
                f"{section_name} has {', '.join(hints)}."
            )
        try:
            value = _parse(text.strip(), hints[field_name])
            config = dataclasses.replace(config, **{section_name: dataclasses.replace(section, **{field_name: value})})
        except ValueError as error:
            raise UserError(f"--set={assignment}: {error}") from error
    return config


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _parse(text: str, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[int, ...] or tuple[float, ...]
        return tuple(_parse(part.strip(), typing.get_args(kind)[0]) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"expected true or false, got {text!r}.")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        names = {int: "a whole number", float: "a number"}
        raise ValueError(f"expected {names[kind]}, got {text!r}.") from None
