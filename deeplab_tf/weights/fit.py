"""Which experiments a weights file belongs to, from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.backbone import Backbone

Shapes = Mapping[str, tuple[int, ...]]
"""Of "layer/variable" as in this project's networks, kernels [kh, kw, C, F]."""
_HEAD = r"fc[1678](_\d+)?"


class Fit(NamedTuple):
    """Where a file belongs."""

    experiments: tuple[str, ...]
    """Their networks have the same weights: rates, scales and the average pool have none."""
    num_classes: int


class UnknownBackboneError(UserError):
    """A file with the head of a DeepLabv2 network and layers that no backbone has."""


def find_fit(shapes_for: Callable[[tuple[str, ...]], Shapes]) -> Fit | None:
    """Finds the experiments whose network has a file's backbone and head.

    Args:
        shapes_for: what the file holds, its names translated for a network that has these layers.

    Returns:
        The experiments and the number of classes; None where no head, or an unknown one, is in the file.

    Raises:
        UnknownBackboneError: a head, and layers that no backbone has.
    """
    foreign: list[tuple[str, ...]] = []
    fits: list[tuple[int, Fit | None]] = []
    for name, backbone in BACKBONES.items():
        layers = _layers_of(backbone)
        shapes = shapes_for(tuple(layers))
        if len({shape[-1] for shape in _kernels(shapes, "fc[18]")}) != 1:
            return None
        if strange := tuple(_strange_layers(shapes, layers)):
            foreign.append(strange)
            continue
        # PyTorch's names of ResNet-50's layers are all among those of ResNet-101.
        found = sum(f"{layer}/kernel" in shapes for layer in layers)
        fits.append((len(layers) - found if found else 0, _fit_of_head(shapes, name, backbone.channels)))
    if not fits:
        fewest = min(foreign, key=len)
        raise UnknownBackboneError(
            f"no backbone ({', '.join(BACKBONES)}) has its layers {', '.join(fewest[:3])}"
            f"{' and others' if len(fewest) > 3 else ''}"
        )
    least = min(missing for missing, _ in fits)
    best = [fit for missing, fit in fits if missing == least and fit]
    return Fit(tuple(name for fit in best for name in fit.experiments), best[0].num_classes) if best else None


def _layers_of(backbone: type[Backbone]) -> dict[str, int | None]:
    """The names of a backbone's layers, and how many channels each gives; None where that is not its own number."""
    layers = backbone()._flatten_layers(include_self=False, recursive=False)
    # Those of weights: a pool or a sum has no kernel.
    return {layer.name: getattr(layer, "filters", None) for layer in layers if hasattr(layer, "kernel_size")}


def _strange_layers(shapes: Shapes, layers: Mapping[str, int | None]) -> Iterator[str]:
    """Yields the layers of a file that are not a backbone's nor a head's, by name or by number of channels."""
    for name, shape in shapes.items():
        layer, _, variable = name.rpartition("/")
        if variable != "kernel" or re.fullmatch(_HEAD, layer):
            continue
        if layer not in layers:
            yield layer
        elif layers[layer] not in (None, shape[-1]):
            yield f"{layer} with {shape[-1]} channels"


def _fit_of_head(shapes: Shapes, backbone: str, channels: int) -> Fit | None:
    classifiers = _kernels(shapes, "fc[18]")
    hidden = _kernels(shapes, "fc6")
    size, _, inputs, outputs = (hidden or classifiers)[0]
    fitting = tuple(
        name
        for name, config in EXPERIMENTS.items()
        if config.model.backbone == backbone
        and inputs == channels
        and len(config.model.rates) == len(classifiers)
        and config.model.kernel_size == size
        and config.model.hidden_units == (outputs if hidden else 0)
    )
    return Fit(fitting, classifiers[0][-1]) if fitting else None


def _kernels(shapes: Shapes, layer: str) -> list[tuple[int, ...]]:
    pattern = re.compile(rf"{layer}(_\d)?/kernel")
    return [shape for name, shape in shapes.items() if pattern.fullmatch(name) and len(shape) == 4]
