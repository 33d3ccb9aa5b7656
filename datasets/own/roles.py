"""What the names of folders and files say: images, masks, or pictures of masks to look at."""

from __future__ import annotations

import re
from typing import NamedTuple

_IMAGES = set(
    "images image imgs img jpegimages photos photo pictures picture rgb frames inputs input leftimg8bit image2".split()
)
_MASKS = set(
    "masks mask labels label lbl lbls annotations annotation annots annot annos anno anns ann segmentations"
    " segmentation seg segs segmentationclass segmentationclasspng segmentationclassnpy segmentationclassraw gt"
    " groundtruth targets target labelids gtfine semantic".split()
)
# Coloured pictures of the labels, and masks of objects instead of classes.
_TO_LOOK_AT = set(
    "segmentationclassvisualization segmentationobject segmentationobjectpng segmentationobjectnpy"
    " segmentationobjectvisualization masks_human visualization visualizations visualisation overlay overlays vis"
    " preview"
    " previews".split()
)
_ENDING = re.compile(r"(?P<rest>.+?)(?P<word>annot|annotations|masks?|labels?|images?|imgs?)")
LOOK_ENDINGS = tuple(
    "_color _colors _colour _vis _viz _visualization _overlay _instanceids _instancetrainids _instance".split()
)
"""What often ends the names of pictures of masks, and of masks of objects, where masks of classes lie beside them."""
MASK_ENDINGS = tuple(
    "_mask -mask .mask _masks _seg _segmentation _label _labels _labelids _gt _annotation _lbl _l".split()
)
"""What often follows an image's name in the name of its mask, in small letters."""


class Role(NamedTuple):
    """What a folder is for.

    Attributes:
        kind: "image", "mask", "look" (pictures of masks), or "" where the name does not say.
        rest: what is left of the name without the word that says so, such as "train" of "train_masks".
    """

    kind: str
    rest: str


def role_of(folder: str) -> Role:
    """Returns what a folder's name says of it."""
    name = folder.casefold()
    if name in _TO_LOOK_AT:
        return Role("look", "")
    tokens = [token for token in re.split(r"[\s_.-]+", name) if token]
    joined = "".join(tokens)
    for kind, words in (("mask", _MASKS), ("image", _IMAGES)):
        if joined in words:
            return Role(kind, "")
        rest = [token for token in tokens if token not in words]
        if len(rest) < len(tokens):
            return Role(kind, "_".join(rest))
    match = _ENDING.fullmatch(name)
    if match:
        return Role("image" if match["word"].startswith("im") else "mask", match["rest"])
    return Role("", name)


class Seat(NamedTuple):
    """Where a file lies: what the nearest folder that says anything is for, and the place without such words."""

    kind: str
    place: tuple[str, ...]
    folder: tuple[str, ...]


def seat_of(folders: tuple[str, ...]) -> Seat:
    """Returns what the folders of a file say of it; the innermost that says anything counts.

    Returns:
        Its `folder` runs down to the folder that says so.
    """
    kind, deepest = "", 0
    place = []
    for depth, folder in enumerate(folders, 1):
        role = role_of(folder)
        if role.kind:
            kind, deepest = role.kind, depth
            if role.rest:
                place.append(role.rest)
        else:
            place.append(folder)
    return Seat(kind, tuple(place), folders[:deepest])
