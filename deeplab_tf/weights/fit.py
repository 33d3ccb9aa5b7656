"""Which experiments a weights file belongs to, told from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from deeplab_tf.experiments import EXPERIMENTS

# With these layers named, `match_released` numbers PyTorch's blocks as in ResNet-101.
RESNET101_LAYERS = ("res4b1_branch2a/kernel",)


class Fit(NamedTuple):
    """Where a file belongs."""

    experiments: tuple[str, ...]
    """Their networks have the same weights: rates, scales and the average pool have none."""
    num_classes: int


def fit_of_kernels(shapes: Mapping[str, tuple[int, ...]]) -> Fit | None:
    """Finds the experiments whose network has a file's backbone and head.

    Args:
        shapes: "layer/variable" and the shape of it in this project's networks, kernels [kh, kw, C, F].

    Returns:
        The experiments and the number of classes; None where no head, or an unknown one, is in the file.
    """
    classifiers = _kernels(shapes, "fc[18]")
    hidden = _kernels(shapes, "fc6")
    if len({shape[-1] for shape in classifiers}) != 1:
        return None
    backbone = _backbone(shapes)
    fitting = tuple(
        name
        for name, config in EXPERIMENTS.items()
        if config.model.backbone == backbone
        and len(config.model.rates) == len(classifiers)
        and config.model.kernel_size == (hidden or classifiers)[0][0]
        and config.model.hidden_units == (hidden[0][-1] if hidden else 0)
    )
    return Fit(fitting, classifiers[0][-1]) if fitting else None


def _kernels(shapes: Mapping[str, tuple[int, ...]], layer: str) -> list[tuple[int, ...]]:
    pattern = re.compile(rf"{layer}(_\d)?/kernel")
    return [shape for name, shape in shapes.items() if pattern.fullmatch(name) and len(shape) == 4]


def _backbone(names: Collection[str]) -> str:
    if "block15_project/kernel" in names:
        return "efficientnet_lite0"
    blocks = {match[1] for name in names if (match := re.match(r"res4([a-z]\d*)_", name))}
    if not blocks:
        return "vgg16"
    return "resnet101" if len(blocks) > 6 else "resnet50"
