"""ImageNet starts, from where the backbone says: files of Keras applications, with the surgery on VGG's fc6 and fc7."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.pretrained import InstalledFile, KerasApplication, Tensor
from deeplab_tf.weights import keras_cache
from deeplab_tf.weights.installed import load_installed
from deeplab_tf.weights.readers.keras_h5 import KerasFile
from deeplab_tf.weights.report import LoadReport, assign, variables_by_name

GRID = 7
"""Cells a side of what the classifier's first fully connected layer sees, at 224 x 224 pixels."""
_IMAGENET_CLASSIFIERS = ("predictions", "probs")

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the model's variables by name."""


def load_imagenet(model: DeepLab, path: str | None = None, seed: int = 0) -> LoadReport:
    """Starts a network from the ImageNet weights in a file of Keras applications (Sec. 4.1).

    VGG-16: conv1_1 to conv5_3 as they are, and fc6 and fc7 of every branch by subsampling the fully connected
    layers: the kernel keeps regularly spaced cells of the 7 x 7 (rows and columns 0, 3, 6 of a 3x3 kernel and
    0, 2, 4, 6 of a 4x4 one), and of 4096 units a random choice stays, the same as outputs of fc6 and as inputs
    and outputs of fc7. Every branch chooses its own units, so that branches differ in more than their rate.
    Nothing is rescaled for the cells and units that are gone. Without fully connected layers in the file
    (`_notop.h5`), fc6 and fc7 stay as they were.

    ResNet: everything but the head. Keras' convolutions have biases, which go into the mean of the batch
    normalisation behind them, and a slightly larger epsilon, which goes into the variance: the same function.

    Keras gives its networks images minus (123.68, 116.779, 103.939); here the mean stays Caffe's.

    Args:
        model: from `build_model`; its backbone says what is published for it.
        path: the file; by default the published one, from Keras' cache or downloaded, its hash checked, or that of an
            installed package.
        seed: of the choice of units.

    Returns:
        What was loaded, skipped and missing.

    Raises:
        UserError: a backbone without ImageNet weights, no file and no network, a damaged file or another network's.
    """
    published = model.backbone.imagenet
    if published is None:
        known = ", ".join(name for name, backbone in BACKBONES.items() if backbone.imagenet)
        raise UserError(
            f"ImageNet weights are there for {known}; this network is another ({type(model.backbone).__name__}). Start "
            "it from a weights file, or with --init=none."
        )
    if isinstance(published, InstalledFile):
        if path is not None:
            raise UserError(
                f"{path} is a file of Keras applications, which has none of {published.network}; give its .pth."
            )
        return load_installed(model, published)
    shapes = {name: tuple(variable.shape) for name, variable in variables_by_name(model).items()}
    if path is None:
        path = keras_cache.find_or_download(published, with_top=bool(_fc6_suffixes(shapes)))
    with KerasFile(path) as file:
        return assign(model, path, _tensors(file, published, shapes, seed))


def _tensors(file: KerasFile, published: KerasApplication, shapes: Shapes, seed: int) -> Iterator[Tensor]:
    layers = published.layers
    if published.extra_variance is None:
        rest = _require(file, published.name, layers)
        for layer, ours in layers.items():
            yield from _convolution(file, layer, ours, shapes)
        if published.fully_connected and any(layer in rest for layer in published.fully_connected):
            rest = _require(file, published.name, [*layers, *published.fully_connected])
            first, second = published.fully_connected
            *_, last = layers.values()
            yield from _fully_connected(file, first, second, shapes, shapes[f"{last}/bias"][0], seed)
    else:
        rest = _require(file, published.name, [layer + part for layer in layers for part in ("_conv", "_bn")])
        for layer, ours in layers.items():
            yield from _convolution_and_batch_norm(file, layer, ours, shapes, published.extra_variance)
    for layer in rest:
        for name in file.weight_names(layer):
            if layer not in _IMAGENET_CLASSIFIERS:
                raise UserError(
                    f"{file.path} holds {name}, which {published.name} does not have; is it another network's?"
                )
            yield Tensor(name, "", None, "the classifier of ImageNet's classes")


def _require(file: KerasFile, network: str, layers: Iterable[str]) -> list[str]:
    """Refuses a file that lacks a layer; returns what else is in it."""
    rest = dict.fromkeys(file.layers)
    for layer in layers:
        if layer not in rest:
            raise UserError(
                f"{file.path} has no layer {layer}, which {network} needs; it begins "
                f"{', '.join(file.layers[:3])}. Is it another network's file?"
            )
        del rest[layer]
    return list(rest)


def _convolution(file: KerasFile, layer: str, ours: str, shapes: Shapes) -> Iterator[Tensor]:
    targets = [f"{ours}/kernel", f"{ours}/bias"]
    file.check(layer, [shapes[target] for target in targets])
    for index, (name, target) in enumerate(zip(file.weight_names(layer), targets, strict=True)):
        yield Tensor(name, target, file.read(layer, index))


def _convolution_and_batch_norm(
    file: KerasFile, layer: str, ours: str, shapes: Shapes, extra_variance: float
) -> Iterator[Tensor]:
    convolution, norm = f"{layer}_conv", f"{layer}_bn"
    targets = [f"{ours}/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    file.check(convolution, [shapes[f"{ours}/kernel"], shapes[f"{ours}/beta"]])
    file.check(norm, [shapes[target] for target in targets])
    kernel_name, bias_name = file.weight_names(convolution)
    yield Tensor(kernel_name, f"{ours}/kernel", file.read(convolution, 0))
    yield Tensor(bias_name, "", None, "biases of convolutions, subtracted from the mean behind them instead")
    gamma, beta, mean, variance = (file.read(norm, index) for index in range(4))
    arrays = (gamma, beta, mean - file.read(convolution, 1), variance + extra_variance)
    for name, target, array in zip(file.weight_names(norm), targets, arrays, strict=True):
        yield Tensor(name, target, array)


def _fc6_suffixes(shapes: Shapes) -> list[str]:
    """The branches that have hidden layers: "" where there is one, "_1", "_2", ... where there are several."""
    return [match[1] for name in shapes if (match := re.fullmatch(r"fc6(|_\d+)/bias", name))]


def _fully_connected(
    file: KerasFile, first: str, second: str, shapes: Shapes, channels: int, seed: int
) -> Iterator[Tensor]:
    """fc6 and fc7 of every branch from two fully connected layers, see `load_imagenet`.

    Args:
        file: the file.
        first: of the layers, on 7x7 cells of features.
        second: of the layers.
        shapes: of the model's variables.
        channels: of the features.
        seed: of the choice of units.
    """
    total = math.prod(file.shape(first, 1))  # units: 4096 in the published file
    file.check(first, [(GRID * GRID * channels, total), (total,)])
    file.check(second, [(total, total), (total,)])
    names = {layer: file.weight_names(layer) for layer in (first, second)}
    suffixes = _fc6_suffixes(shapes)
    size, _, _, kept = shapes[f"fc6{suffixes[0]}/kernel"] if suffixes else (0, 0, 0, 0)
    reason = ""
    if not suffixes:
        reason = "this head has no fc6 and fc7"
    elif size > GRID or kept > total:
        reason = f"fc6 of {size}x{size} with {kept} units cannot be cut from {GRID}x{GRID} with {total}"
    if reason:
        for name in (*names[first], *names[second]):
            yield Tensor(name, "", None, reason)
        return
    units = {
        suffix: np.sort(np.random.default_rng([seed, branch]).permutation(total)[:kept])
        for branch, suffix in enumerate(suffixes)
    }
    kernels = {suffix: np.empty((size, size, channels, kept), np.float32) for suffix in suffixes}
    cells = subsampled_cells(size)
    for i, row in enumerate(cells):
        for j, column in enumerate(cells):
            # Keras flattens [7, 7, C]: the inputs from one cell are C rows in a row.
            start = (row * GRID + column) * channels
            block = file.read(first, 0, slice(start, start + channels))  # [C, total]
            for suffix in suffixes:
                kernels[suffix][i, j] = block[:, units[suffix]]
    biases, hidden, hidden_biases = file.read(first, 1), file.read(second, 0), file.read(second, 1)
    for suffix, chosen in units.items():
        yield Tensor(names[first][0], f"fc6{suffix}/kernel", kernels.pop(suffix))
        yield Tensor(names[first][1], f"fc6{suffix}/bias", biases[chosen])
        yield Tensor(names[second][0], f"fc7{suffix}/kernel", hidden[np.ix_(chosen, chosen)][np.newaxis, np.newaxis])
        yield Tensor(names[second][1], f"fc7{suffix}/bias", hidden_biases[chosen])


def subsampled_cells(size: int) -> list[int]:
    """The rows, and columns, of the 7x7 grid that a kernel of `size` cells keeps: regularly spaced, both ends in.

    Args:
        size: 1 to 7.
    """
    return [GRID // 2] if size == 1 else [round(i * (GRID - 1) / (size - 1)) for i in range(size)]
