"""What the page says and shows: from an image file and the constants of the CRF to text and pictures, as JSON has them.

Nothing in it is markup: the page's script puts names and numbers in as text.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.resources
import json
import math
import string
from typing import Any, NamedTuple

import cv2
import numpy as np

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import Say
from deeplab_tf.images.results import largest_shares
from deeplab_tf.webapp.served_model import ServedModel
from deeplab_tf.webapp.uploads import ACCEPTED, decode_upload

# Pictures in the page are not larger than this.
_PICTURE_PIXELS = 2048


class Limits(NamedTuple):
    """What the page takes and keeps.

    Attributes:
        max_bytes: of a file.
        max_pixels: of an image, H * W.
        max_side: longer side, in pixels, of what the network sees: larger images are scaled down. 0 for any.
        upload_seconds: that the sending of a file may take.
        kept_bytes: of images and their probabilities that are kept for the CRF, all pages together.
        kept_seconds: that one is kept after its last use.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 1024
    upload_seconds: float = 120
    kept_bytes: int = 1_000_000_000
    kept_seconds: float = 3600


class Constant(NamedTuple):
    """A constant of the CRF as a slider.

    Attributes:
        name: of a field of `CrfParams`.
        low: the least value.
        high: the largest.
        step: of the slider.
        meaning: in a few words.
    """

    name: str
    low: float
    high: float
    step: float
    meaning: str


_CONSTANTS = tuple(Constant(field.name, **field.metadata) for field in dataclasses.fields(CrfParams))


def constants_around(params: CrfParams) -> tuple[Constant, ...]:
    """Returns the sliders, with ranges in which a model's own constants lie."""

    def around(constant: Constant) -> Constant:
        value = getattr(params, constant.name)
        return constant._replace(low=min(constant.low, value), high=max(constant.high, value))

    return tuple(map(around, _CONSTANTS))


def params_of(values: Any, constants: tuple[Constant, ...]) -> CrfParams:
    """Makes the constants of the CRF of what a page sent.

    Args:
        values: of JSON: {name: number}, each constant once.
        constants: the sliders, whose ranges hold here too: thousands of updates would keep the machine busy for hours.

    Raises:
        UserError: something else.
    """
    names = [constant.name for constant in constants]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise UserError(f"expected the constants {', '.join(names)} of the CRF and no others.")
    for name, low, high, *_ in constants:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UserError(f"{name}: expected a number of {low:g} to {high:g}.")
    *floats, iterations = names
    if values[iterations] != math.floor(values[iterations]):
        raise UserError(f"{iterations}: expected a whole number.")
    fields: dict[str, Any] = {name: float(values[name]) for name in floats}
    return CrfParams(**fields, iterations=int(values[iterations]))


def read_image(data: bytes, name: str, limits: Limits, say: Say) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes an image file.

    Args:
        data: the file.
        name: what messages call it.
        limits: what is taken.
        say: gets what is assumed of the image, a sentence that begins with its name.

    Returns:
        What the network is to see, uint8 [H, W, 3], RGB, and the height and width of the image in the file.

    Raises:
        UserError: the file cannot be taken.
    """
    image = decode_upload(data, limits.max_pixels, name, say)
    height, width = image.shape[:2]
    scale = limits.max_side / max(height, width)
    if 0 < scale < 1:
        smaller = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return image, (height, width)


def draw_image(image: np.ndarray) -> str:
    """Returns an image, uint8 [H, W, 3], as a data URL."""
    return _data_url("image/jpeg", visualize.encode_jpeg(image, _PICTURE_PIXELS))


def draw_labels(labels: np.ndarray, info: DatasetInfo, seconds: float) -> dict[str, Any]:
    """Draws a result.

    Args:
        labels: uint8 [H, W].
        info: the classes.
        seconds: that it took.

    Returns:
        `layer`, the colours to lay over the image, and `labels`, the labels as a palette PNG, both as data URLs;
        `shares`, the classes in it with their colours and their shares of the pixels; `seconds`.
    """
    return {
        "layer": _data_url("image/png", visualize.encode_layer_png(labels, info.palette, info.background_label)),
        "labels": _data_url("image/png", visualize.encode_palette_png(labels, info.palette)),
        "shares": [
            {"name": name, "colour": info.palette[info.class_names.index(name)], "share": _percent(share)}
            for name, share in largest_shares(labels, info)
        ],
        "seconds": round(seconds, 2),
    }


def render(model: ServedModel, limits: Limits) -> str:
    """Returns the page, as HTML.

    Args:
        model: the model.
        limits: what is taken.
    """
    taken = f"up to {limits.max_bytes / 1e6:g} MB and {limits.max_pixels / 1e6:g} megapixels"
    told = {
        "title": model.title,
        "classes": model.info.class_names,
        "withoutCrf": model.without_crf,
        "constants": [
            {**constant._asdict(), "value": getattr(model.crf, constant.name)}
            for constant in constants_around(model.crf)
        ],
        "maxBytes": limits.max_bytes,
        "limits": taken,
    }
    template = string.Template(_file("page.html"))
    return template.substitute(
        title=html.escape(model.title),
        accept=",".join(ACCEPTED),
        limits=taken,
        told=html.escape(json.dumps(told)),
    )


def style() -> str:
    """Returns the page's CSS."""
    return _file("page.css")


def script() -> str:
    """Returns the page's JavaScript."""
    return _file("page.js")


def _file(name: str) -> str:
    return importlib.resources.files("deeplab_tf.webapp").joinpath(name).read_text(encoding="utf-8")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
