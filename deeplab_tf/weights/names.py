"""Names of the released networks, PyTorch's and Caffe's, as the names of this project's variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from deeplab_tf.resnet import block_names
from deeplab_tf.weights.report import Tensor

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PYTORCH_UNITS = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c", "shortcut": "branch1"}


def match_released(tensors: Iterable[tuple[str, np.ndarray]], variables: Iterable[str]) -> Iterator[Tensor]:
    """Translates released names and layouts.

    Args:
        tensors: (name, array) of a file: `base.layer3.block1.reduce.conv.weight`, `conv1_1.weight`,
            `fc8_voc12.bias`, ...; kernels OIHW.
        variables: names of the model's variables, to tell ResNet-50 from 101 and one branch from several.

    Yields:
        The tensors, kernels as HWIO views.
    """
    layers = {name.split("/")[0] for name in variables}
    for name, array in tensors:
        if name.endswith(".num_batches_tracked"):
            yield Tensor(name, "", None, "a counter that frozen batch normalisation does not need")
            continue
        target = _from_released_name(name, layers)
        yield Tensor(name, target, array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


def _from_released_name(name: str, layers: set[str]) -> str:
    """Translates a PyTorch or Caffe name; what is in neither form comes back as it is, and will match nothing."""
    path, _, leaf = name.rpartition(".")
    path = path.removeprefix("base.")
    if match := re.fullmatch(r"layer1\.conv1\.(conv|bn)", path):
        return _convolution("conv1", match[1], leaf)
    if match := re.fullmatch(r"layer([2-5])\.block(\d+)\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)", path):
        blocks = block_names(101 if "res4b1_branch2a" in layers else 50)[int(match[1]) - 2]
        if int(match[2]) <= len(blocks):
            block = blocks[int(match[2]) - 1]
            return _convolution(f"res{block}_{_PYTORCH_UNITS[match[3]]}", match[4], leaf)
    if match := re.fullmatch(r"aspp\.c(\d)", path):
        return _biased(_branch("fc1", int(match[1]), layers), leaf)
    if match := re.fullmatch(r"fc1_[a-z0-9]*[a-z][a-z0-9]*(?:_c(\d))?", path):
        return _biased(_branch("fc1", int(match[1] or 0), layers), leaf)
    if match := re.fullmatch(r"fc8_[a-z0-9]*[a-z][a-z0-9]*(?:_(\d))?", path):
        return _biased(_branch("fc8", int(match[1] or 1) - 1, layers), leaf)
    if match := re.fullmatch(r"(?:bn|scale)(_conv1|\d[a-z]\d*_branch\w+)", path):
        return f"{'conv1' if match[1] == '_conv1' else 'res' + match[1]}/{_BATCH_NORM.get(leaf, leaf)}"
    return _biased(path, leaf)


def _convolution(layer: str, part: str, leaf: str) -> str:
    if part == "conv":
        return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"
    return f"{layer}/{_BATCH_NORM.get(leaf, leaf)}"


def _biased(layer: str, leaf: str) -> str:
    return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"


def _branch(layer: str, index: int, layers: set[str]) -> str:
    """The layer of one branch: fc1 where the network has one branch, fc1_1, fc1_2, ... where it has several."""
    return layer if layer in layers and index == 0 else f"{layer}_{index + 1}"
