"""The one loader: whatever a path holds, a trained network or an exported one, as a `Segmenter`.

What export.py wrote is loaded by the first of `BACKENDS` that knows the file. A backend reads the description in it and
gives functions for images of the size that the file takes; here they are made to take images of any size.
"""

from __future__ import annotations

import dataclasses
import glob
import importlib
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deeplab_tf import workdir
from deeplab_tf.config import Config
from deeplab_tf.crf import backends
from deeplab_tf.errors import UserError
from deeplab_tf.export import FORMATS
from deeplab_tf.export.description import Description, Exported
from deeplab_tf.export.saved_model import load_saved_model
from deeplab_tf.images.fit import fit_image, unfit_output
from deeplab_tf.inference.labels import labels_of
from deeplab_tf.inference.probabilities import build_predictor, require_memory
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.weights import SUFFIXES


class Backend(NamedTuple):
    """A kind of file that export.py writes.

    Attributes:
        knows: says whether a path is of this kind, without reading all of it.
        load: loads it. It raises UserError for a damaged one.
        has_tiles: it can have been exported with --tile.
    """

    knows: Callable[[str], bool]
    load: Callable[[str], Exported]
    has_tiles: bool = False


_KINDS = [importlib.import_module(f"{__package__}.{module}").KIND for module in dict.fromkeys(FORMATS.values())]
_ENDINGS = [kind.ending for kind in _KINDS if kind.ending]
BACKENDS = {kind.name: Backend(kind.knows, kind.load, kind.has_tiles) for kind in _KINDS}
"""What is loaded, and by what."""


class Loaded(NamedTuple):
    """A model that is ready for images.

    Attributes:
        path: where it was, for messages.
        segmenter: the model, without a CRF after it.
        config: network, classes, and the constants of its CRF.
        crf_inside: an exported model that has the CRF in it.
    """

    path: str
    segmenter: Segmenter
    config: Config
    crf_inside: bool = False

    def with_crf(self, backend: str = "auto") -> Segmenter:
        """Returns the segmenter with the dense CRF after it, with the constants of the configuration.

        Args:
            backend: what computes it, see `dense_crf`.

        Raises:
            UserError: the CRF is inside already, or there are no probabilities for it.
        """
        if self.crf_inside:
            raise UserError(f"{self.path} has the CRF inside: leave --crf out.")
        if not self.segmenter.has_probabilities:
            raise UserError(
                f"{self.path} returns labels only, and the CRF needs probabilities: take a SavedModel for --crf."
            )
        return dataclasses.replace(self.segmenter, crf=self.config.crf, crf_backend=backend)


def load_segmenter(
    path: str, configure: Callable[[Config], Config] = lambda config: config, best: bool = False
) -> Loaded:
    """Loads a model of any kind.

    Args:
        path: a workdir of train.py, or what export.py wrote.
        configure: changes the configuration. Of an exported model only the constants of the CRF can change.
        best: of a workdir, the weights of its best validation instead of the last.

    Raises:
        UserError: neither of these, damaged, or whatever `configure` raises.
    """
    if is_exported(path):
        return segmenter_of_export(path, load_exported(path), configure)
    check_workdir_path(path)
    config = configure(workdir.read_config(path))
    return segmenter_of_network(*workdir.load(path, config, best=best), path)


def segmenter_of_network(model: DeepLab, config: Config, path: str = "the network") -> Loaded:
    """Makes a segmenter of a trained network, run as `config.inference` says."""
    segmenter = Segmenter(build_predictor(model, config.inference), config.info, model=model)
    return Loaded(path, segmenter, config)


def segmenter_of_export(
    path: str, exported: Exported, configure: Callable[[Config], Config] = lambda config: config
) -> Loaded:
    """Makes a segmenter of what `load_exported` gave."""
    description = exported.description
    config = configure(description.config)
    segmenter = Segmenter(
        exported.probabilities_of or exported.labels_of,
        config.info,
        has_probabilities=exported.probabilities_of is not None,
        takes_batches=exported.takes_batches,
    )
    return Loaded(path, segmenter, config, description.crf)


def check_workdir_path(path: str) -> None:
    """Refuses a path that is neither a workdir nor exported, and says what was probably meant.

    Raises:
        UserError: there is nothing, a weights file, or the folder around an exported model.
    """
    if os.path.isfile(os.path.join(path, workdir.CONFIG_FILE)):
        return
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; name a workdir of train.py, or what export.py wrote.")
    if os.path.isfile(path):
        if path.lower().endswith(SUFFIXES):
            raise UserError(f"{path} is a weights file: give it as --weights={path}, with --experiment and --dataset.")
        raise UserError(
            f"{path} is not a model of this project; name a workdir, a SavedModel, or a file that ends in "
            f"{' or '.join(_ENDINGS)}."
        )
    inside = [os.path.join(path, *parts) for parts in (("saved_model", "1"), ("1",))]
    for ending in _ENDINGS:
        inside += sorted(glob.glob(os.path.join(glob.escape(path), f"*{ending}")))
    meant = [candidate for candidate in inside if os.path.exists(candidate) and is_exported(candidate)]
    if meant:
        raise UserError(f"{path} holds an exported model: name {' or '.join(meant)}.")


def is_exported(path: str) -> bool:
    """Says whether a path is what export.py writes, and not a workdir."""
    return any(backend.knows(path) for backend in BACKENDS.values())


def load_exported(path: str) -> Exported:
    """Loads what export.py wrote, for images of any size.

    A model of one size gets larger images scaled down and smaller ones padded, see `fit_image`.

    Raises:
        UserError: none of `BACKENDS`, or damaged.
    """
    # What nothing knows is refused by the loader of SavedModels, which says what it expected.
    unknown = Backend(lambda _: True, load_saved_model, has_tiles=True)
    backend = next((backend for backend in BACKENDS.values() if backend.knows(path)), unknown)
    description, labels, probabilities, takes_batches = backend.load(path)
    takes_batches = takes_batches and None in description.size  # images are fitted one by one
    if probabilities is None:
        fitted_labels = _of_any_size(_within_memory(labels, description, backend.has_tiles), description)
        return Exported(description, fitted_labels, None, takes_batches)
    fitted = _of_any_size(_within_memory(probabilities, description, backend.has_tiles), description)
    return Exported(description, lambda image: labels_of(fitted(image)), fitted, takes_batches)


def _within_memory(
    predict: Callable[[np.ndarray], np.ndarray], description: Description, has_tiles: bool
) -> Callable[[np.ndarray], np.ndarray]:
    if not description.bytes_per_pixel:
        return predict
    config = description.config

    def checked(image: np.ndarray) -> np.ndarray:  # or several, [B, H, W, 3]
        tiled = "Export the network" if has_tiles else "Export the network as a SavedModel"
        remedy = f"{tiled} with --tile=1025, or make the image smaller."
        num_classes = config.info.num_classes
        require_memory(image, config.inference, num_classes, lambda: description.bytes_per_pixel, remedy)
        if description.crf:
            backends.require_memory(image.shape[-3:-1], num_classes, "tf")
        return predict(image)

    return checked


def _of_any_size(
    predict: Callable[[np.ndarray], np.ndarray], description: Description
) -> Callable[[np.ndarray], np.ndarray]:
    height, width = description.size
    if height is None or width is None:
        return predict
    size = (height, width)

    def fitted(image: np.ndarray) -> np.ndarray:
        picture, inside = fit_image(image, size, description.mean_rgb)
        return unfit_output(predict(picture), inside, image.shape[:2])

    return fitted
