"""What predict.py can save of an image: a name of --save each, with what it writes and how.

`OF_EACH` are files of one image, `OF_ALL` are tables in which each image has a part.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import ItemError, UserError
from deeplab_tf.images import polygons, visualize
from deeplab_tf.runtime import files
from deeplab_tf.runtime.written import Written

_LONGEST_JPEG_SIDE = 65_535
_NARROWEST_LEGEND = 240


class Segmented(NamedTuple):
    """An image and what a model says of it.

    Attributes:
        path: of the image, for tables.
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W].
        probabilities: float32 [H, W, K]; None where the model has labels only.
        info: the classes.
        classes: the labels that cutouts, masks and polygons are about.
    """

    path: str
    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None
    info: DatasetInfo
    classes: tuple[int, ...]

    @property
    def mask(self) -> np.ndarray:
        """uint8 [H, W]: 255 where one of `classes` is, else 0."""
        return np.where(np.isin(self.labels, self.classes), 255, 0).astype(np.uint8)


class OfEach(NamedTuple):
    """A file that each image gets.

    Attributes:
        ending: of its name, after that of the image.
        help: what it is, for people.
        write: writes it to a path with this ending.
    """

    ending: str
    help: str
    write: Callable[[str, Segmented], None]


class OfAll(NamedTuple):
    """A file in which each image has a part.

    Attributes:
        file: its name.
        help: what it is, for people.
        part: that of an image.
        join: from the parts, in the order of the images, to the text of the file.
    """

    file: str
    help: str
    part: Callable[[Segmented], Any]
    join: Callable[[Iterable[Any], DatasetInfo], str]


def _write_labels(path: str, result: Segmented) -> None:
    visualize.save_palette_png(path, result.labels, result.info.palette)


def _write_indices(path: str, result: Segmented) -> None:
    _write_png(path, Image.fromarray(result.labels))


def _write_overlay(path: str, result: Segmented) -> None:
    _write_jpeg(path, visualize.draw_classes(result.image, result.labels, result.info))


def _write_legend(path: str, result: Segmented) -> None:
    _write_jpeg(path, draw_with_legend(result.image, result.labels, result.info))


def draw_with_legend(image: np.ndarray, labels: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Draws the classes over an image, uint8 [H, W, 3], and names those that its labels have; see `with_legend`."""
    present = [label for label in np.unique(labels).tolist() if label < info.num_classes]
    return with_legend(visualize.draw_classes(image, labels, info), present, info)


def with_legend(picture: np.ndarray, labels: Iterable[int], info: DatasetInfo) -> np.ndarray:
    """Puts the names of classes below a picture; a narrow one gets white at its right.

    Args:
        picture: uint8 [H, W, 3], RGB.
        labels: the classes, 0..K-1.
        info: their names and colours.

    Returns:
        uint8 [height, width, 3], RGB; the size depends only on that of the picture and on the classes.
    """
    labels = list(labels)
    names, palette = [info.class_names[label] for label in labels], [info.palette[label] for label in labels]
    key = visualize.legend(names, palette, max(picture.shape[1], _NARROWEST_LEGEND))
    widened = np.pad(picture, ((0, 0), (0, key.shape[1] - picture.shape[1]), (0, 0)), constant_values=255)
    return np.concatenate([widened, key])


def _write_mask(path: str, result: Segmented) -> None:
    _write_png(path, Image.fromarray(result.mask))


def _write_cutout(path: str, result: Segmented) -> None:
    _write_png(path, Image.fromarray(np.dstack([result.image, result.mask])))


def _write_polygons(path: str, result: Segmented) -> None:
    regions = polygons.regions_of(result.labels, result.classes)
    files.write_text(path, json.dumps(polygons.to_geojson(regions, result.info.class_names)) + "\n")


def _write_probabilities(path: str, result: Segmented) -> None:
    array = result.probabilities
    if array is not None:
        files.write_atomically(path, lambda temporary: np.save(temporary, array))


def _coco_of(result: Segmented) -> dict[str, Any]:
    height, width = result.labels.shape
    regions = polygons.regions_of(result.labels, result.classes)
    image = {"file_name": result.path, "height": height, "width": width}
    return {"image": image, "annotations": polygons.to_coco(regions, (height, width))}


def _join_coco(parts: Iterable[dict[str, Any]], info: DatasetInfo) -> str:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, part in enumerate(parts, 1):
        images.append({"id": image_id, **part["image"]})
        for annotation in part["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    categories = [{"id": label, "name": name} for label, name in enumerate(info.class_names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}) + "\n"


def shares_of(labels: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Returns the share of the pixels that each class has in labels uint8 [H, W]: float64 [K], 0..1."""
    return np.bincount(labels.ravel(), minlength=info.num_classes)[: info.num_classes] / labels.size


def largest_shares(labels: np.ndarray, info: DatasetInfo) -> list[tuple[str, float]]:
    """Returns the names of the classes in labels uint8 [H, W] and their shares of the pixels, largest first."""
    shares = shares_of(labels, info)
    order = np.argsort(-shares, kind="stable")
    return [(info.class_names[label], float(shares[label])) for label in order if shares[label]]


def _shares_of(result: Segmented) -> list[Any]:
    height, width = result.labels.shape
    return [result.path, width, height, *(f"{share:.6f}" for share in shares_of(result.labels, result.info))]


def _join_shares(parts: Iterable[list[Any]], info: DatasetInfo) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["image", "width", "height", *info.class_names], *parts])
    return text.getvalue()


def _pixels_of(result: Segmented) -> np.ndarray:
    return np.bincount(result.labels.ravel(), minlength=result.info.num_classes)[: result.info.num_classes]


def _join_pixels(parts: Iterable[np.ndarray], info: DatasetInfo) -> str:
    counts = np.array([*parts], np.int64).reshape(-1, info.num_classes)  # [images, K]
    pixels, images = counts.sum(axis=0), (counts > 0).sum(axis=0)
    total = max(int(pixels.sum()), 1)
    text = io.StringIO()
    rows = zip(info.class_names, pixels, (f"{share:.6f}" for share in pixels / total), images, strict=True)
    csv.writer(text, lineterminator="\n").writerows([["class", "pixels", "share", "images"], *rows])
    return text.getvalue()


OF_EACH = {
    "labels": OfEach(".png", "class indices, a PNG with a palette", _write_labels),
    "indices": OfEach(
        "_indices.png",
        "class indices, a plain grey PNG, for OpenCV and TensorFlow, which do not read palettes",
        _write_indices,
    ),
    "overlay": OfEach("_overlay.jpg", "the image with the classes drawn over it", _write_overlay),
    "legend": OfEach("_legend.jpg", "the overlay with a legend of its classes below", _write_legend),
    "mask": OfEach("_mask.png", "a grey PNG, 255 for pixels of --classes, otherwise 0", _write_mask),
    "cutout": OfEach("_cutout.png", "the image, transparent except for pixels of --classes", _write_cutout),
    "polygons": OfEach(".geojson", "the outlines of all regions of --classes in pixels, as GeoJSON", _write_polygons),
    "probabilities": OfEach("_probabilities.npy", "float32 [H, W, classes]", _write_probabilities),
}
"""What can be saved of each image."""

OF_ALL = {
    "coco": OfAll("coco.json", "the outlines of all regions of --classes, as COCO annotations", _coco_of, _join_coco),
    "shares": OfAll("shares.csv", "the share of each class in each image, 0..1", _shares_of, _join_shares),
    "classes": OfAll(
        "classes.csv",
        "a row per class: its pixels in all images, their share (0..1), and how many images show the class",
        _pixels_of,
        _join_pixels,
    ),
}
"""What can be saved of all images together."""

OF_VIDEOS = {
    "overlay": ("_overlay.mp4", "the video with the classes drawn over it"),
    "legend": ("_legend.mp4", "the overlay with a legend of all classes below"),
    "frames": ("/000000.png, ...", "the labels of each frame"),
}
"""What can be saved of videos: the end of the name, and what it is."""

OF_IMAGES = (*OF_EACH, *OF_ALL)
SAVE = tuple(dict.fromkeys((*OF_IMAGES, *OF_VIDEOS)))
"""The names that --save takes."""


def describe() -> str:
    """Says what can be saved, for --help."""
    of_each = [f"{name}: OUT/STEM{kind.ending}, {kind.help}." for name, kind in OF_EACH.items()]
    of_all = [f"{name}: OUT/{kind.file}, {kind.help}." for name, kind in OF_ALL.items()]
    of_videos = [f"{name}: OUT/STEM{ending}, {text}." for name, (ending, text) in OF_VIDEOS.items()]
    return "\n".join(["Of images:", *of_each, *of_all, "Of videos:", *of_videos])


def labels_of_names(names: Iterable[str], info: DatasetInfo) -> tuple[int, ...]:
    """Returns the labels of --classes; without any, of all classes but the background.

    Raises:
        UserError: a name that is not a class of the model.
    """
    names = list(names)
    unknown = [name for name in names if name not in info.class_names]
    if unknown:
        raise UserError(f"--classes names {', '.join(unknown)}; the classes are {', '.join(info.class_names)}.")
    if names:
        return tuple(info.class_names.index(name) for name in names)
    return tuple(label for label in range(info.num_classes) if label != info.background_label)


@dataclasses.dataclass(frozen=True)
class Results:
    """Writes what is to be saved of images into a folder.

    Attributes:
        out_dir: an existing folder.
        save: names of `SAVE`; those that do not concern images count for nothing here.
        written: gets to know what is written; None for not.
        parts: of the tables, by their names and the names of the images.
    """

    out_dir: str
    save: Collection[str]
    written: Written | None = None
    parts: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def write(self, name: str, result: Segmented) -> None:
        """Writes all of an image, and keeps its parts of the tables; for any thread.

        Args:
            name: that of the image's results, with slashes where they go to their own folder.
            result: of the image.

        Raises:
            ItemError: a file of this name, or a picture of this size, cannot be written. The others are.
            UserError: nothing can be written.
        """
        for kind, table in OF_ALL.items():
            if kind in self.save:
                self.parts.setdefault(kind, {})[name] = table.part(result)
        refused: list[ItemError] = []
        for file, write in files_of(name, self.save):
            path = os.path.join(self.out_dir, file)
            try:
                if os.path.dirname(file):
                    files.make_folder_of(path)
                with self.listing(file):
                    write(path, result)
            except ItemError as error:
                refused.append(error)
        if refused:
            raise ItemError(" ".join(map(str, refused)))

    def write_tables(self, names: Iterable[str], info: DatasetInfo) -> None:
        """Writes the tables, with the parts of those images that have some, in the order of `names`.

        Raises:
            UserError: they cannot be written.
        """
        names = list(names)
        for kind, table in OF_ALL.items():
            if kind in self.save:
                parts = self.parts.get(kind, {})
                text = table.join((parts[name] for name in names if name in parts), info)
                with self.listing(table.file):
                    files.write_text(os.path.join(self.out_dir, table.file), text)

    def listing(self, file: str) -> contextlib.AbstractContextManager[None]:
        """Writes down, where there is a list, that a file of `out_dir` is written in the block."""
        return contextlib.nullcontext() if self.written is None else self.written.writing(file)


def files_of(name: str, save: Collection[str]) -> Iterator[tuple[str, Callable[[str, Segmented], None]]]:
    """Yields the files that an image gets, relative to OUT, and what writes them."""
    for kind, each in OF_EACH.items():
        if kind in save:
            yield f"{name}{each.ending}", each.write


def _write_jpeg(path: str, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    if max(height, width) > _LONGEST_JPEG_SIDE:
        raise ItemError(
            f"cannot write {path}: a JPEG has at most {_LONGEST_JPEG_SIDE} pixels a side, and this picture has"
            f" {width}x{height}. Save its labels, or cut it."
        )
    visualize.save_image(path, picture)


def _write_png(path: str, picture: Image.Image) -> None:
    files.write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
