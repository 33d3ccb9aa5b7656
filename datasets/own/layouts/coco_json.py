"""COCO JSON with categories of one's own, as CVAT, Roboflow, Label Studio and many scripts write it.

    annotations/instances_train.json    train/a.jpg, images/train/a.jpg, images/a.jpg
    train/_annotations.coco.json        train/a.jpg                     Roboflow, also valid/ and test/
    result.json                         images/a.jpg                    Label Studio

Background comes first, then the categories by their ids. Objects are painted by area, the largest first; crowds do not
count. Images that no annotation belongs to are left out.
"""

from __future__ import annotations

import collections
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from deeplab_tf.dataset_info import IGNORE_LABEL
from deeplab_tf.errors import UserError

from ...messages import some
from ..annotations import background_of, label_of, malformed, read_json
from ..layout import Item, Layout, LeftOut, Place, ids_of, split_of
from ..pairing import fold
from ..tree import File
from .mask_pairs import unreadable

_TOOL = "COCO's tools"


class Document(NamedTuple):
    """An annotation file.

    Attributes:
        path: of the file.
        categories: the name of each number.
        images: what it says of each image, by number.
        annotations: those of each image, by its number.
    """

    path: Path
    categories: dict[int, str]
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]


def recognise(place: Place) -> Layout | None:
    """Looks for JSON files with images, annotations and categories."""
    if place.is_one_split:
        return None
    tree = place.tree()
    files = [
        file for file in tree.files if file.suffix == ".json" and file.path.stat().st_size and looks_like(file.path)
    ]
    if not files:
        return None
    documents = [open_document(file.path) for file in files]
    by_name: dict[str, list[File]] = collections.defaultdict(list)
    for image in tree.images():
        by_name[fold(image.name)].append(image)
    problems: list[str] = []
    found: list[tuple[Path, Path, str]] = []  # image, document, split
    empty: list[Path] = []
    missing: list[str] = []
    used: set[Path] = set()
    for file, document in zip(files, documents, strict=True):
        split = _split_of(file)
        for number, described in document.images.items():
            path = _image_path(str(described.get("file_name", "")), file, split, by_name)
            if path is None:
                if number in document.annotations:
                    missing.append(
                        f"{file.path}: expected the image {described.get('file_name')!r}, found none of this name."
                    )
                continue
            used.add(path)
            if document.annotations.get(number):
                found.append((path, file.path, split))
            else:
                empty.append(path)
    if missing:
        problems += [*missing[:20], *([f"and {len(missing) - 20} more images"] if len(missing) > 20 else [])]
    by_path = {image.path: image for image in tree.images()}
    ids = ids_of([(by_path[path].folders, path.stem) for path, _, _ in found])
    items = [Item(image_id, path, (source,), split) for image_id, (path, source, split) in zip(ids, found, strict=True)]
    left_out = [
        LeftOut("nothing is annotated in them", tuple(empty)),
        LeftOut("no JSON file lists them", tuple(image.path for image in tree.images() if image.path not in used)),
        *unreadable(tree.files),
    ]
    return Layout(
        name="COCO JSON with categories of your own",
        confidence=0.78,
        reason=f"{some([file.name for file in files], 3)} with images, annotations and categories",
        items=tuple(sorted(items)),
        form="coco_json",
        class_file=place.class_file,
        class_names=names_of(documents),
        left_out=tuple(each for each in left_out if each.paths),
        problems=tuple(problems),
        notes=("Objects are painted by area, the largest first; crowds do not count.",),
        num_images=len(tree.images()),
        num_labels=sum(len(each) for document in documents for each in document.annotations.values()),
    )


def names_of(documents: Sequence[Document]) -> tuple[str, ...]:
    """Returns the categories of all files, by number in the first file that has them."""
    names: dict[str, None] = {}
    for document in documents:
        for number in sorted(document.categories):
            names.setdefault(document.categories[number], None)
    return tuple(names)


def draw(item: Item, names: Sequence[str], size: tuple[int, int] | None) -> np.ndarray:
    """Paints the objects of an image; see `labelme.draw`."""
    from ...sources import coco  # draws polygons and run lengths
    from ...sources.coco_index import Annotation

    document = open_document(item.labels[0])
    if item.image is None:
        raise UserError(f"{document.path}: expected the image {item.image_id}, found none.")
    number = _number_of(document, item.image)
    image = document.images[number]
    try:
        height, width = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError):
        if size is None:
            raise malformed(str(document.path), _TOOL, ValueError("an image without height and width")) from None
        width, height = size
    place = f"{document.path}: {item.image.name}"
    annotations = []
    for annotation in document.annotations[number]:
        label = label_of(
            document.categories[annotation["category_id"]], names, f"{place}: annotation {annotation['id']}"
        )
        if not annotation.get("segmentation"):
            raise UserError(
                f"{place}: annotation {annotation['id']}: expected a segmentation, found none: a box alone does not say"
                " which pixels are meant. Draw polygons or masks, or delete the annotation."
            )
        content = {"id": annotation["id"], "segmentation": annotation["segmentation"]}
        crowd = bool(annotation.get("iscrowd")) or label == IGNORE_LABEL
        annotations.append(Annotation(label, crowd, content))
    labels = coco.paint(annotations, height, width, place, background=background_of(names))
    return labels


def open_document(path: Path) -> Document:
    """Reads an annotation file; it is kept for as long as it does not change.

    Raises:
        UserError: it is damaged, or what it says does not go together.
    """
    state = os.stat(path)
    return _opened(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, changed: int, size: int) -> Document:
    del changed, size
    content = read_json(path)
    try:
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        parents = {str(each.get("supercategory")) for each in content["categories"]}
        images = {int(each["id"]): each for each in content["images"]}
        annotations: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
        used = set()
        for each in content["annotations"]:
            image, category = int(each["image_id"]), int(each["category_id"])
            if image not in images or category not in categories:
                kind, number = ("a category", category) if category not in categories else ("an image", image)
                raise UserError(
                    f"{path}: annotation {each.get('id')}: expected {kind} of the file, got {number}, which it does not"
                    " list. Export the file again, or delete the annotation."
                )
            each.setdefault("id", "without id")
            each["category_id"] = category
            annotations[image].append(each)
            used.add(category)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise malformed(str(path), _TOOL, error) from None
    # Roboflow's category 0 only names the group of the others.
    categories = {
        number: name for number, name in categories.items() if number in used or name not in parents or number
    }
    return Document(path, categories, images, annotations)


def looks_like(path: Path) -> bool:
    """Says whether a file begins, or ends, like COCO's; large ones are not read for that."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(1 << 20)
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        text = head + file.read(1 << 20)
    return b'"categories"' in text and (b'"annotations"' in text or b'"image_id"' in text)


def _split_of(file: File) -> str:
    """Returns the split that the file's name or its folders say."""
    words = [word for word in re.split(r"[^a-z]+", file.stem.casefold()) if word]
    return split_of([*words, *reversed(file.folders)])


def _image_path(name: str, file: File, split: str, by_name: dict[str, list[File]]) -> Path | None:
    """Returns the image of this name: the one whose folders fit best."""
    wanted = PurePosixPath(name.replace("\\", "/"))
    candidates = by_name.get(fold(wanted.name), [])
    folders = [fold(part) for part in wanted.parts[:-1] if part not in ("..", ".", "/")]

    def fit(candidate: File) -> tuple[bool, bool, int]:
        have = [fold(part) for part in candidate.folders]
        tail = have[len(have) - len(folders) :] == folders if folders else True
        in_split = not split or split_of([re.sub(r"\d+$", "", part) for part in have]) == split
        return tail, in_split, -abs(len(have) - len(file.folders))

    if not candidates:
        return None
    best = max(candidates, key=fit)
    rivals = [each for each in candidates if fit(each) == fit(best)]
    return best.path if len(rivals) == 1 or best.path.parent == file.path.parent else rivals[0].path


def _number_of(document: Document, image: Path) -> int:
    index = _numbers(document.path, id(document.images))
    return index[fold(image.name)][0] if len(index[fold(image.name)]) == 1 else _best(document, image, index)


@functools.lru_cache(maxsize=4)
def _numbers(path: Path, version: int) -> dict[str, list[int]]:
    del version
    numbers: dict[str, list[int]] = collections.defaultdict(list)
    for number, image in open_document(path).images.items():
        numbers[fold(PurePosixPath(str(image.get("file_name", "")).replace("\\", "/")).name)].append(number)
    return numbers


def _best(document: Document, image: Path, index: dict[str, list[int]]) -> int:
    def fit(number: int) -> int:
        parts = PurePosixPath(str(document.images[number]["file_name"]).replace("\\", "/")).parts
        return sum(
            1 for one, two in zip(reversed(parts), reversed(image.parts), strict=False) if fold(one) == fold(two)
        )

    return max(index[fold(image.name)], key=fit)
