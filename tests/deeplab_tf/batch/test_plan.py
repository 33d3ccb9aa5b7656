"""Which inputs are still to be done, in which blocks, and what their answers are called."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from deeplab_tf.batch.manifest import Entry
from deeplab_tf.batch.plan import (
    Block,
    Missing,
    check_names,
    find_missing,
    is_record_file,
    make_blocks,
    png_name,
    record_png_name,
    root_of,
    shard_number,
    too_long,
)
from deeplab_tf.errors import UserError


@pytest.mark.parametrize(
    ("pattern", "root"),
    [
        ("/photos/*.jpg", "/photos/"),
        ("/photos/2026-??/a*/*.jpg", "/photos/"),
        ("/photos/x**.jpg", "/photos/"),
        ("gs://bucket/photos/**.jpg", "gs://bucket/photos/"),
        ("/photos/cat.jpg", "/photos/"),
        ("*.jpg", ""),
    ],
)
def test_names_are_relative_to_the_folder_before_the_first_wildcard(pattern, root):
    assert root_of(pattern) == root


def test_images_of_one_stem_in_two_folders_get_two_names():
    names = {png_name(f"/photos/{folder}/cat.jpg", "/photos/") for folder in "ab"}
    assert names == {"a/cat.png", "b/cat.png"}
    assert png_name("gs://bucket/a.b/cat.v2.jpeg", "gs://bucket/") == "a.b/cat.v2.png"


def test_images_of_one_stem_in_one_folder_are_refused():
    with pytest.raises(UserError, match=r"/p/a/cat\.jpg and of /p/a/cat\.png would both be a/cat\.png.*tfrecord"):
        check_names(["/p/a/cat.jpg", "/p/a/cat.png", "/p/b/cat.jpg"], "/p/", [])


def test_the_answer_of_another_archive_is_not_replaced():
    done = [Entry("/old/cat.jpg", output="cat.png", size=(4, 5)), Entry("/old/dog.jpg", reason="damaged")]
    check_names(["/new/dog.jpg"], "/new/", done)
    with pytest.raises(UserError, match=r"/old/cat\.jpg and of /new/cat\.jpg"):
        check_names(["/new/cat.jpg"], "/new/", done)


def test_labels_of_two_tfrecord_files_do_not_meet():
    files = ["/d/a-00000-of-00002.tfrecord", "/d/a.tfrecord-00000-of-00002"]
    with pytest.raises(UserError, match="would both be a-00000-of-00002;"):
        check_names(files, "/d/", [])
    check_names(files, "/d/", [], as_records=True)
    done = [Entry("/old/a.tfrecord", record="x/y", output="a/x/y.png", size=(1, 1))]
    with pytest.raises(UserError, match=r"/old/a\.tfrecord and of /d/a\.tfrecord would both be a;"):
        check_names(["/d/a.tfrecord"], "/d/", done)
    done = [Entry("/old/a.tfrecord", record="x", output="a.tfrecord", size=(1, 1))]
    with pytest.raises(UserError, match=r"would both be a\.tfrecord;"):
        check_names(["/d/a.tfrecord"], "/d/", done, as_records=True)


def test_images_of_one_stem_are_two_records():
    check_names(["/p/cat.jpg", "/p/cat.png"], "/p/", [Entry("/o/cat.jpg", output="labels-000000.tfrecord")], True)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("labels-000012.tfrecord", 12),
        ("gs://b/labels-1234567.tfrecord", 1234567),
        ("labels-map.tfrecord", None),
        ("my-labels-000012.tfrecord", None),
        ("labels-000012.tfrecord.txt", None),
    ],
)
def test_only_shards_of_blocks_have_a_number(path, number):
    assert shard_number(path) == number


@pytest.mark.parametrize(
    "name", ["a.tfrecord", "a.tfrecords", "train-00000-of-00016.tfrecord", "a.tfrecord-00000-of-00016"]
)
def test_tfrecord_files_are_known_by_their_names(name):
    assert is_record_file(f"gs://bucket/{name}")
    assert not is_record_file(f"{name}.jpg")


def test_records_are_named_in_a_folder_of_their_file():
    assert record_png_name("/d/val-00000-of-00002.tfrecord", "/d/", "cat") == "val-00000-of-00002/cat.png"
    assert record_png_name("/d/x.tfrecord-00000-of-00002", "/d/", "a/cat") == "x-00000-of-00002/a/cat.png"
    for image_id in ("", "../cat", "/cat", "a//b", "a/./b", "a\\b", "a\0"):
        with pytest.raises(ValueError, match="cannot be the name of a file"):
            record_png_name("/d/val.tfrecord", "/d/", image_id)


def test_a_block_survives_the_trip_through_the_plan():
    block = Block(7, ("/a/ü\n.jpg", "/b"))
    assert Block.from_line(block.to_line()) == block and block.to_line().count("\n") == 1


def test_only_what_is_not_known_or_failed_is_missing():
    done = [
        Entry("/a", output="a.png", size=(1, 1)),
        Entry("/b", reason="damaged"),
        Entry("/d.tfrecord", record="x", reason="damaged"),
    ]
    missing = find_missing(["/e", "/d.tfrecord", "/c", "/b", "/a", "/c"], done)
    assert missing == Missing(new=["/c", "/e"], failed=["/b"])


def test_blocks_hold_every_missing_input_once_and_failures_apart():
    new = [f"/{index:02d}" for index in range(7)] + ["/x.tfrecord", "/y.tfrecord"]
    blocks = make_blocks(Missing(new, ["/bad"]), 3, {1, 2})
    assert [block.number for block in blocks] == [0, 3, 4, 5, 6, 7]
    assert [len(block.inputs) for block in blocks] == [3, 3, 1, 1, 1, 1]
    assert [path for block in blocks for path in block.inputs] == [*new, "/bad"]


@pytest.mark.parametrize("seed", range(20))
def test_after_a_kill_the_blocks_are_those_that_were_not_done(seed):
    rng = random.Random(seed)
    inputs = [f"/{index:03d}" for index in range(rng.randint(1, 60))]
    size = rng.randint(1, 9)
    whole = make_blocks(Missing(inputs, []), size, ())
    done = [block for block in whole if rng.random() < 0.5]
    entries = [Entry(path, output=f"{path}.png", size=(1, 1)) for block in done for path in block.inputs]
    again = make_blocks(find_missing(inputs, entries), size, {block.number for block in done})
    assert again == [block for block in whole if block not in done]


def test_a_shard_has_the_name_of_its_file_or_of_its_block():
    assert Block(3, ("/d/a/val.tfrecord",)).shard("/d/") == "a/val.tfrecord"
    assert Block(3, ("/d/a.jpg", "/d/b.jpg")).shard("/d/") == "labels-000003.tfrecord"


def test_a_name_that_files_cannot_have_is_known_before_it_is_written():
    assert too_long("a/" + "b" * 251 + ".png") == ""
    assert "a name of 256 bytes" in too_long("a/" + "b" * 252 + ".png")
    assert "a name of 304 bytes" in too_long("\u00e9" * 150 + ".png")


def test_the_plan_of_100_000_images_takes_little_memory():
    paths = [f"/archive/{number // 1000:04d}/{number:09d}.jpg" for number in range(100_000)]
    tracemalloc.start()
    try:
        missing = find_missing(paths, [])
        check_names([*missing.new, *missing.failed], "/archive/", [])
        blocks = make_blocks(missing, 100, ())
        lines = "".join(block.to_line() for block in blocks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(Block.from_line(line).inputs) for line in lines.splitlines()) == 100_000
    assert peak < 40e6  # 13 MB; the paths themselves are 8 MB more
