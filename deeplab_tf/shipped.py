"""The trained networks that come with this project, by name: models/NAME, a workdir each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deeplab_tf.config import did_you_mean
from deeplab_tf.errors import UserError

if TYPE_CHECKING:
    from deeplab_tf.inference.segmenter import Segmenter

_CONFIG_FILE = "config.json"


def list_pretrained() -> list[str]:
    """Lists the names of the trained networks that come with the installation, for `load_pretrained`."""
    folder = _folder()
    if not os.path.isdir(folder):
        return []
    return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name, _CONFIG_FILE)))


def load_pretrained(
    source: str | os.PathLike[str], *, crf: bool = False, crf_backend: str = "auto", best: bool = False
) -> Segmenter:
    """Loads a trained network that segments images in one line.

    `load_pretrained("voc_animals").segment("cat.jpg").save("cat.png")`

    Args:
        source: a name of `list_pretrained()`; the workdir of `train` or train.py; or what export.py wrote: the folder
            of a SavedModel, or a .tflite, .onnx or .xml file. A path that exists comes before a name.
        crf: refine every image with the dense CRF, with the constants that the network was given.
        crf_backend: what computes the CRF, see `dense_crf`.
        best: of a workdir, the weights of its best validation instead of the last.

    Returns:
        A `Segmenter`. Its `model` is the Keras network, where the source has one.

    Raises:
        UserError: no such name and no such path, a file that is damaged or does not say which network it belongs to, or
            no CRF for this model.
    """
    from deeplab_tf.export import load as loader
    from deeplab_tf.weights import SUFFIXES

    path = folder_or_path(os.fspath(source))
    if not os.path.exists(path):
        names = list_pretrained()
        raise UserError(
            f"there is no path {path}, and no network of this name comes with the installation"
            f"{did_you_mean(path, names)}: the names are {', '.join(names) or 'none'}."
        )
    if os.path.isfile(path) and path.lower().endswith(SUFFIXES) and not loader.is_exported(path):
        raise UserError(
            f"{path} holds weights, and does not say of which network and classes: build it with"
            " build_model(EXPERIMENT, num_classes=K), then load_weights(model, PATH)."
        )
    loaded = loader.load_segmenter(path, best=best)
    return loaded.with_crf(crf_backend) if crf else loaded.segmenter


def folder_or_path(source: str) -> str:
    """Returns the folder of a network that comes with the installation, or the source itself.

    Args:
        source: a name of `list_pretrained()`, or anything else, such as a path. A path that exists stays what it is.
    """
    if os.path.exists(source) or source not in list_pretrained():
        return source
    return os.path.join(_folder(), source)


def _folder() -> str:
    """Returns the folder of the networks: inside the package where it is installed, beside it in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "_models")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "models")
