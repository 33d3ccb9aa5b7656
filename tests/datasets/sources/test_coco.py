"""MS-COCO's instances as PASCAL VOC's classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as pycocotools_mask

from datasets.source import Source
from datasets.sources import coco, coco_index, voc12
from datasets.sources.coco_index import Annotation
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees
from tests.datasets.raw_trees import HEIGHT, WIDTH, coco_image, coco_object, rectangle

PERSON, CAT, TABLE, BOTTLE = 15, 8, 11, 5


@pytest.fixture
def tree(tmp_path: Path) -> raw_trees.Tree:
    return raw_trees.make_coco(tmp_path)


def annotation(label: int, segmentation: Any, crowd: bool = False) -> Annotation:
    return Annotation(label, crowd, {"id": 1, "segmentation": segmentation})


def paint(*annotations: Annotation) -> np.ndarray:
    return coco.paint(annotations, HEIGHT, WIDTH, "a.json")


def decode(segmentation: Any) -> np.ndarray:
    return coco.decode_segmentation(segmentation, HEIGHT, WIDTH, "a.json")


def test_the_classes_are_pascals_under_cocos_names() -> None:
    assert coco.info(Source()).class_names == voc12.CLASS_NAMES
    assert set(coco.LABELS) == set(raw_trees.COCO_CATEGORIES.values()) - {"banana"}
    renamed = {"airplane": 1, "dining table": 11, "motorcycle": 14, "potted plant": 16, "couch": 18, "tv": 20}
    assert {name: coco.LABELS[name] for name in renamed} == renamed
    for name in set(coco.LABELS) - set(renamed):
        assert voc12.CLASS_NAMES[coco.LABELS[name]] == name


def test_images_that_show_one_of_the_classes_are_taken(tree: raw_trees.Tree) -> None:
    assert coco.splits(tree.source) == ["train"]
    assert coco.ids(tree.source, "train") == ["000000000001", "000000000003"]


def test_objects_of_other_categories_are_background(tree: raw_trees.Tree) -> None:
    example = coco.example(tree.source, "train", "000000000003")
    np.testing.assert_array_equal(example.labels, raw_trees.box(CAT, slice(5, 15), slice(5, 15)))
    assert [path.name for path in example.files] == ["000000000003.jpg", "instances_train2017.json"]


def test_a_polygon_covers_what_another_rasteriser_says_up_to_its_edge() -> None:
    corners = [(3.2, 2.5), (25.7, 6.1), (20.0, 17.9), (8.4, 14.2)]
    mask = decode([[coordinate for corner in corners for coordinate in corner]])
    scale = 16
    drawn = Image.new("1", (WIDTH * scale, HEIGHT * scale))
    ImageDraw.Draw(drawn).polygon([(x * scale, y * scale) for x, y in corners], fill=1)
    share = np.asarray(drawn, float).reshape(HEIGHT, scale, WIDTH, scale).mean((1, 3))
    assert mask[share == 1].all()
    assert not mask[share == 0].any()
    assert abs(mask.sum() - share.sum()) < 0.05 * share.sum()


def test_the_polygons_of_one_object_are_joined_and_lines_cover_nothing() -> None:
    mask = decode([rectangle(2, 3, 5, 8), rectangle(10, 3, 12, 8), [1, 1, 20, 18], [4, 4]])
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:8, 2:5] = expected[3:8, 10:12] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_decode_like_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (4 + seed % 5, 6), np.uint8)).resize((WIDTH, HEIGHT))
    mask = np.asarray(smooth) > rng.integers(30, 220)
    encoded = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(decode({"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}), mask)
    flat = mask.T.ravel()
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    counts = [0] * bool(flat[0]) + np.diff(ends).tolist()
    np.testing.assert_array_equal(decode({"size": [HEIGHT, WIDTH], "counts": counts}), mask)


def test_the_smaller_object_is_in_front_whatever_the_order() -> None:
    table = annotation(TABLE, [rectangle(0, 0, 20, 20)])
    bottle = annotation(BOTTLE, [rectangle(5, 5, 8, 15)])
    labels = paint(table, bottle)
    assert (labels[10, 6], labels[10, 10], labels[10, 25]) == (BOTTLE, TABLE, 0)
    np.testing.assert_array_equal(labels, paint(bottle, table))


def test_of_two_objects_of_one_area_the_later_is_in_front() -> None:
    first, second = annotation(CAT, [rectangle(0, 0, 10, 10)]), annotation(PERSON, [rectangle(5, 0, 15, 10)])
    assert paint(first, second)[5, 7] == PERSON
    assert paint(second, first)[5, 7] == CAT


def test_crowds_are_ignored_except_where_an_object_is_drawn_in_them() -> None:
    crowd = annotation(PERSON, {"size": [HEIGHT, WIDTH], "counts": [0, 200, 400]}, crowd=True)  # ten columns
    person = annotation(PERSON, [rectangle(4, 4, 14, 14)])
    for labels in (paint(crowd, person), paint(person, crowd)):
        assert (labels[0, 0], labels[6, 6], labels[6, 12], labels[0, 12]) == (255, PERSON, PERSON, 0)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"polygons or run lengths, got \[\]"),
        (None, "polygons or run lengths, got None"),
        ([[]], r"a polygon \[x0, y0, x1, y1, \.\.\.\], got \[\]"),
        ([[1, 2, 3]], r"a polygon .*got \[1, 2, 3\]"),
        ([["a", 2]], "a polygon"),
        ([5], "a polygon"),
        ([rectangle(0, 0, 33, 10)], r"inside its image of 30x20 \(width x height\), got a corner at \(33, 0\)"),
        ([rectangle(0, -2.5, 3, 10)], r"got a corner at \(0, -2\.5\)"),
        ([rectangle(0, 0, 3, 1e9)], r"got a corner at \(3, 1e\+09\)"),
        ([rectangle(0, 0, float("nan"), 5)], r"got a corner at \(nan, 0\)"),
        ({"size": [30, 20], "counts": [600]}, r"run lengths for its image of \[20, 30\] .*got \[30, 20\]"),
        ({"counts": [600]}, r"run lengths for its image of \[20, 30\] .*got None"),
        ({"size": [20, 30]}, "add up to 600 pixels, got None"),
        ({"size": [20, 30], "counts": [10, 20]}, r"add up to 600 pixels, got \[10, 20\]"),
        ({"size": [20, 30], "counts": [-10, 610]}, "add up to 600 pixels"),
        ({"size": [20, 30], "counts": [300.0, 300.0]}, "add up to 600 pixels"),
        ({"size": [20, 30], "counts": ""}, "add up to 600 pixels"),
        ({"size": [20, 30], "counts": "zzzzzz"}, "add up to 600 pixels"),
        ({"size": [20, 30], "counts": "o" * 90}, "add up to 600 pixels"),
        ({"size": [20, 30], "counts": "\u00e4\u00f6"}, "add up to 600 pixels"),
    ],
)
def test_a_malformed_segmentation_is_named_with_its_annotation(segmentation: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.json: annotation 1: expected .*{message}"):
        paint(annotation(CAT, segmentation))


def test_corners_a_little_outside_the_image_are_drawn() -> None:
    assert decode([rectangle(-1.5, -0.5, WIDTH + 1, HEIGHT + 1.5)]).all()


def test_both_years_need_a_choice(tree: raw_trees.Tree) -> None:
    root = Path(tree.source.root)
    older = root / "annotations" / "instances_val2014.json"
    image = {**coco_image(7), "file_name": "COCO_val2014_000000000007.jpg"}
    raw_trees.write_coco(older, [image], [coco_object(1, 7, 17, [rectangle(5, 5, 15, 15)])])
    raw_trees.save_photo(root / "val2014" / image["file_name"])
    with pytest.raises(UserError, match=r"found those of 2014 and 2017: choose one with --year"):
        coco.splits(tree.source)
    source = Source(root=str(root), year=2014)
    assert coco.splits(source) == ["val"]
    assert coco.ids(source, "val") == ["COCO_val2014_000000000007"]
    assert coco.example(source, "val", "COCO_val2014_000000000007").labels is not None
    with pytest.raises(UserError, match=r"--year: expected 2014 or 2017, got 2015"):
        coco.splits(Source(root=str(root), year=2015))


def test_a_changed_annotation_file_is_read_anew(tree: raw_trees.Tree) -> None:
    assert len(coco.ids(tree.source, "train")) == 2
    raw_trees.write_coco(tree.labels, [coco_image(1)], [coco_object(1, 1, 17, [rectangle(5, 5, 15, 15)])])
    assert coco.ids(tree.source, "train") == ["000000000001"]


def test_the_index_is_made_once_for_all_processes(tree: raw_trees.Tree, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    labels = tuple(coco.LABELS.items())
    coco_index.open_index(tree.labels, labels, str(scratch))
    (made,) = scratch.iterdir()
    before = made.stat().st_mtime_ns
    assert coco_index.open_index(tree.labels, labels, str(scratch)).labelled_stems()
    assert made.stat().st_mtime_ns == before


def changed(tree: raw_trees.Tree, **changes: Any) -> None:
    content = json.loads(tree.labels.read_text())
    tree.labels.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [coco_image(1), coco_image(1)]}, r"every image once, got 000000000001\.jpg \(id 1\) twice"),
        ({"images": [coco_image(1), {**coco_image(2), "file_name": "000000000001.jpg"}]}, r"\(id 2\) twice"),
        ({"images": [{**coco_image(1), "file_name": "../1.jpg"}]}, r"file names without folders, got '\.\./1\.jpg'"),
        ({"images": [{"id": 1}]}, "COCO's instance annotations, cannot read them"),
        ({"images": []}, "found no list 'images' in it, or an empty one"),
        ({"annotations": [coco_object(5, 99, 17, [])]}, "annotation 5: expected an image of the file, got 99"),
        ({"annotations": [coco_object(5, 1, 999, [])]}, "annotation 5: expected a category of the file, got 999"),
        ({"annotations": [{"id": 1}]}, "COCO's instance annotations, cannot read them"),
        ({"categories": [{"id": 1, "name": "person"}]}, "COCO's categories, found none named airplane, bicycle"),
    ],
)
def test_an_annotation_file_that_does_not_fit_together_is_refused(
    tree: raw_trees.Tree, changes: dict[str, Any], message: str
) -> None:
    changed(tree, **changes)
    with pytest.raises(UserError, match=rf"instances_train2017\.json: (expected )?.*{message}"):
        coco.ids(tree.source, "train")


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"hello", b'{"images": [{"id": 1', b'\xff\xfe{"images": []}'])
def test_what_is_no_annotation_file_is_refused(tree: raw_trees.Tree, content: bytes) -> None:
    tree.labels.write_bytes(content)
    with pytest.raises(UserError, match=r"instances_train2017\.json: expected "):
        coco.ids(tree.source, "train")


def test_an_image_of_another_size_than_annotated_is_refused(tree: raw_trees.Tree) -> None:
    raw_trees.save_photo(tree.image, HEIGHT + 1, WIDTH)
    with pytest.raises(
        UserError, match=r"size of the image, 30x21 \(width x height\) as in .*000000000001\.jpg, got 30x20"
    ):
        coco.example(tree.source, "train", "000000000001")


@pytest.mark.parametrize("height", [-3, 0, 10**12])
def test_an_annotated_size_that_no_image_has_is_refused_before_memory_is_taken(
    tree: raw_trees.Tree, height: int
) -> None:
    content = json.loads(tree.labels.read_text())
    for image in content["images"]:
        image["height"] = height
    tree.labels.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"expected the size of the image, 30x20 .* got 30x{height}"):
        coco.example(tree.source, "train", "000000000001")


def test_missing_parts_are_named(tree: raw_trees.Tree, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="coco needs --root"):
        coco.splits(Source())
    with pytest.raises(UserError, match="nowhere: expected the folder that holds annotations"):
        coco.splits(Source(root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"the splits train, val, got 'test'"):
        coco.ids(tree.source, "test")
    with pytest.raises(UserError, match=r"instances_val2017\.json: expected COCO's instance annotations.*No such file"):
        coco.ids(tree.source, "val")
    tree.labels.unlink()
    with pytest.raises(UserError, match=r"expected annotations/instances_train2017\.json .* found no such file"):
        coco.splits(tree.source)


@pytest.mark.parametrize(("package", "split"), [("ijson", "train"), ("pycocotools", "train")])
def test_without_its_packages_the_line_says_what_to_install(
    tree: raw_trees.Tree, monkeypatch: pytest.MonkeyPatch, package: str, split: str
) -> None:
    if package == "pycocotools":
        coco.ids(tree.source, split)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"expected the package {package}.*pip install -r requirements\.txt"):
        coco.example(tree.source, split, "000000000001")
