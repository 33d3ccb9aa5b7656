"""What the modules of `DATASETS` are given, and what they give back.

Each module of `DATASETS` provides the same four functions, so that the converter knows none of them:

    info(source) -> DatasetInfo                   the classes
    splits(source) -> list[str]                   the splits to write where none is named, in the order to write them
    ids(source, split) -> list[str]               the images of one split, in the order to store them
    example(source, split, image_id) -> Example   one image with its labels, read and validated

A module may have two more:

    resolve(source) -> (name, source)             the data set that reads these files, where it is another one
    prepare(source) -> (source, paragraph)        looks at everything before the first image is stored, and says what
                                                  was found, for the other four and for the user

Each raises UserError for what the user can mend, and reads no more than its answer needs: listing ids
decodes no image. None of them needs TensorFlow: `example` runs in processes that do not import it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .own.reading import Reading


@dataclasses.dataclass(frozen=True)
class Source:
    """The flags that say where raw files are and how to read them.

    Attributes:
        root: the data set's folder; "" where the data set needs none or other places are named.
        image_dir: folder of images, instead of ROOT/images.
        mask_dir: folder of masks, instead of ROOT/masks.
        classes: class names, index 0 first, or one file of them, instead of ROOT/classes.txt.
        ignore_label: the mask value, 0..65535, of pixels that are not to count; stored as 255. None where no flag says
            so. 255 itself never counts.
        val_fraction: share of the images, in (0, 1), that becomes val where no split files exist.
        split_names: the requested splits; empty for all that exist.
        sbd_root: the folder of SBD, where it is not below root.
        year: the year of the data set, where root has several; 0 for the only one.
        values: the mask value of each class, in the order of the classes; empty for 0, 1, 2, ...
        threshold: soft masks of two classes: levels from here on are the second class; 0 for hard masks.
        mask_suffix: what follows an image's name in its mask's name; "" to find out.
        mask_frame: on what masks of turned photographs were drawn: "upright", "stored" or "auto".
        id_file: a list of images; only these are needed.
        reading: what the masks of a folder mean, once all of them were looked at.
        scratch: folder for what a module derives from the raw files and shares between the processes of one
            conversion; "" for a temporary one.
    """

    root: str = ""
    image_dir: str = ""
    mask_dir: str = ""
    classes: tuple[str, ...] = ()
    ignore_label: int | None = None
    val_fraction: float = 0.1
    split_names: tuple[str, ...] = ()
    sbd_root: str = ""
    year: int = 0
    values: tuple[int, ...] = ()
    threshold: int = 0
    mask_suffix: str = ""
    mask_frame: str = "auto"
    id_file: str = ""
    reading: Reading | None = None
    scratch: str = ""


class Example(NamedTuple):
    """One image with its labels, on the way from raw files to a TFRecord.

    Attributes:
        image_id: unique in its split.
        image: an encoded 8-bit RGB or grey JPEG or PNG.
        labels: uint8 [H, W], class indices and 255 (ignore), of the image's size; None in a test split.
        files: the raw files that it was read from.
        labels_png: the labels as they are to be stored, where a raw file has them so; b"" for them to be encoded.
    """

    image_id: str
    image: bytes
    labels: np.ndarray | None
    files: tuple[Path, ...] = ()
    labels_png: bytes = b""

    def with_labels(self, labels: np.ndarray) -> Example:
        """Returns the example with other labels, uint8 of the image's size."""
        return self._replace(labels=labels, labels_png=b"")
