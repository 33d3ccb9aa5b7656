"""Exports of labelling tools, as they arrive."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from datasets.convert import convert
from datasets.own.layouts import label_studio_json
from datasets.source import Source
from datasets.sources import folder
from datasets.stored.manifest import read_manifest
from tests.datasets import raw_trees
from tests.datasets.own_data import HEIGHT, NAMES, WIDTH, is_right, is_told, make, read, save_image, save_mask, truth

COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
LABELMAP = ("# label:color_rgb:parts:actions", "background:0,0,0::", "disc:250,50,83::", "box:51,221,255::")


def make_voc(root: Path, colours: bool = True) -> Path:
    make(root, "JPEGImages/img_{:03}.jpg", "SegmentationClass/img_{:03}.png", classes=None,
         change=lambda labels: COLOURS[labels] if colours else labels)  # fmt: skip
    return root


@pytest.mark.parametrize("colours", [True, False])
def test_cvats_segmentation_mask(tmp_path: Path, colours: bool) -> None:
    make_voc(tmp_path, colours)
    raw_trees.write_list(tmp_path / "labelmap.txt", list(LABELMAP))
    raw_trees.write_list(tmp_path / "ImageSets" / "Segmentation" / "default.txt", [f"img_{n:03}" for n in range(4)])
    paragraph = is_right(tmp_path)
    assert "CVAT's 'Segmentation mask 1.1'" in paragraph
    assert "by a hash of each image's content" in paragraph


def test_cvats_export_without_images_is_told(tmp_path: Path) -> None:
    make_voc(tmp_path)
    raw_trees.write_list(tmp_path / "labelmap.txt", list(LABELMAP))
    for path in (tmp_path / "JPEGImages").iterdir():
        path.unlink()
    is_told(tmp_path, "expected the images in JPEGImages, found none. In CVAT, tick 'Save images'")


def test_cvats_camvid(tmp_path: Path) -> None:
    make(tmp_path, "default/img_{:03}.png", "defaultannot/img_{:03}.png", change=lambda labels: COLOURS[labels],
         classes=None)  # fmt: skip
    raw_trees.write_list(tmp_path / "label_colors.txt", ["0 0 0 background", "250 50 83 disc", "51 221 255 box"])
    raw_trees.write_list(
        tmp_path / "default.txt", [f"/default/img_{n:03}.png /defaultannot/img_{n:03}.png" for n in range(4)]
    )
    is_right(tmp_path)


@pytest.mark.parametrize("dataset", ["voc12", "folder"])
def test_own_classes_in_vocs_layout_are_no_aeroplanes(tmp_path: Path, dataset: str) -> None:
    root = make_voc(tmp_path / "VOCdevkit" / "VOC2012", colours=False)
    raw_trees.write_list(root / "class_names.txt", ["_background_", "disc", "box"])
    lists = {"train": ["img_000", "img_001"], "val": ["img_002"]}
    for split, ids in lists.items():
        raw_trees.write_list(root / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
    convert(dataset, Source(root=str(tmp_path)), str(tmp_path / "out"))
    manifest = read_manifest(tmp_path / "out")
    assert manifest.info.class_names == NAMES
    assert {name: split.ids for name, split in manifest.splits.items()} == {
        split: tuple(ids) for split, ids in lists.items()
    }


@pytest.mark.parametrize("header", ["Pixel Value, Class", "Pixel Value,Class"])
def test_roboflows_masks(tmp_path: Path, header: str) -> None:
    for split, first in (("train", 0), ("valid", 3)):
        for number in range(first, first + 3 - first // 2):
            name = f"shot_{number:03}_jpg.rf.0a1b{number}"
            save_image(tmp_path / split / f"{name}.jpg", number)
            save_mask(tmp_path / split / f"{name}_mask.png", truth(number))
        raw_trees.write_list(tmp_path / split / "_classes.csv", [header, "0, background", "1, disc", "2, box"])
    names, labels, paragraph = read(tmp_path)
    assert names == NAMES
    for image_id, stored in labels.items():
        np.testing.assert_array_equal(stored, truth(int(image_id[5:8])))
    assert len(labels) == 5
    assert "Roboflow's semantic segmentation masks" in paragraph and "train 3 images; val 2 images" in paragraph


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def labelme(root: Path, *shapes: dict[str, Any], image: bool = True, inside: bool = False, **more: Any) -> Path:
    path = save_image(root / "a.jpg", 0)
    data = base64.b64encode(path.read_bytes()).decode() if inside else None
    document = {"version": "5.4", "shapes": list(shapes), "imagePath": "..\\pictures\\a.jpg", "imageData": data}
    (root / "a.json").write_text(json.dumps({**document, "imageHeight": HEIGHT, "imageWidth": WIDTH, **more}))
    if not image:
        path.unlink()
    save_image(root / "b.jpg", 1)
    (root / "b.json").write_text(json.dumps({**document, "shapes": [shape("box", [[1, 1], [5, 1], [5, 5]])],
                                             "imageData": None, "imagePath": "b.jpg",
                                             "imageHeight": HEIGHT, "imageWidth": WIDTH}))  # fmt: skip
    return root


def drawn(kind: str, *arguments: Any) -> np.ndarray:
    canvas = Image.new("L", (WIDTH, HEIGHT))
    getattr(ImageDraw.Draw(canvas), kind)(*arguments, fill=1, outline=1)
    return np.asarray(canvas)


def test_labelmes_shapes_are_drawn_as_labelme_draws_them(tmp_path: Path) -> None:
    piece = np.zeros((4, 3), np.uint8)
    piece[1:3] = 255
    buffer = io.BytesIO()
    Image.fromarray(piece).save(buffer, "PNG")
    labelme(
        tmp_path,
        shape("box", [[2, 3], [20, 3], [20.5, 15]]),
        shape("disc", [[9, 20], [4, 12]], "rectangle"),
        shape("box", [[24, 12], [24, 17]], "circle"),
        shape("disc", [[28, 1], [30, 4]], "mask", mask=base64.b64encode(buffer.getvalue()).decode()),
        shape("__ignore__", [[0, 0], [3, 0], [3, 3], [0, 3]], None),
    )
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[drawn("polygon", [(2, 3), (20, 3), (20.5, 15)]) == 1] = 1
    expected[drawn("rectangle", [4, 12, 9, 20]) == 1] = 2
    expected[drawn("ellipse", [19, 7, 29, 17]) == 1] = 1
    expected[2:4, 28:31] = 2
    expected[0:4, 0:4] = 255
    names, labels, paragraph = read(tmp_path)
    assert names == ("background", "box", "disc")  # sorted: nothing else names them
    np.testing.assert_array_equal(labels["a"], expected)
    assert "labelme's JSON files" in paragraph


def test_labelmes_image_may_be_inside(tmp_path: Path) -> None:
    labelme(tmp_path, shape("disc", [[2, 3], [20, 3], [20, 15]]), image=False, inside=True)
    assert set(read(tmp_path)[1]) == {"a", "b"}
    labelme(tmp_path, shape("disc", [[2, 3], [20, 3], [20, 15]]), image=False)
    is_told(tmp_path, r"a\.json: expected its image .* beside it, or inside it")


def test_images_without_labelmes_file_are_counted(tmp_path: Path) -> None:
    labelme(tmp_path, shape("disc", [[2, 3], [20, 3], [20, 15]]))
    save_image(tmp_path / "c.jpg", 3)
    assert "Left out: 1 file, they have no annotation file (c.jpg)" in read(tmp_path)[2]


def test_labelmes_labels_without_a_class_and_shapes_without_an_inside_are_told(tmp_path: Path) -> None:
    raw_trees.write_list(tmp_path / "classes.txt", list(NAMES))
    labelme(tmp_path, shape("dics", [[2, 3], [20, 3], [20, 15]]))
    is_told(tmp_path, r"a\.json: shape 0: expected one of the classes .*got 'dics'\. Is it 'disc'\?")
    labelme(tmp_path, shape("disc", [[2, 3], [20, 3]], "line"), shape("disc", [[2, 3]], "point"))
    is_told(tmp_path, r"a\.json: expected shapes with an inside .*got line, point in 2 of 2 shapes")
    labelme(tmp_path, shape("disc", [[2, 3], [float("nan"), 3], [4, 5]]))
    is_told(tmp_path, r"a\.json: shape 0: expected an annotation as labelme writes it")
    (tmp_path / "a.json").write_text('{"shapes": [')
    is_told(tmp_path, r"a\.json: expected a whole JSON file")


@pytest.mark.parametrize("ending", ["png", "npy"])
def test_label_studios_masks_for_each_tag(tmp_path: Path, ending: str) -> None:
    for number in range(4):
        save_image(tmp_path / "images" / f"img_{number:03}.jpg", number)
        for label, name in ((1, "disc"), (2, "box")):
            mask = (truth(number) == label).astype(np.uint8) * 255
            save_mask(tmp_path / "masks" / f"task-{number + 7}-annotation-{number}-by-1-tag-{name}-0.{ending}", mask)
    raw_trees.write_list(tmp_path / "classes.txt", list(NAMES))
    assert "task 7 is img_000.jpg, task 10 is img_003.jpg" in is_right(tmp_path)
    (tmp_path / "images" / "img_003.jpg").unlink()
    is_told(tmp_path, "expected one image for each of Label Studio's 4 tasks, got 3")
    save_image(tmp_path / "images" / "img_003.jpg", 3)
    tasks = [
        {"id": number + 7, "data": {"image": f"/data/upload/1/0123abcd-img_{3 - number:03}.jpg"}, "annotations": []}
        for number in range(4)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    np.testing.assert_array_equal(read(tmp_path)[1]["img_000"], truth(3))


@pytest.mark.parametrize("mask", ["masks/{name}/img_{number:03}.png", "masks/img_{number:03}_{name}.png"])
def test_one_mask_for_each_class(tmp_path: Path, mask: str) -> None:
    for number in range(4):
        save_image(tmp_path / "images" / f"img_{number:03}.jpg", number)
        for label, name in ((1, "disc"), (2, "box")):
            inside = (truth(number) == label).astype(np.uint8) * 255
            save_mask(tmp_path / mask.format(name=name, number=number), inside)
    raw_trees.write_list(tmp_path / "classes.txt", list(NAMES))
    assert "one mask for each class" in is_right(tmp_path)


def test_of_masks_that_overlap_the_smaller_one_is_in_front(tmp_path: Path) -> None:
    make(tmp_path, count=2)
    shutil.rmtree(tmp_path / "masks")
    for number in range(2):
        save_mask(tmp_path / "masks" / "box" / f"img_{number:03}.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
        save_mask(tmp_path / "masks" / "disc" / f"img_{number:03}.png", (truth(number) == 1).astype(np.uint8))
    _, labels, _ = read(tmp_path)
    np.testing.assert_array_equal(labels["img_001"], np.where(truth(1) == 1, 1, 2))


def strokes(values: np.ndarray) -> list[int]:
    """Label Studio's run lengths, each run with the shortest of its sizes that will do."""
    bits = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    sizes = (3, 4, 8, 16)
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[stop] == values[start] and stop - start < 2**16:
            stop += 1
        size = next(number for number, bits_of in enumerate(sizes) if stop - start - 1 < 2**bits_of)
        bits += f"1{size:02b}{stop - start - 1:0{sizes[size]}b}{int(values[start]):08b}"
        start = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def test_label_studios_json(tmp_path: Path) -> None:
    tasks = []
    for number in range(4):
        save_image(tmp_path / "images" / f"img_{number:03}.jpg", number)
        alpha = np.repeat((truth(number) == 1).ravel() * np.uint8(255), 4)
        rows, columns = np.nonzero(truth(number) == 2)
        size = {"original_width": WIDTH, "original_height": HEIGHT}
        corners = [
            (columns.min(), rows.min()),
            (columns.max(), rows.min()),
            (columns.max(), rows.max()),
            (columns.min(), rows.max()),
        ]
        points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners]
        regions = [
            {"type": "brushlabels", "value": {"format": "rle", "rle": strokes(alpha), "brushlabels": ["disc"]}, **size},
            {"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["box"]}, **size},
        ]
        data = {"image": f"/data/upload/1/89abcdef-img_{number:03}.jpg"}
        tasks.append({"id": number + 1, "data": data, "annotations": [{"result": regions, "was_cancelled": False}]})
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    raw_trees.write_list(tmp_path / "classes.txt", list(NAMES))
    assert "Label Studio's JSON export" in is_right(tmp_path)
    tasks[2]["annotations"][0]["result"][0]["value"]["rle"] = [0, 0, 12, 0, 7]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    is_told(tmp_path, "task 3: region 0: expected an annotation as Label Studio writes it")


def test_strokes_are_decoded_by_values_too() -> None:
    bits = f"{3:032b}{7:05b}{0:04b}{1:04b}{2:04b}{3:04b}" + "0" + "01" + "10" + f"{9:08b}{8:08b}{7:08b}"
    bits += "0" * (-len(bits) % 8)
    numbers = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert label_studio_json.decode_strokes(numbers).tolist() == [9, 8, 7]


def test_superviselys_project(tmp_path: Path) -> None:
    classes = [
        {"title": "disc", "shape": "bitmap", "color": "#FF0000"},
        {"title": "box", "shape": "polygon", "color": "#00FF00"},
    ]
    (tmp_path / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    for number in range(4):
        save_image(tmp_path / "ds" / "img" / f"img_{number:03}.jpg", number)
        rows, columns = np.nonzero(truth(number) == 1)
        piece = (truth(number) == 1)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        buffer = io.BytesIO()
        alpha = piece.astype(np.uint8) * 255
        Image.fromarray(np.stack([alpha * 0 + 9] * 3 + [alpha], axis=-1)).save(buffer, "PNG")
        bitmap = {"data": base64.b64encode(zlib.compress(buffer.getvalue())).decode(),
                  "origin": [int(columns.min()), int(rows.min())]}  # fmt: skip
        rows, columns = np.nonzero(truth(number) == 2)
        left, right, top, bottom = (int(each) for each in (columns.min(), columns.max(), rows.min(), rows.max()))
        exterior = [[left, top], [right, top], [right, bottom], [left, bottom]]
        objects = [
            {"classTitle": "disc", "geometryType": "bitmap", "bitmap": bitmap},
            {"classTitle": "box", "geometryType": "polygon", "points": {"exterior": exterior, "interior": []}},
        ]
        document = {"size": {"height": HEIGHT, "width": WIDTH}, "tags": [], "objects": objects}
        path = tmp_path / "ds" / "ann" / f"img_{number:03}.jpg.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    assert "Supervisely's project" in is_right(tmp_path)
    objects[1]["points"]["interior"] = [[[20, 14], [22, 14], [22, 16], [20, 16]]]
    path.write_text(json.dumps(document))
    expected = truth(3)
    expected[14:17, 20:23] = 0
    np.testing.assert_array_equal(read(tmp_path)[1]["img_003"], expected)
    objects[1]["geometryType"] = "cuboid"
    path.write_text(json.dumps(document))
    is_told(tmp_path, r"img_003\.jpg\.json: expected shapes with an inside .*got cuboid")


def coco(number: int, first: int = 1) -> list[dict[str, Any]]:
    """The annotations of an image: the disc as run lengths, the box as a polygon."""
    disc = np.asfortranarray(truth(number) == 1)
    counts = coco_mask.encode(disc.astype(np.uint8))["counts"].decode()
    rows, columns = np.nonzero(truth(number) == 2)
    box = raw_trees.rectangle(*map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
    both = ((first, {"size": [HEIGHT, WIDTH], "counts": counts}), (first + 1, [box]))
    return [raw_trees.coco_object(10 * number + kind, number, kind, what) for kind, what in both]


def write_coco(path: Path, numbers: range, name: str = "img_{:03}.jpg", first: int = 1, **more: Any) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": n, "file_name": name.format(n), "height": HEIGHT, "width": WIDTH} for n in numbers],
        "annotations": [annotation for number in numbers for annotation in coco(number, first)],
        "categories": [{"id": first, "name": "disc"}, {"id": first + 1, "name": "box"}],
        **more,
    }
    path.write_text(json.dumps(content))
    return content


@pytest.mark.parametrize(
    ("document", "image", "name"),
    [
        ("annotations/instances_default.json", "images/img_{:03}.jpg", "img_{:03}.jpg"),
        ("annotations/instances_default.json", "images/default/img_{:03}.jpg", "img_{:03}.jpg"),
        ("annotations.json", "img_{:03}.jpg", "img_{:03}.jpg"),
        ("result.json", "images/img_{:03}.jpg", "images\\img_{:03}.jpg"),
        ("a.json", "deep/down/img_{:03}.jpg", "../deep/down/img_{:03}.jpg"),
    ],
)
def test_coco_json_with_own_categories(tmp_path: Path, document: str, image: str, name: str) -> None:
    for number in range(4):
        save_image(tmp_path / image.format(number), number)
    write_coco(tmp_path / document, range(4), name)
    assert "COCO JSON with categories of your own" in is_right(tmp_path)
    convert("coco", Source(root=str(tmp_path)), str(tmp_path / "out"))
    assert read_manifest(tmp_path / "out").info.class_names == NAMES


def test_roboflows_coco_json_has_a_category_that_is_none(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "shapes", "supercategory": "none"},
        {"id": 1, "name": "disc", "supercategory": "shapes"},
        {"id": 2, "name": "box", "supercategory": "shapes"},
    ]
    for split, numbers in (("train", range(3)), ("valid", range(3, 4))):
        for number in numbers:
            save_image(tmp_path / split / f"img_{number:03}.jpg", number)
        write_coco(tmp_path / split / "_annotations.coco.json", numbers, categories=categories)
    assert "train 3 images; val 1 image" in is_right(tmp_path)


def test_coco_json_is_told_with_the_number_of_the_annotation(tmp_path: Path) -> None:
    for number in range(4):
        save_image(tmp_path / f"img_{number:03}.jpg", number)
    content = write_coco(tmp_path / "a.json", range(4))
    content["annotations"][3].pop("segmentation")
    (tmp_path / "a.json").write_text(json.dumps(content))
    is_told(tmp_path, r"img_001\.jpg: annotation 12: expected a segmentation, found none: a box alone")
    content["annotations"][3] = {**coco(1)[1], "category_id": 9}
    (tmp_path / "a.json").write_text(json.dumps(content))
    is_told(tmp_path, "annotation 12: expected a category of the file, got 9")


def test_crowds_do_not_count_and_images_without_annotations_are_left_out(tmp_path: Path) -> None:
    for number in range(4):
        save_image(tmp_path / f"img_{number:03}.jpg", number)
    content = write_coco(tmp_path / "a.json", range(4))
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 3]
    content["annotations"][0]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    _, labels, paragraph = read(tmp_path)
    np.testing.assert_array_equal(labels["img_000"], np.array([0, 255, 2])[truth(0)])
    assert "Left out: 1 file, nothing is annotated in them (img_003.jpg)" in paragraph


def test_cocos_own_categories_stay_vocs_classes(tmp_path: Path) -> None:
    tree = raw_trees.make_coco(tmp_path / "raw")
    convert("coco", tree.source, str(tmp_path / "out"))
    assert read_manifest(tmp_path / "out").info.name == "coco"


def outlines(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns the label and the corners [N, 2] of each object."""
    found = []
    for label in range(1, int(labels.max()) + 1):
        contours, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        found += [(label, contour[:, 0]) for contour in contours]
    return found


def make_yolo(root: Path, image: str = "images/{}/img_{}.jpg", label: str = "labels/{}/img_{}.txt") -> Path:
    for number in range(4):
        split = "train" if number < 2 else "val"
        lines = [
            " ".join([str(kind - 1), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)])
            for kind, points in outlines(truth(number))
        ]
        save_image(root / image.format(split, number), number)
        raw_trees.write_list(root / label.format(split, number), lines)
    return root


@pytest.mark.parametrize(
    "layout", [("images/{}/img_{}.jpg", "labels/{}/img_{}.txt"), ("{}/images/img_{}.jpg", "{}/labels/img_{}.txt")]
)
@pytest.mark.parametrize("names", ["[disc, box]", "{0: disc, 1: box}"])
def test_yolos_segmentation_labels(tmp_path: Path, layout: tuple[str, str], names: str) -> None:
    make_yolo(tmp_path, *layout)
    raw_trees.write_list(tmp_path / "data.yaml", ["train: images/train", "val: images/val", f"names: {names}"])
    paragraph = is_right(tmp_path)
    assert "YOLO's segmentation labels" in paragraph
    assert "0 disc, 1 box" in paragraph
    assert "train 2 images; val 2 images" in paragraph


@pytest.mark.parametrize("classes", [("disc", "box"), NAMES])
def test_yolos_numbers_are_those_of_the_objects_with_and_without_a_named_background(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    make_yolo(tmp_path)
    raw_trees.write_list(tmp_path / "classes.txt", list(classes))
    is_right(tmp_path)
    (tmp_path / "classes.txt").unlink()
    is_right(tmp_path, classes=classes)


def test_folders_of_yolos_data_file_are_splits(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").rename(tmp_path / kind / "summer")
        (tmp_path / kind / "val").rename(tmp_path / kind / "winter")
    raw_trees.write_list(
        tmp_path / "data.yaml",
        ["path: ../mine", "train: images/winter", "val: [./images/summer]", "names: [disc, box]"],
    )
    source, _ = folder.prepare(Source(root=str(tmp_path)))
    assert folder.ids(source, "train") == ["img_2", "img_3"]
    assert folder.ids(source, "val") == ["img_0", "img_1"]


def test_yolos_labels_without_names_are_told(tmp_path: Path) -> None:
    is_told(make_yolo(tmp_path), "found no data.yaml with 'names'")


def test_what_lies_in_yolos_small_object_is_not_covered_by_the_large_one(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.jpg", 0)
    save_image(tmp_path / "images" / "b.jpg", 1)
    small, large = "1 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6", "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9"
    raw_trees.write_list(tmp_path / "labels" / "a.txt", [small, large])
    raw_trees.write_list(tmp_path / "labels" / "b.txt", [])
    _, labels, _ = read(tmp_path, classes=("disc", "box"))
    assert labels["a"][HEIGHT // 2, WIDTH // 2] == 2
    assert labels["a"][HEIGHT // 4, WIDTH // 4] == 1
    assert not labels["b"].any()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 0.5 0.5 0.2 0.2", "found a box (5 numbers)"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.9", "the x and y of three corners or more, got 8 numbers"),
        ("0 12 12 40 12 40 20", "as fractions of the image's width and height, 0 to 1, got 40"),
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", "expected a class number 0..1 (disc, box), got 7"),
    ],
)
def test_yolos_lines_that_are_no_polygon_are_told(tmp_path: Path, line: str, told: str) -> None:
    make_yolo(tmp_path)
    raw_trees.write_list(tmp_path / "labels" / "train" / "img_1.txt", [line])
    is_told(tmp_path, re.escape(told), classes=("disc", "box"))


def make_via(root: Path, attributes: Any = lambda kind: {"label": NAMES[kind]}, whole: bool = False) -> Path:
    document = {}
    for number in range(4):
        save_image(root / f"img_{number}.jpg", number)
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": points[:, 0].tolist(),
                    "all_points_y": points[:, 1].tolist(),
                },
                "region_attributes": attributes(kind),
            }
            for kind, points in outlines(truth(number))
        ]
        document[f"img_{number}.jpg123"] = {"filename": f"img_{number}.jpg", "size": 123, "regions": regions}
    content = {"_via_settings": {}, "_via_img_metadata": document} if whole else document
    (root / "via_region_data.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "attributes",
    [
        lambda kind: {"label": NAMES[kind]},
        lambda kind: {"type": {NAMES[kind]: True}},
        lambda kind: {"Class": NAMES[kind], "occluded": "no"},
    ],
)
def test_the_vgg_image_annotator(tmp_path: Path, attributes: Any, whole: bool) -> None:
    make_via(tmp_path, attributes, whole)
    assert "VGG Image Annotator" in is_right(tmp_path, classes=NAMES)


def test_regions_without_attributes_are_of_one_class(tmp_path: Path) -> None:
    make_via(tmp_path, lambda kind: {})
    names, labels, _ = read(tmp_path)
    assert names == ("background", "object")
    np.testing.assert_array_equal(labels["img_0"], truth(0) > 0)
    names, labels, _ = read(tmp_path, classes=("background", "balloon"))
    assert names == ("background", "balloon")
    np.testing.assert_array_equal(labels["img_0"], truth(0) > 0)


def test_regions_of_several_attributes_are_told(tmp_path: Path) -> None:
    is_told(make_via(tmp_path, lambda kind: {"a": "disc", "b": "box"}), "got the attributes a=disc, b=box")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<annotation><object><bndbox></bndbox></object></annotation>", "a box does not say which pixels are meant"),
        ("<annotations><meta></meta></annotations>", "Export the task from CVAT"),
    ],
)
def test_annotations_in_xml_are_told(tmp_path: Path, text: str, told: str) -> None:
    save_image(tmp_path / "a.jpg", 0)
    (tmp_path / "a.xml").write_text(text)
    is_told(tmp_path, told)
