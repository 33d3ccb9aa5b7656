"""What users have on their disks: each converter answers with one line that names the file, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert import convert
from datasets.stored import conversion
from datasets.stored.manifest import read_manifest
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees
from tests.datasets.raw_trees import Tree

REPOSITORY = Path(__file__).parents[2]


def run(tree: Tree, out: Path) -> None:
    convert(tree.dataset, tree.source, str(out), num_workers=1)


def refused(tree: Tree, out: Path) -> str:
    """The message of a conversion that fails; nothing may be left that looks like a data set."""
    with pytest.raises(UserError) as raised:
        run(tree, out)
    message = str(raised.value)
    assert "\n" not in message
    assert not (out / "manifest.json").exists()
    assert not list(out.glob("*.tfrecord"))
    assert {path.name for path in out.glob("*")} <= {conversion.STAGING}
    return message


def shape_of(mask: Path) -> tuple[int, int]:
    with Image.open(mask) as image:
        return image.height, image.width


def cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_bytes(b"not what it should be")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES = [Path.unlink, cut_in_half, empty, replace_by_text, replace_by_folder, link_to_nowhere, link_to_itself]


WITH_LISTS = ["voc12", "sbd", "pascal_context", "person_part"]
WITH_MASKS = ["voc12", "cityscapes", "folder"]


@pytest.fixture(params=raw_trees.MAKERS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return raw_trees.MAKERS[request.param](tmp_path / "raw")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("part", ["image", "labels"])
def test_a_missing_or_damaged_file_is_named(
    tree: Tree, tmp_path: Path, part: str, damage: Callable[[Path], object]
) -> None:
    path = getattr(tree, part)
    damage(path)
    message = refused(tree, tmp_path / "out")
    if tree.dataset == "coco" and part == "labels" and not path.is_file():
        assert "expected annotations/instances_train2017.json" in message  # nothing else says which year is meant
    elif tree.dataset == "folder" and part == "image" and not path.exists() and not path.is_symlink():
        assert "masks/img1.png: expected its image" in message
    else:
        assert path.stem in message


def test_an_image_of_another_size_than_its_labels_is_named_with_both_sizes(tree: Tree, tmp_path: Path) -> None:
    raw_trees.save_photo(tree.image, 11, 13)
    message = refused(tree, tmp_path / "out")
    assert tree.image.name in message
    assert "13x11 (width x height)" in message


@pytest.mark.parametrize("tree", WITH_LISTS, indirect=True)
def test_an_id_twice_in_a_list_is_named(tree: Tree, tmp_path: Path) -> None:
    assert tree.ids is not None
    entries = tree.ids.read_text().split()
    raw_trees.write_list(tree.ids, [*entries, entries[0]])
    assert f"{tree.ids.name}: expected every entry once, found twice: {entries[0]}" in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("tree", WITH_LISTS, indirect=True)
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00\x01"])
def test_an_empty_list_and_a_list_that_is_no_text_are_named(tree: Tree, tmp_path: Path, content: bytes) -> None:
    assert tree.ids is not None
    tree.ids.write_bytes(content)
    assert tree.ids.name in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("tree", WITH_LISTS, indirect=True)
def test_an_id_without_files_is_named(tree: Tree, tmp_path: Path) -> None:
    assert tree.ids is not None
    raw_trees.write_list(tree.ids, [*tree.ids.read_text().split(), "1999_000001"])
    assert "1999_000001" in refused(tree, tmp_path / "out")


def test_a_root_that_is_missing_empty_or_a_file_is_named(tree: Tree, tmp_path: Path) -> None:
    root = Path(tree.source.root)
    shutil.rmtree(root)
    assert str(root) in refused(tree, tmp_path / "out")
    root.mkdir()
    assert str(root) in refused(tree, tmp_path / "out")
    root.rmdir()
    root.write_text("a file")
    assert str(root) in refused(tree, tmp_path / "out")


def test_extra_files_change_nothing(tree: Tree, tmp_path: Path) -> None:
    run(tree, tmp_path / "before")
    for folder in [path for path in Path(tree.source.root).rglob("*") if path.is_dir()]:
        for name in (".DS_Store", "Thumbs.db", f"._{tree.image.name}", "README", "notes.md"):
            (folder / name).write_bytes(b"x")
        (folder / "more").mkdir()
    run(tree, tmp_path / "after")
    assert read_manifest(tmp_path / "before").splits == read_manifest(tmp_path / "after").splits


def test_paths_may_have_spaces_and_letters_of_all_languages(tree: Tree, tmp_path: Path) -> None:
    run(tree, tmp_path / "before")
    root = tmp_path / "Meine Bilder, größer? 写真 #1%20"
    shutil.move(tree.source.root, root)
    moved = tree._replace(source=tree.source.__class__(root=str(root), split_names=tree.source.split_names))
    run(moved, tmp_path / "après ça")
    assert read_manifest(tmp_path / "before").splits == read_manifest(tmp_path / "après ça").splits


def test_links_to_folders_and_files_are_followed(tree: Tree, tmp_path: Path) -> None:
    run(tree, tmp_path / "before")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (tree.image, tree.labels):
        shutil.move(path, elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    (tmp_path / "link").symlink_to(tree.source.root)
    source = tree.source.__class__(root=str(tmp_path / "link"), split_names=tree.source.split_names)
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    run(tree._replace(source=source), tmp_path / "out")
    assert read_manifest(tmp_path / "before").splits == read_manifest(tmp_path / "real").splits


@pytest.mark.parametrize("tree", WITH_MASKS, indirect=True)
def test_a_mask_with_values_without_a_class_is_named(tree: Tree, tmp_path: Path) -> None:
    raw_trees.save_grey_mask(tree.labels, np.full(shape_of(tree.labels), 77))
    assert f"{tree.labels.name}: expected class indices 0.." in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("tree", WITH_MASKS, indirect=True)
def test_a_mask_of_colours_is_named(tree: Tree, tmp_path: Path) -> None:
    with Image.open(tree.labels) as mask:
        colours = np.asarray(mask.convert("RGB")).copy()
    colours[:, :, 1] += 40  # grey that is stored as colours may be indices
    Image.fromarray(colours).save(tree.labels)
    assert f"{tree.labels.name}: expected a mask of class indices" in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("tree", WITH_MASKS, indirect=True)
def test_an_empty_mask_is_named(tree: Tree, tmp_path: Path) -> None:
    ignored = 0 if tree.dataset == "cityscapes" else 255
    raw_trees.save_grey_mask(tree.labels, np.full(shape_of(tree.labels), ignored))
    message = refused(tree, tmp_path / "out")
    assert f"{tree.labels.name}: expected a mask with at least one labelled pixel" in message


def test_labels_out_of_range_in_mat_files_are_named(tmp_path: Path) -> None:
    tree = raw_trees.make_voc_with_sbd(tmp_path / "sbd")
    raw_trees.save_sbd(tree.labels, raw_trees.box(21))
    assert f"{tree.labels.name}: expected labels 0..20, got 21" in refused(tree, tmp_path / "out")
    tree = raw_trees.make_context(tmp_path / "context")
    raw_trees.save_context(tree.labels, np.full((20, 30), 460))
    assert f"{tree.labels.name}: expected labels 0..459, got 460" in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("maker", ["sbd", "pascal_context", "person_part"])
def test_a_mat_file_of_another_data_set_is_named(tmp_path: Path, maker: str) -> None:
    tree = raw_trees.MAKERS[maker](tmp_path / "raw")
    if maker == "pascal_context":
        raw_trees.save_sbd(tree.labels, raw_trees.box(1))
    else:
        raw_trees.save_context(tree.labels, raw_trees.box(1))
    assert f"{tree.labels.name}: expected the variable" in refused(tree, tmp_path / "out")


def test_a_file_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    tree = raw_trees.make_folder(tmp_path / "raw")
    for path in (tree.image, tree.labels):
        os.rename(path, os.path.join(os.fsencode(path.parent), b"\xff" + os.fsencode(path.suffix)))
    assert r"expected file names in UTF-8, got b'\xff'" in refused(tree, tmp_path / "out")


@pytest.mark.parametrize("maker", raw_trees.MAKERS)
def test_the_command_ends_with_one_line_and_status_2(tmp_path: Path, maker: str) -> None:
    tree = raw_trees.MAKERS[maker](tmp_path / "raw")
    cut_in_half(tree.labels)
    command = [sys.executable, "-m", "datasets.convert", f"--dataset={tree.dataset}", f"--root={tree.source.root}"]
    splits = [f"--splits={','.join(tree.source.split_names)}"] if tree.source.split_names else []
    command += [f"--out={tmp_path / 'out'}", *splits]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert tree.labels.name in result.stderr
    assert result.stdout == ""


def test_the_command_names_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    tree = raw_trees.make_voc(tmp_path / "raw")
    command = [sys.executable, "-m", "datasets.convert", "--dataset=voc12", f"--root={tree.source.root}"]
    result = subprocess.run([*command, "--out=/proc/here"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "/proc/here: expected to write TFRecords there, cannot" in result.stderr
