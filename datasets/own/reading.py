"""What the pixels of a data set's masks mean: the outcome of looking at all of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from deeplab_tf.dataset_info import IGNORE_LABEL

from .mask_file import Colour, Mask, packed


@dataclasses.dataclass(frozen=True)
class Reading:
    """How masks become labels. It goes to the processes that convert, and into the recipe of each shard.

    Attributes:
        names: of the classes, in the order of the labels.
        palette: the colour of each class.
        values: (mask value, label or 255) of each value that may occur.
        colours: (colour, label or 255) of each colour that may occur; empty where masks hold values.
        grey_is_colour: whether a grey level v means the colour (v, v, v), and not the value v.
        palette_is_colour: whether the colours of palette masks count, and not their indices.
        threshold: for soft masks of two classes: levels from here on are the second class; 0 for others.
        mask_frame: "upright", "stored" or "auto": on which pixels of turned photographs masks were drawn.
        fingerprint: of the annotations that labels are drawn from, where these are not a file an image.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    values: tuple[tuple[int, int], ...] = ()
    colours: tuple[tuple[Colour, int], ...] = ()
    grey_is_colour: bool = False
    palette_is_colour: bool = False
    threshold: int = 0
    mask_frame: str = "auto"
    fingerprint: str = ""

    def table(self, coloured: bool, has_palette: bool) -> dict[int, int]:
        """Returns the label of each value of masks of one kind, colours as one number (`mask_file.packed`).

        Args:
            coloured: whether the masks hold colours.
            has_palette: whether they have a palette.
        """
        if coloured or (has_palette and self.palette_is_colour):
            return {packed(colour): label for colour, label in self.colours}
        if self.grey_is_colour:
            return {red: label for (red, green, blue), label in self.colours if red == green == blue}
        return dict(self.values)


def labels_of(mask: Mask, reading: Reading) -> tuple[np.ndarray, list[int]]:
    """Turns a mask into labels.

    Returns:
        uint8 [H, W], labels and 255; and the values without a meaning, which are 255 there. Of masks of which no value
        changes, the labels are `mask.values` itself.
    """
    if reading.threshold:
        return (mask.values >= reading.threshold).astype(np.uint8), []
    by_palette = mask.palette is not None and reading.palette_is_colour
    table = reading.table(mask.coloured, mask.palette is not None)
    if mask.values.dtype == np.uint8:
        used = np.flatnonzero(np.bincount(mask.values.ravel(), minlength=256))
    else:
        used = np.unique(mask.values)
    keys = used.tolist()
    if by_palette and mask.palette is not None:
        keys = [packed(mask.palette[index]) if index < len(mask.palette) else -1 for index in keys]
    unknown = [key for key in keys if key not in table]
    labels = np.array([table.get(key, IGNORE_LABEL) for key in keys], np.uint8)
    if mask.values.dtype == np.uint8:
        if np.array_equal(labels, used):
            return mask.values, unknown
        lookup = np.zeros(256, np.uint8)
        lookup[used] = labels
        return lookup[mask.values], unknown
    return labels[np.searchsorted(used, mask.values)], unknown
