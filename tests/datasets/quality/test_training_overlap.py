import dataclasses

import pytest

from datasets.quality.overlap import image_hash
from datasets.quality.training_overlap import warn_of_overlap
from datasets.stored.manifest import read_manifest
from tests.datasets.quality.test_overlap import write


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "train", {"a": b"1", "b": b"2", "c": b"3"})
    write(tmp_path, "val", {"d": b"4", "b": b"5", "e": b"1"})
    write(tmp_path, "other", {"f": b"6"})
    return tmp_path


def test_images_that_were_trained_on_are_counted_and_one_is_named(folder):
    said = warn_of_overlap({"data_dir": str(folder), "split": "train"}, read_manifest(folder), "val")
    assert said.startswith("2 of the 3 images of val are also in train of ")
    assert "equal contents: 1; equal ids: 1" in said and "such as b" in said


def test_data_without_a_common_image_need_no_warning(folder):
    assert warn_of_overlap({"data_dir": str(folder), "split": "train"}, read_manifest(folder), "other") == ""


def test_what_cannot_be_checked_is_said(folder):
    manifest = read_manifest(folder)
    assert "nothing says what the weights were trained on" in warn_of_overlap({}, manifest, "val")
    gone = {"data_dir": str(folder / "gone"), "split": "train"}
    assert "the training data, cannot be read" in warn_of_overlap(gone, manifest, "val")
    assert "cannot be read" in warn_of_overlap({**gone, "data_dir": str(folder), "split": "no"}, manifest, "val")


def test_without_hashes_ids_are_compared(folder):
    manifest = read_manifest(folder)
    val = manifest.split("val")
    files = tuple(dataclasses.replace(file, image_hashes=()) for file in val.files)
    old = dataclasses.replace(manifest, splits={**manifest.splits, "val": dataclasses.replace(val, files=files)})
    said = warn_of_overlap({"data_dir": str(folder), "split": "train"}, old, "val")
    assert said.startswith("1 of the 3") and "equal contents: not known" in said


def test_what_the_workdir_kept_counts_also_where_the_data_folder_was_written_again(folder):
    run = {"data_dir": str(folder), "split": "other"}  # as it is now: nothing shared
    digest = {name: image_hash(content) for name, content in {"a": b"1", "d": b"4"}.items()}
    kept = ((("a",), (digest["a"],)), (("x",), (digest["d"],)))
    said = warn_of_overlap(run, read_manifest(folder), "val", kept)
    assert said.startswith("2 of the 3 images of val were trained on (equal contents: 2; equal ids: 0), such as e.")
    assert warn_of_overlap(run, read_manifest(folder), "other", kept) == ""


def test_equal_ids_in_earlier_data_are_chance_where_contents_are_known(folder):
    nothing, earlier = ((), ()), (("d", "b"), (image_hash(b"8"), image_hash(b"9")))
    manifest = read_manifest(folder)
    assert warn_of_overlap({}, manifest, "val", (nothing, earlier)) == ""
    said = warn_of_overlap({}, manifest, "val", (nothing, (("d", "b"), None)))
    assert said.startswith("2 of the 3") and "equal contents: not known; equal ids: 2" in said
