"""ImageNet starts: the VGG-16 and ResNet files of Keras applications, with the surgery on VGG's fc6 and fc7."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.networks.resnet import BATCH_NORM_EPSILON, block_names
from deeplab_tf.networks.vgg import VGG16
from deeplab_tf.weights import efficientnet, keras_cache
from deeplab_tf.weights.readers.keras_h5 import KerasFile
from deeplab_tf.weights.report import LoadReport, Tensor, assign, variables_by_name

KERAS_BATCH_NORM_EPSILON = 1.001e-5
"""Of the ResNets in keras.applications."""
GRID = 7
"""Cells a side of what the classifier's first fully connected layer sees, at 224 x 224 pixels."""
_BRANCHES = ("branch1", "branch2a", "branch2b", "branch2c")
_IMAGENET_CLASSIFIERS = ("predictions", "probs")

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the model's variables by name."""


def load_imagenet(model: keras.Model, path: str | None = None, seed: int = 0) -> LoadReport:
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
        model: a VGG-16, ResNet-50 or ResNet-101 network from `build_model`.
        path: the file; by default the published one, from Keras' cache or downloaded, its hash checked.
        seed: of the choice of units.

    Returns:
        What was loaded, skipped and missing.

    Raises:
        UserError: a model with another backbone, no file and no network, a damaged file or another network's.
    """
    shapes = {name: tuple(variable.shape) for name, variable in variables_by_name(model).items()}
    backbone = _backbone_of(shapes)
    if backbone == "efficientnet_lite0":
        if path is not None:
            raise UserError(
                f"{path} is a file of Keras applications, which has none of EfficientNet-Lite0; give its .pth."
            )
        return efficientnet.load_installed(model)
    if path is None:
        path = keras_cache.find_or_download(backbone, with_top=bool(_fc6_suffixes(shapes)))
    with KerasFile(path) as file:
        return assign(model, path, _tensors(file, backbone, shapes, seed))


def _backbone_of(variables: Iterable[str]) -> str:
    for layer, backbone in (
        ("conv5_3", "vgg16"),
        ("res4b22_branch2c", "resnet101"),
        ("res5c_branch2c", "resnet50"),
        ("block15_project", "efficientnet_lite0"),
    ):
        if f"{layer}/kernel" in variables:
            return backbone
    raise UserError(
        "ImageNet weights are there for VGG-16, ResNet-50, ResNet-101 and EfficientNet-Lite0; this network is another."
    )


def _tensors(file: KerasFile, backbone: str, shapes: Shapes, seed: int) -> Iterator[Tensor]:
    if backbone == "vgg16":
        layers = {
            f"block{block}_conv{index}": f"conv{block}_{index}"
            for block, (depth, _) in VGG16.BLOCKS.items()
            for index in range(1, depth + 1)
        }
        rest = _require(file, backbone, layers)
        for layer, ours in layers.items():
            yield from _convolution(file, layer, ours, shapes)
        if "fc1" in rest or "fc2" in rest:
            rest = _require(file, backbone, [*layers, "fc1", "fc2"])
            yield from _fully_connected(file, shapes, seed)
    else:
        layers = _resnet_layers(101 if backbone == "resnet101" else 50)
        rest = _require(file, backbone, [layer + part for layer in layers for part in ("_conv", "_bn")])
        for layer, ours in layers.items():
            yield from _convolution_and_batch_norm(file, layer, ours, shapes)
    for layer in rest:
        for name in file.weight_names(layer):
            if layer not in _IMAGENET_CLASSIFIERS:
                raise UserError(f"{file.path} holds {name}, which {backbone} does not have; is it another network's?")
            yield Tensor(name, "", None, "the classifier of ImageNet's classes")


def _resnet_layers(depth: int) -> dict[str, str]:
    """Keras' names, without _conv and _bn, and ours."""
    layers = {"conv1": "conv1"}
    for stage, blocks in enumerate(block_names(depth), start=2):
        for number, block in enumerate(blocks, start=1):
            for index, branch in enumerate(_BRANCHES):
                if index > 0 or number == 1:
                    layers[f"conv{stage}_block{number}_{index}"] = f"res{block}_{branch}"
    return layers


def _require(file: KerasFile, backbone: str, layers: Iterable[str]) -> list[str]:
    """Refuses a file that lacks a layer; returns what else is in it."""
    rest = dict.fromkeys(file.layers)
    for layer in layers:
        if layer not in rest:
            raise UserError(
                f"{file.path} has no layer {layer}, which {backbone} needs; it begins "
                f"{', '.join(file.layers[:3])}. Is it another network's file?"
            )
        del rest[layer]
    return list(rest)


def _convolution(file: KerasFile, layer: str, ours: str, shapes: Shapes) -> Iterator[Tensor]:
    targets = [f"{ours}/kernel", f"{ours}/bias"]
    file.check(layer, [shapes[target] for target in targets])
    for index, (name, target) in enumerate(zip(file.weight_names(layer), targets, strict=True)):
        yield Tensor(name, target, file.read(layer, index))


def _convolution_and_batch_norm(file: KerasFile, layer: str, ours: str, shapes: Shapes) -> Iterator[Tensor]:
    convolution, norm = f"{layer}_conv", f"{layer}_bn"
    targets = [f"{ours}/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    file.check(convolution, [shapes[f"{ours}/kernel"], shapes[f"{ours}/beta"]])
    file.check(norm, [shapes[target] for target in targets])
    kernel_name, bias_name = file.weight_names(convolution)
    yield Tensor(kernel_name, f"{ours}/kernel", file.read(convolution, 0))
    yield Tensor(bias_name, "", None, "biases of convolutions, subtracted from the mean behind them instead")
    gamma, beta, mean, variance = (file.read(norm, index) for index in range(4))
    arrays = (
        gamma,
        beta,
        mean - file.read(convolution, 1),
        variance + (KERAS_BATCH_NORM_EPSILON - BATCH_NORM_EPSILON),
    )
    for name, target, array in zip(file.weight_names(norm), targets, arrays, strict=True):
        yield Tensor(name, target, array)


def _fc6_suffixes(shapes: Shapes) -> list[str]:
    """The branches that have hidden layers: "" where there is one, "_1", "_2", ... where there are several."""
    return [match[1] for name in shapes if (match := re.fullmatch(r"fc6(|_\d+)/bias", name))]


def _fully_connected(file: KerasFile, shapes: Shapes, seed: int) -> Iterator[Tensor]:
    """fc6 and fc7 of every branch from fc1 and fc2, see `load_imagenet`."""
    channels = shapes["conv5_3/bias"][0]
    total = math.prod(file.shape("fc1", 1))  # units: 4096 in the published file
    file.check("fc1", [(GRID * GRID * channels, total), (total,)])
    file.check("fc2", [(total, total), (total,)])
    names = {layer: file.weight_names(layer) for layer in ("fc1", "fc2")}
    suffixes = _fc6_suffixes(shapes)
    size, _, _, kept = shapes[f"fc6{suffixes[0]}/kernel"] if suffixes else (0, 0, 0, 0)
    reason = ""
    if not suffixes:
        reason = "this head has no fc6 and fc7"
    elif size > GRID or kept > total:
        reason = f"fc6 of {size}x{size} with {kept} units cannot be cut from {GRID}x{GRID} with {total}"
    if reason:
        for name in (*names["fc1"], *names["fc2"]):
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
            first = (row * GRID + column) * channels
            block = file.read("fc1", 0, slice(first, first + channels))  # [C, total]
            for suffix in suffixes:
                kernels[suffix][i, j] = block[:, units[suffix]]
    biases, hidden, hidden_biases = file.read("fc1", 1), file.read("fc2", 0), file.read("fc2", 1)
    for suffix, chosen in units.items():
        yield Tensor(names["fc1"][0], f"fc6{suffix}/kernel", kernels.pop(suffix))
        yield Tensor(names["fc1"][1], f"fc6{suffix}/bias", biases[chosen])
        yield Tensor(names["fc2"][0], f"fc7{suffix}/kernel", hidden[np.ix_(chosen, chosen)][np.newaxis, np.newaxis])
        yield Tensor(names["fc2"][1], f"fc7{suffix}/bias", hidden_biases[chosen])


def subsampled_cells(size: int) -> list[int]:
    """The rows, and columns, of the 7x7 grid that a kernel of `size` cells keeps: regularly spaced, both ends in.

    Args:
        size: 1 to 7.
    """
    return [GRID // 2] if size == 1 else [round(i * (GRID - 1) / (size - 1)) for i in range(size)]
