"""The converter, as a function and as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import pipeline, tfrecord
from datasets.convert import convert
from datasets.source import Source
from deeplab_tf.errors import UserError

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
    assert [int(labels[f"img{index}"][0, 0]) for index in range(4)] == [0, 1, 255, 0]


def test_the_number_of_shards_is_at_most_the_number_of_images(folder_root: Path, tmp_path: Path) -> None:
    written = convert("folder", Source(root=str(folder_root)), str(tmp_path / "out"), num_shards=4)
    assert [len(split.files) for split in written] == [4, 1]
    with pytest.raises(UserError, match="--shards"):
        convert("folder", Source(root=str(folder_root)), str(tmp_path / "out"), num_shards=0)


def test_the_synthetic_data_set_needs_no_root(tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    from datasets import synthetic

    listed.write_text("\n".join(synthetic.ids(Source(), split)[0] for split in ("train", "val")))
    written = convert("synthetic", Source(), str(tmp_path / "out"), id_file=str(listed))
    assert [split.name for split in written] == ["train", "val"]


def test_the_command_reports_what_it_wrote_and_the_next_step(folder_root: Path, tmp_path: Path) -> None:
    result = run_command("--dataset=folder", f"--root={folder_root}", f"--out={tmp_path / 'out'}")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["split", "images", "shards"],
        ["train", "9", "1"],
        ["val", "1", "1"],
    ]
    assert lines[3].startswith("next: python train.py --experiment=vgg16_large_fov --data_dir=")


def test_a_bad_mask_ends_the_command_with_one_line(folder_root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((12, 16), 9, np.uint8)).save(folder_root / "masks" / "img5.png")
    result = run_command("--dataset=folder", f"--root={folder_root}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "masks/img5.png: expected class indices 0..2" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_root_ends_the_command_with_one_line(tmp_path: Path) -> None:
    result = run_command("--dataset=voc12", f"--root={tmp_path / 'nowhere'}", f"--out={tmp_path / 'out'}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nowhere: expected the folder that holds VOCdevkit" in result.stderr
