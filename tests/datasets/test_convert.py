"""The converter, as a function and as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DATASETS, pipeline
from datasets.convert import convert
from datasets.source import Source
from datasets.stored import conversion, tfrecord, workers
from deeplab_tf.errors import UserError
from deeplab_tf.images.palettes import distinct_palette
from tests.datasets import raw_trees

REPOSITORY = Path(__file__).parents[2]


def stored_labels(folder: Path, split: str) -> dict[str, np.ndarray]:
    stream = pipeline.evaluation_examples(folder, split).as_numpy_iterator()
    return {image_id.decode(): labels for image_id, _, labels in stream}


def run_command(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "datasets.convert", *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_all_splits_of_the_root_are_written_by_default(voc_root: Path, tmp_path: Path) -> None:
    convert("voc12", Source(root=str(voc_root)), str(tmp_path / "out"))
    manifest = tfrecord.read_manifest(tmp_path / "out")
    assert {name: split.count for name, split in manifest.splits.items()} == {
        "train": 2,
        "trainaug": 3,
        "val": 1,
        "trainval": 3,
        "test": 1,
    }
    assert manifest.info.train_split == "trainaug"
    assert not manifest.split("test").has_labels


def test_kept_classes_are_renumbered_in_the_data_sets_order(voc_root: Path, tmp_path: Path) -> None:
    source = Source(root=str(voc_root), split_names=("trainaug",))
    convert("voc12", source, str(tmp_path / "out"), keep_classes=("cat", "background"))
    info = tfrecord.read_manifest(tmp_path / "out").info
    assert (info.name, info.class_names, info.palette) == ("voc12", ("background", "cat"), ((0, 0, 0), (64, 0, 0)))
    labels = stored_labels(tmp_path / "out", "trainaug")
    assert np.unique(labels["2007_000001"]).tolist() == [0, 1, 255]
    assert np.unique(labels["2008_000004"]).tolist() == [0, 255]  # its dog is not kept
    with pytest.raises(UserError, match=r"got tiger\. voc12 has: background, aeroplane"):
        convert("voc12", source, str(tmp_path / "out"), keep_classes=("tiger",))


def test_the_palette_that_is_named_is_stored(voc_root: Path, tmp_path: Path) -> None:
    source = Source(root=str(voc_root), split_names=("train",))
    convert("voc12", source, str(tmp_path / "out"), keep_classes=("cat", "background"), palette="distinct")
    info = tfrecord.read_manifest(tmp_path / "out").info
    assert (info.class_names, info.palette) == (("background", "cat"), distinct_palette(2, background=0))


def test_an_id_file_keeps_the_listed_images_in_the_splits_order(voc_root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("2008_000004\n2007_000002\n2007_000003\n")
    source = Source(root=str(voc_root), split_names=("trainaug", "val"))
    convert("voc12", source, str(tmp_path / "out"), id_file=str(listed))
    manifest = tfrecord.read_manifest(tmp_path / "out")
    assert manifest.split("trainaug").ids == ("2007_000002", "2008_000004")
    assert manifest.split("val").ids == ("2007_000003",)
    listed.write_text("2007_000002\n")
    with pytest.raises(UserError, match=r"ids of split 'val' too"):
        convert("voc12", source, str(tmp_path / "out"), id_file=str(listed))
    listed.write_text("2007_000002\n1999_000001\n")
    with pytest.raises(UserError, match=r"1 that are in none of them, such as 1999_000001"):
        convert("voc12", source, str(tmp_path / "out"), id_file=str(listed))


def test_a_second_call_adds_the_other_split(folder_root: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        source = Source(
            image_dir=str(folder_root / "images"),
            mask_dir=str(folder_root / "masks"),
            classes=("ground", "road"),
            ignore_label=2,
            split_names=(split,),
        )
        convert("folder", source, str(tmp_path / "out"))
    assert list(tfrecord.read_manifest(tmp_path / "out").splits) == ["train", "val"]
    labels = stored_labels(tmp_path / "out", "val")
    assert [int(labels[f"img{index}"][-1, -1]) for index in range(4)] == [0, 1, 255, 0]


def test_the_number_of_shards_is_at_most_the_number_of_images(folder_root: Path, tmp_path: Path) -> None:
    written = convert("folder", Source(root=str(folder_root)), str(tmp_path / "out"), num_shards=4)
    assert [len(split.files) for split in written] == [4, 1]


@pytest.mark.parametrize("flag", ["num_shards", "num_workers", "downsample"])
def test_numbers_below_one_are_refused(folder_root: Path, tmp_path: Path, flag: str) -> None:
    with pytest.raises(UserError, match=f"--{flag.removeprefix('num_')}: expected at least 1, got 0"):
        convert("folder", Source(root=str(folder_root)), str(tmp_path / "out"), **{flag: 0})


@pytest.mark.parametrize("maker", raw_trees.MAKERS)
def test_every_data_set_is_written_with_its_classes_and_labels(tmp_path: Path, maker: str) -> None:
    tree = raw_trees.MAKERS[maker](tmp_path / "raw")
    convert(tree.dataset, tree.source, str(tmp_path / "out"))
    manifest = tfrecord.read_manifest(tmp_path / "out")
    module = DATASETS[tree.dataset]
    assert manifest.info.class_names == module.info(tree.source).class_names
    assert manifest.info.split_sizes == module.info(tree.source).split_sizes
    for split in tree.source.split_names or module.splits(tree.source):
        stored = stored_labels(tmp_path / "out", split)
        assert list(stored) == module.ids(tree.source, split)
        for image_id, labels in stored.items():
            np.testing.assert_array_equal(labels, module.example(tree.source, split, image_id).labels)
    assert {path.name.split("-")[0] for path in (tmp_path / "out").iterdir()} == {*manifest.splits, "manifest.json"}


@pytest.mark.parametrize("maker", ["sbd", "coco", "folder"])
def test_the_files_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_IMAGES_PER_PROCESS", 1)
    tree = raw_trees.MAKERS[maker](tmp_path / "raw")
    for processes in (1, 2):
        convert(tree.dataset, tree.source, str(tmp_path / f"{processes}"), num_shards=2, num_workers=processes)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert first == second


def test_downsampling_takes_means_of_images_and_single_pixels_of_labels(tmp_path: Path) -> None:
    tree = raw_trees.make_cityscapes(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tree.image)
    label_ids = np.array([7, 8, 11, 12])[np.random.default_rng(1).integers(0, 4, (5, 8))]
    raw_trees.save_grey_mask(tree.labels, label_ids)
    convert("cityscapes", tree.source, str(tmp_path / "out"), downsample=2)
    _, image, labels = next(pipeline.evaluation_examples(tmp_path / "out", "train").as_numpy_iterator())
    means = pixels[:4].reshape(2, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(image[:2], means, atol=0.5)
    np.testing.assert_allclose(image[2], pixels[4].reshape(4, 2, 3).mean(1), atol=0.5)  # the last row has no partner
    expected = {7: 0, 8: 1, 11: 2, 12: 3}
    rows, columns = [1, 3, 4], [1, 3, 5, 7]
    assert labels.tolist() == [[expected[label_ids[row, column]] for column in columns] for row in rows]


def test_a_conversion_goes_on_after_a_bad_file_was_mended(folder_root: Path, tmp_path: Path) -> None:
    source, out = Source(root=str(folder_root)), tmp_path / "out"
    convert("folder", source, str(tmp_path / "whole"), num_shards=3)
    good = (folder_root / "images" / "img8.PNG").read_bytes()
    (folder_root / "images" / "img8.PNG").write_bytes(good[: len(good) // 2])  # its head is whole
    with pytest.raises(UserError, match=r"img8\.PNG: expected a whole image"):
        convert("folder", source, str(out), num_shards=3)
    first = out / conversion.STAGING / "train-00000-of-00003.tfrecord"
    inode = first.stat().st_ino
    (folder_root / "images" / "img8.PNG").write_bytes(good)
    convert("folder", source, str(out), num_shards=3)
    assert (out / first.name).stat().st_ino == inode
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_changed_table_of_classes_does_not_go_on_from_the_same_shards(folder_root: Path, tmp_path: Path) -> None:
    red_and_green = np.zeros((12, 16, 3), np.uint8)
    red_and_green[:, :8, 0] = red_and_green[:, 8:, 1] = 200
    for path in (folder_root / "masks").iterdir():
        Image.fromarray(red_and_green).save(path)
    Image.fromarray(red_and_green + 1).save(folder_root / "masks" / "img8.png")
    source = Source(root=str(folder_root))
    raw_trees.write_list(folder_root / "classes.txt", ["a 200 0 0", "b 0 200 0"])
    with pytest.raises(UserError, match=r"img8\.png: expected only the colours of the classes"):
        convert("folder", source, str(tmp_path / "out"), num_shards=3)
    raw_trees.write_list(folder_root / "classes.txt", ["b 0 200 0", "a 200 0 0", "ignore 201 1 1", "ignore 1 201 1"])
    Image.fromarray(red_and_green).save(folder_root / "masks" / "img8.png")
    convert("folder", source, str(tmp_path / "out"), num_shards=3)
    for labels in stored_labels(tmp_path / "out", "train").values():
        assert labels[0].tolist() == [1] * 8 + [0] * 8


def test_other_flags_do_not_go_on_from_the_same_shards(folder_root: Path, tmp_path: Path) -> None:
    labels = np.zeros((12, 16), np.uint8)
    labels[6:] = 3
    raw_trees.save_grey_mask(folder_root / "masks" / "img8.png", labels)
    with pytest.raises(UserError, match=r"img8\.png: expected class indices 0\.\.2"):
        convert("folder", Source(root=str(folder_root)), str(tmp_path / "out"), num_shards=3)
    source = Source(root=str(folder_root), ignore_label=3)
    convert("folder", source, str(tmp_path / "out"), num_shards=3, downsample=2)
    stored = stored_labels(tmp_path / "out", "train")
    assert {array.shape for array in stored.values()} == {(6, 8)}


def test_the_synthetic_data_set_needs_no_root(tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    from datasets.sources import synthetic

    listed.write_text("\n".join(synthetic.ids(Source(), split)[0] for split in ("train", "val")))
    written = convert("synthetic", Source(), str(tmp_path / "out"), id_file=str(listed))
    assert [split.name for split in written] == ["train", "val"]


def test_the_command_reports_what_it_wrote_and_the_next_step(folder_root: Path, tmp_path: Path) -> None:
    result = run_command("--dataset=folder", f"--root={folder_root}", f"--out={tmp_path / 'out'}")
    assert (result.returncode, result.stderr) == (0, "")
    paragraph, _, written = result.stdout.partition("\n\n")
    said = " ".join(paragraph.split())
    assert said.startswith("Taken for images and masks in folders of their own (images/ beside masks/): 10 images, 10")
    assert "Classes by classes.txt: 0 ground 864 pixels (45.0%) in 10, 1 road 528 pixels (27.5%) in 3" in said
    lines = written.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["split", "images", "shards"],
        ["train", "9", "1"],
        ["val", "1", "1"],
    ]
    assert lines[3] == f"look: python -m datasets.check --data_dir={tmp_path / 'out'}"
    training = f"python train.py --experiment=efficientnet_lite0_aspp --data_dir={tmp_path / 'out'} --workdir=runs/out"
    assert lines[4] == f"next: {training} --eval_split=val --set=train.iterations=600"
    assert "This machine has no NVIDIA GPU" in lines[5] and "600 updates of 8 images are 533 times" in lines[6]
    assert tfrecord.read_manifest(tmp_path / "out").info.name == folder_root.name


def test_a_bad_mask_ends_the_command_with_one_line(folder_root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((12, 16), 9, np.uint8)).save(folder_root / "masks" / "img5.png")
    result = run_command("--dataset=folder", f"--root={folder_root}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "masks/img5.png: expected class indices 0..2" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_root_ends_the_command_with_one_line(tmp_path: Path) -> None:
    result = run_command("--dataset=voc12", f"--root={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nowhere: expected the folder that holds VOCdevkit" in result.stderr


def test_the_command_says_when_a_data_set_is_not_complete(tmp_path: Path) -> None:
    tree = raw_trees.make_context(tmp_path)
    flags = ("--dataset=pascal_context", f"--root={tmp_path}", f"--out={tmp_path / 'out'}", "--splits=val")
    assert "note: the complete val of pascal_context has 5105 images." in run_command(*flags).stdout.splitlines()
    assert tree.ids is not None
    listed = raw_trees.write_list(tmp_path / "ids.txt", ["2008_000003"])
    assert "note:" not in run_command(*flags, f"--ids={listed}").stdout


def test_the_command_does_not_import_tensorflow(tmp_path: Path) -> None:
    script = "import sys; import datasets.convert; sys.exit('tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False)
    assert result.returncode == 0
