"""Files of PASCAL-Part and COCO as they were released, where DEEPLAB_REAL_ANNOTATIONS names a folder of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from datasets.raw import files as raw_files
from datasets.source import Source
from datasets.sources import coco, person_part
from datasets.sources.coco_index import Annotation

ROOT = Path(os.environ.get("DEEPLAB_REAL_ANNOTATIONS", "/nowhere"))
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="needs files of PASCAL-Part and COCO")
PARTS = ROOT / "pascal_part"
COCO = ROOT / "coco_instances" / "annotations"

# Pixels of background, head, torso, upper arms, lower arms, upper legs, lower legs; looked at as pictures.
PIXELS = {
    "2008_000652": [45008, 6398, 3980, 3526, 4173, 4195, 880],
    "2008_000700": [167774, 2670, 4027, 3177, 2755, 4350, 2747],
    "2008_000726": [7262, 17556, 18249, 16217, 17516, 0, 0],
    "2008_000939": [186028, 176, 795, 317, 184, 0, 0],
    "2008_003228": [109281, 13271, 50276, 8682, 5990, 0, 0],
    "2009_001103": [145448, 6481, 15312, 11586, 8673, 0, 0],
    "2010_002526": [57549, 22606, 48011, 23481, 9803, 3050, 0],
    "2010_005243": [130501, 8086, 16487, 3177, 2175, 5458, 616],
}


def make_person_part(root: Path) -> Source:
    """VOC 2010's folders around the real files: all of them are candidates of train."""
    ids = sorted(path.stem for path in (PARTS / "Annotations_Part").glob("*.mat"))
    (root / "Annotations_Part").symlink_to(PARTS / "Annotations_Part")
    voc = root / "VOCdevkit" / "VOC2010"
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val"):
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    (voc / "JPEGImages").symlink_to(PARTS / "JPEGImages")
    return Source(root=str(root))


def test_the_parts_of_people_are_those_that_were_looked_at(tmp_path: Path) -> None:
    source = make_person_part(tmp_path)
    assert person_part.ids(source, "train") == sorted(PIXELS)  # the other ten show no person
    for image_id, expected in PIXELS.items():
        labels = person_part.example(source, "train", image_id).labels
        assert labels is not None
        assert np.bincount(labels.ravel(), minlength=7).tolist() == expected
        assert labels.shape[::-1] == raw_files.read_size(PARTS / "JPEGImages" / f"{image_id}.jpg")


def segmentations(path: Path) -> list[tuple[dict[str, Any], int, int]]:
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    return [(annotation, *sizes[annotation["image_id"]]) for annotation in content["annotations"]]


@pytest.mark.parametrize("name", ["instances_val2017_1img-sample", "person_keypoints_val2017_4img"])
def test_polygons_and_crowds_are_drawn_as_cocos_tools_draw_them(name: str) -> None:
    for annotation, height, width in segmentations(COCO / f"{name}.json"):
        segmentation = annotation["segmentation"]
        encoded = coco_mask.frPyObjects(segmentation, height, width)
        expected = coco_mask.decode(coco_mask.merge(encoded) if isinstance(encoded, list) else encoded)
        found = coco.decode_segmentation(segmentation, height, width, str(annotation["id"]))
        np.testing.assert_array_equal(found, expected.astype(bool))


def test_compressed_run_lengths_are_those_of_cocos_tools() -> None:
    results = json.loads(next((ROOT / "coco_results").glob("*.json")).read_text())
    assert len(results) > 100
    for result in results:
        segmentation = result["segmentation"]
        found = coco.decode_segmentation(segmentation, *segmentation["size"], "x")
        np.testing.assert_array_equal(found, coco_mask.decode(segmentation).astype(bool))


def test_a_crowd_is_ignored_but_for_the_objects_in_it() -> None:
    read = segmentations(COCO / "instances_val2017_1img-sample.json")
    people = [each for each in read if each[0]["category_id"] == 1]
    assert [each[0]["iscrowd"] for each in people].count(1) == 1
    annotations = [Annotation(15, bool(each[0]["iscrowd"]), each[0]) for each in people]
    labels = coco.paint(annotations, *people[0][1:], "x")
    crowd = next(each[0] for each in people if each[0]["iscrowd"])
    inside = coco.decode_segmentation(crowd["segmentation"], *people[0][1:], "x")
    assert set(np.unique(labels[inside])) == {15, 255}
    assert (labels == 255).sum() == (labels[inside] == 255).sum() > 0
