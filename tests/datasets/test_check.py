"""The command that looks at a data set: what it prints and writes, from a folder of images on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.check import check, show_augmented
from datasets.convert import convert
from datasets.quality import sheets
from datasets.quality.statistics import measure
from datasets.stored.manifest import read_manifest
from deeplab_tf.errors import UserError
from tests.datasets import raw_trees

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Nine images for training and one for validation, which is one of the nine under another name."""
    tree = raw_trees.make_folder(tmp_path / "raw")
    out = tmp_path / "data"
    convert("folder", tree.source, str(out), num_workers=1)
    manifest = read_manifest(out)
    (val,) = manifest.split("val").ids
    root = Path(tree.source.root)
    first, second = (next((root / "images").glob(f"{stem}.*")) for stem in (val, manifest.split("train").ids[2]))
    second.write_bytes(first.read_bytes())
    convert("folder", tree.source, str(out), num_workers=1)
    return out


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_data_set_is_described_and_what_hurts_is_said(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(str(data_dir), str(tmp_path / "out"))
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].startswith("train: 9 images of raw, 16 x 12 (width x height), 0.0% of the pixels ignored")
    assert lines[1].startswith("val: 1 images of raw")
    train, val = (measure(read_manifest(data_dir), split) for split in ("train", "val"))
    (row,) = [line.split() for line in lines if line.split()[:1] == ["0"]]
    expected = [
        [str(split.class_pixels[0]), f"{split.class_shares[0]:.2%}", str(split.count)] for split in (train, val)
    ]
    assert row[2:] == [*expected[0], *expected[1]]
    assert "1 images of val, which has 1, are in train too, 1 of them with the same bytes" in said
    assert "train has 9 images" in said
    written = json.loads((tmp_path / "out" / "check.json").read_text())
    assert [finding["text"] for finding in written["findings"]] == [finding.text for finding in found]
    name = read_manifest(data_dir).info.class_names[0]
    assert written["splits"]["train"]["classes"][name]["pixels"] == train.class_pixels[0]
    for name in ("classes.png", "images.jpg", "suspicious.jpg"):
        assert picture(tmp_path / "out" / name).std() > 1


def test_an_older_sheet_of_suspicious_images_goes_when_there_are_none(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "suspicious.jpg").write_text("old")
    check(str(data_dir), str(tmp_path / "out"), against="")
    assert not (tmp_path / "out" / "suspicious.jpg").exists()


def test_a_split_without_labels_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = raw_trees.make_voc(tmp_path / "raw")
    root = Path(tree.source.root) / "VOCdevkit" / "VOC2012"
    raw_trees.write_list(root / "ImageSets" / "Segmentation" / "test.txt", ["2012_000009"])
    raw_trees.save_photo(root / "JPEGImages" / "2012_000009.jpg")
    convert("voc12", tree.source, str(tmp_path / "data"), num_workers=1)
    check(str(tmp_path / "data"), str(tmp_path / "out"), split="test", against="")
    assert "test: 1 images of voc12, 30 x 20 (width x height), no labels" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"check.json"}


def test_a_split_in_which_all_is_ignored_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = raw_trees.make_folder(tmp_path / "raw", 3)
    listed = raw_trees.write_list(tmp_path / "ids.txt", ["img0", "img1"])  # no car there
    root = Path(tree.source.root)
    raw_trees.write_list(root / "splits" / "train.txt", ["img0", "img1"])
    convert("folder", tree.source, str(tmp_path / "data"), keep_classes=["car"], id_file=str(listed), num_workers=1)
    check(str(tmp_path / "data"), str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "100% of all pixels are ignored" in said
    assert "no pixel of train is labelled car" in said


def test_every_class_is_shown(data_dir: Path) -> None:
    split = measure(read_manifest(data_dir), "train")
    seen = split.class_images > 0
    for count in (int(seen.sum()), 5, 9, 50):
        chosen = sheets.choose(split, count)
        assert chosen == sorted(set(chosen)) and len(chosen) == min(count, 9)
        assert (split.pixels[chosen, :-1].sum(axis=0) > 0).tolist() == seen.tolist()


def test_augmented_examples_are_shown(data_dir: Path, tmp_path: Path) -> None:
    augmentation = {"crop_size": 33, "scale_range": (0.5, 2.0), "foreground_crops": 1.0, "colour_jitter": (0.2,)}
    path = show_augmented(str(data_dir), str(tmp_path / "out"), "", 0, augmentation, num_images=4)
    first = picture(path)
    assert picture(show_augmented(str(data_dir), str(tmp_path / "out"), "", 0, augmentation, 4)).tobytes() == (
        first.tobytes()
    )
    assert picture(show_augmented(str(data_dir), str(tmp_path / "out"), "", 1, augmentation, 4)).tobytes() != (
        first.tobytes()
    )


def test_what_cannot_be_written_or_read_is_named(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder --out=.*file"):
        check(str(data_dir), str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"'trian'.*Existing: train, val"):
        check(str(data_dir), str(tmp_path / "out"), split="trian")
    with pytest.raises(UserError, match="no such folder"):
        check(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_works_from_its_flags(data_dir: Path) -> None:
    command = [sys.executable, "-m", "datasets.check", f"--data_dir={data_dir}"]
    result = subprocess.run(
        [*command, "--set=train.crop_size=17"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "what will hurt training:" in result.stdout
    assert (data_dir / "check" / "images.jpg").is_file()
