"""Stored predictions of any tool, as the results of an evaluation: FOLDER/ID.png for each image of a split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.results import Example, Result
from deeplab_tf.images.files import decode, open_image, read_bytes


def read_results(
    folder: str, examples: Iterable[Example], info: DatasetInfo, leave_out: Callable[[UserError], None]
) -> Iterator[Result]:
    """Reads the predicted labels of examples.

    Args:
        folder: with a PNG for each: FOLDER/ID.png, or without the folders of its id. Its values are class indices, with
            or without a palette; or colours, all of them of the data set's palette.
        examples: of a split.
        info: its classes.
        leave_out: gets to know which image has no prediction, or none that fits; the others go on.

    Yields:
        A result for each example with a prediction.

    Raises:
        UserError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--predictions={folder} is not a folder; name one that holds a PNG of labels for each image.")
    for image_id, image, truth in examples:
        try:
            yield Result(image_id, image, truth, _read(folder, image_id, image.shape[:2], info), None, None, None)
        except UserError as error:
            leave_out(error)


def _read(folder: str, image_id: str, size: tuple[int, ...], info: DatasetInfo) -> np.ndarray:
    """Reads uint8 [H, W] of one image."""
    path = os.path.join(folder, f"{image_id}.png")
    flat = os.path.join(folder, f"{os.path.basename(image_id)}.png")
    if not os.path.exists(path) and os.path.exists(flat):
        path = flat
    image = open_image(read_bytes(path, "prediction"), path, "prediction", ("PNG",))
    decode(image, path, "prediction")
    height, width = size
    if image.size != (width, height):
        raise UserError(
            f"{path}: expected labels of {width}x{height} pixels, as the image has, got {image.width}x{image.height}."
            " Resize them without interpolation."
        )
    if image.mode in ("RGB", "RGBA"):
        return _labels_of_colours(np.asarray(image.convert("RGB")), path, info)
    if image.mode not in ("P", "L") and not image.mode.startswith("I"):
        raise UserError(f"{path}: expected class indices, one channel of 8 bits, got Pillow mode {image.mode}.")
    return _checked(np.asarray(image), path, info)


def _checked(labels: np.ndarray, path: str, info: DatasetInfo) -> np.ndarray:
    highest = int(labels.max())
    if highest >= info.num_classes:
        raise UserError(
            f"{path}: expected class indices 0..{info.num_classes - 1}, got {highest}. Every pixel needs a class of the"
            f" data set, {info.name}."
        )
    return labels.astype(np.uint8)


def _labels_of_colours(colours: np.ndarray, path: str, info: DatasetInfo) -> np.ndarray:
    """Looks up the classes of colours, uint8 [H, W, 3]."""
    numbers = colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)  # [H, W]
    known = {red * 65536 + green * 256 + blue: label for label, (red, green, blue) in enumerate(info.palette)}
    found, places = np.unique(numbers, return_inverse=True)
    unknown = [int(number) for number in found if int(number) not in known]
    if unknown or len(known) < info.num_classes:
        what = f"the colour #{unknown[0]:06x}, which no class has" if unknown else "colours that several classes have"
        raise UserError(f"{path}: expected class indices, got {what}. Write the indices as a grey or palette PNG.")
    return np.array([known[int(number)] for number in found], np.uint8)[places].reshape(numbers.shape)
