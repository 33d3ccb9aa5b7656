"""Raw data sets in miniature, each in the layout of its release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

from datasets.source import Source
from deeplab_tf.dataset_info import pascal_palette

HEIGHT, WIDTH = 20, 30


class Tree(NamedTuple):
    """A small raw data set, and where to damage it.

    Attributes:
        dataset: its name.
        source: what the flags say.
        image: an image of the first split.
        labels: the file with this image's labels.
        ids: the list that names the image; None where the files themselves do.
    """

    dataset: str
    source: Source
    image: Path
    labels: Path
    ids: Path | None


def photo(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """A smooth uint8 [height, width, 3] picture: JPEG keeps it nearly as it is."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def save_photo(path: Path, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(height, width, seed)).save(path)


def save_palette_mask(path: Path, labels: np.ndarray, palette: Any = None) -> None:
    mask = Image.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    mask.putpalette([level for colour in palette or pascal_palette(256) for level in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)


def save_grey_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def write_list(path: Path, entries: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in entries))
    return path


def structs(fields: dict[str, Any], *rows: tuple[Any, ...]) -> np.ndarray:
    """A 1xN struct array as MATLAB has them; `fields` only gives the names."""
    result = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for index, row in enumerate(rows):
        result[0, index] = row
    return result


def save_sbd(path: Path, segmentation: np.ndarray) -> None:
    """cls/ID.mat of SBD: boundaries of 20 classes as sparse matrices, the labels, the classes that occur."""
    boundaries = np.zeros((20, 1), dtype=object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_matrix(np.eye(*segmentation.shape, index))
    present = np.unique(segmentation[segmentation > 0])[:, None]
    names = dict.fromkeys(("Boundaries", "Segmentation", "CategoriesPresent"))
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = structs(names, (boundaries, segmentation, present))
    scipy.io.savemat(path, {"GTcls": truth}, do_compression=True)


def save_context(path: Path, label_map: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"LabelMap": label_map.astype(np.uint16)}, do_compression=True)


def save_parts(
    path: Path, *objects: tuple[str, dict[str, np.ndarray]], shape: tuple[int, int] = (HEIGHT, WIDTH)
) -> None:
    """Annotations_Part/ID.mat of PASCAL-Part: (class, masks of its parts) of each object; no parts are a 0x0 array."""
    part_names = dict.fromkeys(("part_name", "mask"))
    rows = []
    for name, parts in objects:
        of_object = structs(part_names, *parts.items()) if parts else np.zeros((0, 0))
        rows.append((name, np.array([[15.0]]), np.ones(shape, np.uint8), of_object))
    found = structs(dict.fromkeys(("class", "class_ind", "mask", "parts")), *rows)
    anno = structs(dict.fromkeys(("imname", "objects")), (path.stem, found))
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"anno": anno}, do_compression=True)


def box(value: int, rows: slice = slice(4, 12), columns: slice = slice(6, 20)) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH] with a box of `value` on 0."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[rows, columns] = value
    return labels


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """A polygon as COCO has it."""
    return [left, top, right, top, right, bottom, left, bottom]


def make_voc(root: Path) -> Tree:
    """VOC with two training images, one for validation and none from SBD."""
    voc = root / "VOCdevkit" / "VOC2012"
    for split, ids in {"train": ["2007_000001", "2007_000002"], "val": ["2007_000003"]}.items():
        write_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
        for image_id in ids:
            save_photo(voc / "JPEGImages" / f"{image_id}.jpg", seed=int(image_id[-1]))
            save_palette_mask(voc / "SegmentationClass" / f"{image_id}.png", box(8))
    first = "2007_000001"
    return Tree(
        "voc12",
        Source(root=str(root)),
        voc / "JPEGImages" / f"{first}.jpg",
        voc / "SegmentationClass" / f"{first}.png",
        voc / "ImageSets" / "Segmentation" / "train.txt",
    )


def make_voc_with_sbd(root: Path) -> Tree:
    """VOC and SBD, whose train has one image of VOC's train, and whose val has one of VOC's val."""
    tree = make_voc(root)
    sbd = root / "benchmark_RELEASE" / "dataset"
    lists = {"train": ["2008_000004", "2007_000002"], "val": ["2007_000003", "2008_000005"]}
    for split, ids in lists.items():
        write_list(sbd / f"{split}.txt", ids)
        for image_id in ids:
            save_photo(tree.image.parent / f"{image_id}.jpg", seed=int(image_id[-1]))
            save_sbd(sbd / "cls" / f"{image_id}.mat", box(12))
    return Tree(
        "voc12",
        Source(root=str(root), split_names=("trainaug",)),
        tree.image.parent / "2008_000004.jpg",
        sbd / "cls" / "2008_000004.mat",
        sbd / "train.txt",
    )


def make_voc2010(root: Path) -> Path:
    voc = root / "VOCdevkit" / "VOC2010"
    for split, ids in {"train": ["2008_000001", "2008_000002"], "val": ["2008_000003"]}.items():
        write_list(voc / "ImageSets" / "Main" / f"{split}.txt", ids)
        for image_id in ids:
            save_photo(voc / "JPEGImages" / f"{image_id}.jpg", seed=int(image_id[-1]))
    return voc


def make_context(root: Path) -> Tree:
    voc = make_voc2010(root)
    for number in (1, 2, 3):
        label_map = np.full((HEIGHT, WIDTH), 420)  # tree
        label_map[:, :10] = 397  # table
        label_map[:5] = 431  # unknown
        save_context(root / "trainval" / f"2008_00000{number}.mat", label_map)
    return Tree(
        "pascal_context",
        Source(root=str(root)),
        voc / "JPEGImages" / "2008_000001.jpg",
        root / "trainval" / "2008_000001.mat",
        voc / "ImageSets" / "Main" / "train.txt",
    )


def make_person_part(root: Path) -> Tree:
    voc = make_voc2010(root)
    head, foot = box(1, slice(0, 5)), box(1, slice(15, 20))
    for number in (1, 2, 3):
        person = ("person", {"head": head, "lfoot": foot})
        save_parts(root / "Annotations_Part" / f"2008_00000{number}.mat", ("dog", {"head": box(1)}), person)
    return Tree(
        "person_part",
        Source(root=str(root)),
        voc / "JPEGImages" / "2008_000001.jpg",
        root / "Annotations_Part" / "2008_000001.mat",
        voc / "ImageSets" / "Main" / "train.txt",
    )


def make_cityscapes(root: Path) -> Tree:
    for split, kind in (("train", "gtFine"), ("val", "gtFine"), ("test", ""), ("train_extra", "gtCoarse")):
        for number in (1, 2):
            name = f"ulm_00000{number}_000019"
            save_photo(root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png", seed=number)
            if kind:
                labels = box(7)  # road, on 0 (unlabelled)
                save_grey_mask(root / kind / split / "ulm" / f"{name}_{kind}_labelIds.png", labels)
    first = "ulm_000001_000019"
    return Tree(
        "cityscapes",
        Source(root=str(root), split_names=("train", "val")),
        root / "leftImg8bit" / "train" / "ulm" / f"{first}_leftImg8bit.png",
        root / "gtFine" / "train" / "ulm" / f"{first}_gtFine_labelIds.png",
        None,
    )


COCO_CATEGORIES = {
    1: "person",
    2: "bicycle",
    3: "car",
    4: "motorcycle",
    5: "airplane",
    6: "bus",
    7: "train",
    9: "boat",
    16: "bird",
    17: "cat",
    18: "dog",
    19: "horse",
    20: "sheep",
    21: "cow",
    44: "bottle",
    52: "banana",
    62: "chair",
    63: "couch",
    64: "potted plant",
    67: "dining table",
    72: "tv",
}


def coco_image(number: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012d}.jpg", "height": HEIGHT, "width": WIDTH, "license": 1}


def coco_object(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": 12.5,
        "bbox": [0, 0, 1, 1],
    }


def write_coco(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    """An annotation file with its lists in the order of the releases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in COCO_CATEGORIES.items()]
    content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    path.write_text(json.dumps({**content, "categories": categories}))


def make_coco(root: Path) -> Tree:
    """Image 1 has a cat, image 2 a banana and a crowd of people, image 3 a cat and a banana."""
    annotations = root / "annotations" / "instances_train2017.json"
    objects = [
        coco_object(11, 1, 17, [rectangle(5, 5, 15, 15)]),
        coco_object(12, 2, 52, [rectangle(5, 5, 15, 15)]),
        coco_object(13, 3, 17, [rectangle(5, 5, 15, 15)]),
        coco_object(14, 3, 52, [rectangle(15, 5, 25, 15)]),
        coco_object(15, 2, 1, {"size": [HEIGHT, WIDTH], "counts": [0, 40, HEIGHT * WIDTH - 40]}, crowd=1),
    ]
    write_coco(annotations, [coco_image(number) for number in (3, 1, 2)], objects)
    for number in (1, 2, 3):
        save_photo(root / "train2017" / f"{number:012d}.jpg", seed=number)
    return Tree("coco", Source(root=str(root)), root / "train2017" / f"{1:012d}.jpg", annotations, None)


def make_folder(root: Path, count: int = 10) -> Tree:
    """Images with grey masks: a row of class 0 above one of the classes 0..2."""
    for index in range(count):
        save_photo(root / "images" / f"img{index}.{'jpg' if index % 2 else 'PNG'}", 12, 16, index)
        labels = np.full((12, 16), index % 3)
        labels[0] = 0
        save_grey_mask(root / "masks" / f"img{index}.png", labels)
    write_list(root / "classes.txt", ["ground", "road", "car"])
    return Tree("folder", Source(root=str(root)), root / "images" / "img1.jpg", root / "masks" / "img1.png", None)


MAKERS = {
    "voc12": make_voc,
    "sbd": make_voc_with_sbd,
    "pascal_context": make_context,
    "person_part": make_person_part,
    "cityscapes": make_cityscapes,
    "coco": make_coco,
    "folder": make_folder,
}
