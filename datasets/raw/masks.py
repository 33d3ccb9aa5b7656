"""What the pixels of a mask mean: class indices, or colours by a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

from ..messages import some

Colour = tuple[int, int, int]
"""Red, green, blue in 0..255."""


def labels_of_indices(
    path: str | os.PathLike[str],
    values: np.ndarray,
    found: Sequence[Colour] | None,
    stretch: int,
    num_classes: int,
    ignore_label: int,
    palette: Sequence[Colour],
) -> np.ndarray:
    """Turns the pixels of a palette or grey image into labels.

    Args:
        path: where it was read, for messages.
        values: integers [H, W], indices or levels.
        found: its palette; None for a grey image.
        stretch: what Pillow has multiplied the stored values by.
        num_classes: K; values 0..K-1 are classes.
        ignore_label: the value that means 255; 255 itself always does.
        palette: see `raw_files.read_mask`.

    Returns:
        uint8 [H, W], values 0..K-1 and 255; `values` itself where these are the labels.

    Raises:
        UserError: there are other values, or an index that is used has another colour than in `palette`.
    """
    if values.dtype != np.uint8:
        values = values.astype(np.int64)
    used = _distinct(values).astype(np.int64)
    if found is not None:
        _check_palette(path, found, used, palette)
    meant = used // stretch
    labels = np.where((meant == ignore_label) | (meant == IGNORE_LABEL), IGNORE_LABEL, meant)
    wrong = (labels != IGNORE_LABEL) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        others = sorted({ignore_label, IGNORE_LABEL})
        raise UserError(
            f"{path}: expected class indices 0..{num_classes - 1} or the ignore value"
            f" {' or '.join(map(str, others))}, got {some(meant[wrong].tolist())}."
            " Name every class, or say which value to leave out (folder: --classes, --ignore_label)."
        )
    return values if values.dtype == np.uint8 and np.array_equal(labels, used) else _replaced(values, used, labels)


def labels_of_colours(path: str | os.PathLike[str], image: Image.Image, colours: Mapping[Colour, int]) -> np.ndarray:
    """Turns an image of colours into labels.

    Args:
        path: where it was read, for messages.
        image: decoded, of mode RGB, RGBA (transparency does not count) or P.
        colours: the label, 0..255, of each colour.

    Returns:
        uint8 [H, W], the label of each pixel's colour.

    Raises:
        UserError: there is a colour without a label.
    """
    labels = {_packed(colour): label for colour, label in colours.items()}
    if image.mode == "P":
        values = np.asarray(image)
        used = _distinct(values)
        found = palette_of(image)
        packed = [_packed(found[index]) if index < len(found) else -1 for index in used.tolist()]
    else:
        pixels = np.asarray(image.convert("RGB")).astype(np.uint32)  # [H, W, 3]
        values = pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]  # [H, W]
        used = _distinct(values)
        packed = used.tolist()
    unknown = [_shown(key) for key in packed if key not in labels]
    if unknown:
        raise UserError(
            f"{path}: expected only the colours of the classes, got {some(unknown)}. Give each a class in"
            " classes.txt, or a line 'ignore' if it does not count; soft edges come from resizing or from JPEG:"
            " export the mask again without either."
        )
    return _replaced(values, used, np.array([labels[key] for key in packed]))


def palette_of(image: Image.Image) -> list[Colour]:
    """Returns the colours of a palette image by their indices."""
    levels = image.getpalette("RGB") or []
    return list(zip(levels[::3], levels[1::3], levels[2::3], strict=True))


def _distinct(values: np.ndarray) -> np.ndarray:
    """Returns the distinct values, sorted; masks are runs of one value, so only the starts of runs are sorted."""
    flat = values.ravel()
    if flat.dtype == np.uint8:
        # Eight pixels at a time first: most of the eights are like the one before.
        eights, rest = np.split(flat, [flat.size // 8 * 8])
        flat = np.concatenate([_starts(eights.view(np.uint64)).view(np.uint8), rest])
    return np.unique(_starts(flat))


def _starts(values: np.ndarray) -> np.ndarray:
    """Returns the values, one dimension, that differ from the one before, and the first."""
    return np.concatenate([values[:1], values[1:][values[1:] != values[:-1]]])


def _replaced(values: np.ndarray, used: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns uint8, `values` with each of the distinct, sorted `used` ones replaced by its label."""
    if values.dtype != np.uint8:
        return labels.astype(np.uint8)[np.searchsorted(used, values)]
    table = np.zeros(256, np.uint8)
    table[used] = labels
    return table[values]


def _check_palette(
    path: str | os.PathLike[str], found: Sequence[Colour], used: np.ndarray, palette: Sequence[Colour]
) -> None:
    """Raises UserError where an index that is used has another colour than in `palette`."""
    for index in used.tolist():
        if index < min(len(found), len(palette)) and found[index] not in (palette[index], (index, index, index)):
            raise UserError(
                f"{path}: expected index {index} of its palette to be the colour {palette[index]}, got {found[index]}:"
                " the palette was reordered, so its indices mean other classes than in other masks. Export the mask"
                " again with the original palette, or as an 8-bit grey PNG of class indices."
            )


def _packed(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _shown(packed: int) -> str:
    return f"({packed >> 16}, {packed >> 8 & 255}, {packed & 255})" if packed >= 0 else "an index without a colour"
