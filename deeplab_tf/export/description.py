"""What an exported model says of itself, and what a backend makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deeplab_tf.config import Config
from deeplab_tf.dataset_info import require_fields
from deeplab_tf.runtime import files

Size = tuple[int | None, int | None]
"""Height and width of the images, None for any."""


class Description(NamedTuple):
    """What an exported model says of itself.

    Attributes:
        config: network, classes and how it is run.
        crf: the dense CRF with `config.crf` is inside.
        size: the only height and width that it takes, or None for any.
        mean_rgb: the colour that the network takes for nothing: what smaller images are padded with.
        bytes_per_pixel: see `inference.bytes_per_pixel`; 0 where it is not known.
    """

    config: Config
    mean_rgb: tuple[float, float, float]
    crf: bool = False
    size: Size = (None, None)
    bytes_per_pixel: float = 0.0

    def to_json(self) -> str:
        """Returns the text that exported models hold."""
        export = {
            "crf": self.crf,
            "size": self.size,
            "mean_rgb": self.mean_rgb,
            "bytes_per_pixel": self.bytes_per_pixel,
        }
        return json.dumps({**self.config.to_json(), "export": export})

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Reads what `to_json` gave.

        Raises:
            ValueError: something else.
        """
        fields = files.parse_json(text)
        config = Config.from_json(fields)
        if config.dataset is None:
            raise ValueError("it names no data set")
        require_fields(fields, "the description", ("export",))
        require_fields(fields["export"], "export", ("mean_rgb", "size", "crf"))
        mean_rgb, size, crf = (fields["export"][name] for name in ("mean_rgb", "size", "crf"))
        bytes_per_pixel = fields["export"].get("bytes_per_pixel", 0)  # older exports do not say
        match mean_rgb, size, crf, bytes_per_pixel:
            case [int() | float() as red, int() | float() as green, int() | float() as blue], [
                int() | None as height,
                int() | None as width,
            ], bool(), int() | float():
                return cls(config, (red, green, blue), crf, (height, width), bytes_per_pixel)
        raise ValueError(
            f"expected three levels, height and width, yes or no, and a number of bytes; got {mean_rgb}, {size}, {crf}"
            f" and {bytes_per_pixel}"
        )


class Exported(NamedTuple):
    """An exported model behind the functions that every backend has.

    Attributes:
        description: what the model says of itself.
        labels_of: from an image uint8 [H, W, 3] to labels uint8 [H, W].
        probabilities_of: from the same to float32 [H, W, K]; None where the model has labels only.
        takes_batches: both take several images of one size too, [B, H, W, 3].
    """

    description: Description
    labels_of: Callable[[np.ndarray], np.ndarray]
    probabilities_of: Callable[[np.ndarray], np.ndarray] | None = None
    takes_batches: bool = False
