"""What a model says of an image, and what people want of that: a picture, a file, outlines, shares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images import polygons
from deeplab_tf.images.results import OF_EACH, Segmented, draw_with_legend, labels_of_names, largest_shares
from deeplab_tf.runtime import files

_KINDS = {".png": "labels", ".jpg": "overlay", ".jpeg": "overlay", ".geojson": "polygons", ".npy": "probabilities"}


class Prediction(NamedTuple):
    """What a model predicts for an image. A notebook shows it as a picture.

    Attributes:
        image: uint8 [H, W, 3], RGB, upright.
        labels: uint8 [H, W], the most probable class of each pixel.
        probabilities: float32 [H, W, K], after the CRF where there is one; None where the model has labels only.
        info: the classes: names, colours, which one is the background.
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    info: DatasetInfo

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all K classes: `names[label]`."""
        return self.info.class_names

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class that was found, 0..1, by its name; the largest first."""
        return dict(largest_shares(self.labels, self.info))

    def plot(self) -> Image.Image:
        """Draws the classes over the image, with their names below.

        Returns:
            An RGB picture as wide as the image, or 240 pixels. `.show()` opens it, and a notebook shows it.
        """
        return Image.fromarray(draw_with_legend(self.image, self.labels, self.info))

    def polygons(self, classes: Sequence[str] = ()) -> list[polygons.Region]:
        """Finds the outlines of all regions, along the borders of pixels.

        Args:
            classes: names of the classes, in the order of the result; all but background by default.

        Returns:
            A `Region` for each group of pixels of one class that touch each other at their sides: its label, area, box,
            outline, holes and mask. `save("cat.geojson")` writes them as GeoJSON.

        Raises:
            UserError: a name that is not a class of the model.
        """
        return list(polygons.regions_of(self.labels, self._labels_of(classes)))

    def save(
        self,
        path: str | os.PathLike[str],
        kind: str = "",
        classes: Sequence[str] = (),
        overwrite: bool = False,
    ) -> str:
        """Writes a file, as predict.py does.

        Args:
            path: of the file. Its ending says what is written: .png the labels, as class indices with a palette; .jpg
                the classes drawn over the image; .geojson the outlines; .npy the probabilities.
            kind: something else: labels, indices, overlay, legend, mask, cutout, polygons or probabilities, what the
                --save of predict.py takes.
            classes: names of the classes that a mask, a cutout and polygons are about; all but background by default.
            overwrite: replace a file of that name.

        Returns:
            The path.

        Raises:
            UserError: a file of that name exists, an unknown kind or class, an ending that does not go with the kind,
                no probabilities, or a file that cannot be written.
        """
        path = os.fspath(path)
        ending = os.path.splitext(path)[1].lower()
        kind = kind or _KINDS.get(ending, "")
        if not kind:
            raise UserError(f"{path}: expected a name that ends in {', '.join(_KINDS)}, or a kind.")
        if kind not in OF_EACH:
            raise UserError(f"{path}: there is no kind {kind!r}: choose one of {', '.join(OF_EACH)}.")
        wanted = os.path.splitext(f"name{OF_EACH[kind].ending}")[1]
        if {ending, wanted} not in ({wanted}, {".jpg", ".jpeg"}):
            raise UserError(f"{path}: {kind} is written as {wanted}; end the name in that.")
        if kind == "probabilities" and self.probabilities is None:
            raise UserError(f"{path}: this model gives labels only; take a SavedModel or a workdir for probabilities.")
        result = Segmented(path, self.image, self.labels, self.probabilities, self.info, self._labels_of(classes))
        if os.path.lexists(path) and not overwrite:
            raise UserError(f"{path} exists, and may be the image itself: name another file, or pass overwrite=True.")
        if os.path.dirname(path):
            files.make_folder_of(path)
        OF_EACH[kind].write(path, result)
        return path

    def _labels_of(self, classes: Sequence[str]) -> tuple[int, ...]:
        names = [classes] if isinstance(classes, str) else list(classes)
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise UserError(f"there is no class {', '.join(unknown)}; the classes are {', '.join(self.names)}.")
        return labels_of_names(names, self.info)

    def __repr__(self) -> str:
        height, width = self.labels.shape
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return f"Prediction({width}x{height}: {shares})"

    def _repr_png_(self) -> bytes | None:
        return self.plot()._repr_png_()
