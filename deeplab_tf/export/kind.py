"""What all kinds of exported files have in common: how they are checked, written, recognised and loaded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deeplab_tf.config import Config
from deeplab_tf.export.compare import Written, made_up_picture, pictures_of_two_sizes
from deeplab_tf.export.description import Exported, Size
from deeplab_tf.networks.deeplab import DeepLab, rebuild

# Pictures that a file for another program is compared on.
_TRIED = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of export.py.

    Attributes:
        model: trained.
        config: of the training; `config.inference` says how the network is run.
        out_dir: the folder.
        size: height and width of the images, or None for any.
        pictures: uint8 [H, W, 3], of that size, to calibrate on and to compare on; may be empty.
        crf: put the dense CRF inside, where a kind can.
        probabilities: give these instead of labels, in TensorFlow Lite files.
        overwrite: replace earlier files.
    """

    model: DeepLab
    config: Config
    out_dir: str
    size: Size
    pictures: Sequence[np.ndarray]
    crf: bool = False
    probabilities: bool = False
    overwrite: bool = False

    @functools.cached_property
    def dilated(self) -> DeepLab:
        """The network with dilated convolutions: one operation each in other programs, and faster there."""
        return rebuild(self.model, "dilated")

    def tried(self, size: Size | None = None) -> Sequence[np.ndarray]:
        """Returns the pictures to compare on: of two sizes where any size is promised."""
        height, width = size or self.size
        if height is None or width is None:
            return pictures_of_two_sizes(self.pictures, self.model.size_multiple)
        return self.pictures[:_TRIED] or [made_up_picture((height, width))]

    def describe(self, written: Written) -> str:
        """Returns the line that export.py prints of a file for another program."""
        return (
            f"exported {self.config.experiment}, {written.num_bytes / 1e6:.1f} MB, {100 * written.agreement:.2f} % of "
            f"the pixels as in float32: {written.path}"
        )


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: for messages, such as "ONNX file".
        ending: of its files' names, such as ".onnx"; nothing for a folder.
        check: refuses formats of this kind before anything is loaded or written: (formats, size, size_multiple) of
            the network.
        path_of: (out_dir, config, format) -> where it will be written.
        write: writes the formats of this kind, and yields lines for the user.
        knows: says whether a path is of this kind, without reading all of it.
        load: loads it. It raises UserError for a damaged one.
        has_tiles: --tile can be inside.
    """

    name: str
    ending: str
    check: Callable[[Sequence[str], Size, int], None]
    path_of: Callable[[str, Config, str], str]
    write: Callable[[Job, Sequence[str]], Iterator[str]]
    knows: Callable[[str], bool]
    load: Callable[[str], Exported]
    has_tiles: bool = False
