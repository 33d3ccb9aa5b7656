"""From an uploaded file and the constants of the CRF to what is shown, as HTML that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import NamedTuple

import cv2
import numpy as np

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.webapp.served_model import Refined, Segmented, ServedModel
from deeplab_tf.webapp.uploads import decode_upload

EMPTY = '<div class="empty"><p>The answer comes here.</p></div>'
"""What is shown before there is an image."""

# Pictures in the page are not larger than this.
_PICTURE_PIXELS = 2048


class Limits(NamedTuple):
    """What the page takes.

    Attributes:
        max_bytes: of a file.
        max_pixels: of an image, H * W.
        max_side: longer side, in pixels, of what the network sees: larger images are scaled down. 0 for any.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 1024


class Shown(NamedTuple):
    """What one open page shows, kept so that nothing is computed twice.

    Attributes:
        digest: of the file.
        size: height and width of its image.
        segmented: the network's answer, for the image or a smaller one.
        refined: the CRF's last answer.
    """

    digest: bytes
    size: tuple[int, int]
    segmented: Segmented
    refined: Refined | None = None


def answer(
    model: ServedModel, limits: Limits, shown: Shown | None, data: bytes | None, params: CrfParams | None
) -> tuple[Shown | None, str]:
    """Answers after anything has changed: a new file asks the network, other constants ask the CRF only.

    Args:
        model: the model.
        limits: what is taken.
        shown: what this gave before for the same page.
        data: the file, or None where there is none any more.
        params: of the CRF, or None for the network's own answer.

    Returns:
        What is shown now, and the HTML; for a file that cannot be taken None, and why.
    """
    if data is None:
        return None, EMPTY
    try:
        digest = hashlib.sha256(data).digest()
        if shown is None or shown.digest != digest:
            image, size = _read(data, limits)
            shown = Shown(digest, size, model.segment(image))
        if params is not None and (shown.refined is None or shown.refined.params != params):
            shown = shown._replace(refined=model.refine(shown.segmented, params))
    except UserError as error:
        return None, f'<p class="problem" role="alert">{html.escape(str(error))}</p>'
    return shown, draw(shown, model.info, refined=params is not None)


def draw(shown: Shown, info: DatasetInfo, refined: bool) -> str:
    """Draws an answer.

    Args:
        shown: what is known.
        info: the classes.
        refined: show what the CRF made of it.

    Returns:
        HTML: the image below a layer of colours, whose opacity the style property --opacity of the page sets; the
        labels as a palette PNG, to be saved; the classes in it with their shares; and the times.
    """
    labels = shown.refined.labels if refined and shown.refined is not None else shown.segmented.labels
    picture = _data("image/jpeg", visualize.encode_jpeg(shown.segmented.image, _PICTURE_PIXELS))
    layer = _data("image/png", visualize.encode_layer_png(labels, info.palette))
    png = _data("image/png", visualize.encode_palette_png(labels, info.palette))
    shares = shares_of(labels, info)
    said = html.escape(", ".join(f"{name} {_percent(share)}" for name, share in shares))
    return (
        '<div class="shown">'
        f'<figure><div class="stack"><img class="image" alt="The image. In it: {said}." src="{picture}">'
        f'<img class="layer" alt="" src="{layer}"></div><figcaption>Overlay</figcaption></figure>'
        f'<figure><img class="labels" alt="The classes in their colours." src="{png}"><figcaption>Classes'
        f'<a class="save" download="labels.png" href="{png}">Save PNG</a></figcaption></figure>'
        f'{_legend(shares, info)}<p class="facts">{_facts(shown, refined)}</p></div>'
    )


def shares_of(labels: np.ndarray, info: DatasetInfo) -> list[tuple[str, float]]:
    """Returns the names of the classes in labels uint8 [H, W] and their shares of the pixels, largest first."""
    counts = np.bincount(labels.ravel(), minlength=info.num_classes)
    order = np.argsort(-counts, kind="stable")
    return [(info.class_names[label], float(counts[label] / labels.size)) for label in order if counts[label]]


def _read(data: bytes, limits: Limits) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns what the network is to see, uint8 [H, W, 3], and the height and width of the image in the file."""
    if len(data) > limits.max_bytes:
        raise UserError(
            f"expected a file of at most {limits.max_bytes / 1e6:g} MB, got {len(data) / 1e6:.1f} MB. Save it as JPEG, "
            "or start the page with a larger --max_megabytes."
        )
    image = decode_upload(data, limits.max_pixels)
    height, width = image.shape[:2]
    scale = limits.max_side / max(height, width)
    if 0 < scale < 1:
        smaller = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return image, (height, width)


def _legend(shares: list[tuple[str, float]], info: DatasetInfo) -> str:
    rows = []
    for name, share in shares:
        red, green, blue = info.palette[info.class_names.index(name)]
        rows.append(
            f'<li><i style="background:rgb({red},{green},{blue})"></i><b>{html.escape(name)}</b>'
            f"<span>{_percent(share)}</span></li>"
        )
    return f'<ul class="legend" aria-label="Share of the pixels">{"".join(rows)}</ul>'


def _facts(shown: Shown, refined: bool) -> str:
    facts = [f"network {shown.segmented.seconds:.2f} s"]
    if refined and shown.refined is not None:
        facts.append(f"CRF {shown.refined.seconds:.2f} s")
    (height, width), (seen_height, seen_width) = shown.size, shown.segmented.image.shape[:2]
    facts.append(f"{width} x {height} pixels")
    if (seen_height, seen_width) != (height, width):
        facts[-1] += f", scaled down to {seen_width} x {seen_height}"
    return "".join(f"<span>{fact}</span>" for fact in facts)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
