"""What the values of masks mean, judged by all masks together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from datasets.raw import png
from datasets.source import Source
from datasets.sources import folder
from tests.datasets import raw_trees
from tests.datasets.own_data import HEIGHT, NAMES, WIDTH, is_right, is_told, make, read, save_mask, truth

COLOURED = ("background 0 0 0", "disc 250 50 83", "box 51 221 255")
COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
TWO = ("background", "thing")


def with_alpha(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels] * 3 + [np.where(labels > 0, 255, 40).astype(np.uint8)], axis=-1)


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: np.stack([labels] * 3, axis=-1),
        with_alpha,
        lambda labels: np.stack([labels, np.full_like(labels, 255)], axis=-1),
        lambda labels: labels.astype(np.uint16),
    ],
    ids=["RGB", "RGBA", "grey and alpha", "16 bits"],
)
def test_indices_are_read_however_they_were_saved(tmp_path: Path, change: Callable[..., Any]) -> None:
    is_right(make(tmp_path, change=change))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int32, np.uint16, bool])
def test_arrays_of_integers_are_masks(tmp_path: Path, dtype: Any) -> None:
    kinds = 2 if dtype is bool else 3
    make(tmp_path, mask="masks/img_{:03}.npy", change=lambda labels: labels.astype(dtype)[..., None], kinds=kinds)
    is_right(tmp_path, kinds)


def test_an_array_of_labelmes_has_minus_one_for_what_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, mask="masks/img_{:03}.npy", change=lambda labels: np.where(labels == 2, -1, labels.astype(int)))
    _, labels, _ = read(tmp_path)
    assert {tuple(np.unique(stored)) for stored in labels.values()} == {(0, 1, 255)}


@pytest.mark.parametrize("kind", ["P", "RGB", "RGBA"])
def test_colours_of_the_class_file_count(tmp_path: Path, kind: str) -> None:
    make(tmp_path, classes=COLOURED)
    for number in range(4):
        path = tmp_path / "masks" / f"img_{number:03}.png"
        if kind == "P":
            raw_trees.save_palette_mask(path, 2 - truth(number), [tuple(colour) for colour in COLOURS[::-1].tolist()])
        else:
            Image.fromarray(COLOURS[truth(number)]).convert(kind).save(path)
    is_right(tmp_path)


def test_colours_without_classes_are_told_with_what_to_write(tmp_path: Path) -> None:
    make(tmp_path, change=lambda labels: COLOURS[labels])
    message = is_told(tmp_path, r"got colours without a class: \(0, 0, 0\), .*Give every class its colour in")
    assert "So are 4 of 4 masks" in message
    pascal = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    make(tmp_path, change=lambda labels: pascal[labels])
    is_told(tmp_path, "They look like PASCAL VOC's; then the lines are: background 0 0 0; disc 128 0 0; box 0 128 0")


@pytest.mark.parametrize("kind", ["L", "P", "RGB", "1"])
def test_black_and_white_is_told_unless_the_class_file_gives_these_colours(tmp_path: Path, kind: str) -> None:
    make(tmp_path, change=lambda labels: labels * 255, kinds=2, classes=TWO)
    for path in (tmp_path / "masks").iterdir():
        Image.open(path).convert(kind).save(path)
    if kind == "1":
        is_right(tmp_path, 2, TWO)  # 0 and 1 in the file
        return
    message = is_told(tmp_path, "nothing but 0 and 255.*write 1 instead of 255, or convert with --values=0,255")
    assert "So are 4 of 4 masks" in message
    is_right(tmp_path, 2, TWO, values=(0, 255))
    if kind != "P":
        raw_trees.write_list(tmp_path / "classes.txt", ["background 0 0 0", "thing 255 255 255"])
        is_right(tmp_path, 2, TWO)


def test_black_and_white_among_others_is_told(tmp_path: Path) -> None:
    make(tmp_path, kinds=2, classes=TWO)
    save_mask(tmp_path / "masks" / "img_002.png", truth(2, 2) * 255)
    is_told(tmp_path, r"img_002\.png: holds nothing but 0 and 255.* So is this one mask.*--ignore_label=255")
    _, labels, _ = read(tmp_path, ignore_label=255)
    assert np.unique(labels["img_002"]).tolist() == [0, 255]


def test_255_beside_other_indices_is_what_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, change=lambda labels: np.where(labels == 2, 255, labels).astype(np.uint8), classes=TWO)
    save_mask(tmp_path / "masks" / "img_002.png", np.where(truth(2) == 2, 255, 0).astype(np.uint8))
    _, labels, paragraph = read(tmp_path)
    assert np.unique(labels["img_002"]).tolist() == [0, 255]
    assert "Not counted: " in paragraph


def test_soft_edges_are_told_and_can_be_cut(tmp_path: Path) -> None:
    def soften(labels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(labels * 255).filter(ImageFilter.GaussianBlur(1.5)))

    make(tmp_path, change=soften, kinds=2, classes=TWO)
    is_told(tmp_path, "a soft mask, with .* levels where 2 classes have 2.*--threshold=128")
    names, labels, _ = read(tmp_path, threshold=128)
    assert names == TWO
    for number in range(4):
        assert (labels[f"img_{number:03}"] != truth(number, 2)).mean() < 0.02
    raw_trees.write_list(tmp_path / "classes.txt", list(NAMES))
    is_told(tmp_path, "--threshold: expected two classes, got 3", threshold=128)


def test_levels_that_were_stretched_to_be_seen_are_told_with_the_flag(tmp_path: Path) -> None:
    make(tmp_path, change=lambda labels: labels * 127)
    is_told(tmp_path, "holds the values 0, 127, 254: class indices that were stretched.*--values=0,127,254")
    is_right(tmp_path, values=(0, 127, 254))


def test_indices_that_start_at_1_are_told_with_the_flag(tmp_path: Path) -> None:
    make(tmp_path, change=lambda labels: labels + 1)
    is_told(tmp_path, r"start at 1 \(values 1\.\.3 for 3 classes\).*--values=1,2,3")
    is_right(tmp_path, values=(1, 2, 3))


def test_with_0_ignored_the_classes_are_1_to_n(tmp_path: Path) -> None:
    make(tmp_path, classes=("disc", "box"))
    is_told(tmp_path, "got 2, one more than the 2 classes.*--ignore_label=0 if 0 does not count and 1 is disc")
    names, labels, paragraph = read(tmp_path, ignore_label=0)
    assert names == ("disc", "box")
    np.testing.assert_array_equal(labels["img_001"], np.where(truth(1) == 0, 255, truth(1) - 1))
    assert "the classes are the values 1 to 2: 1 is disc" in paragraph


def test_numbers_of_the_class_file_say_the_values(tmp_path: Path) -> None:
    values = np.array([7, 20, 11], np.uint8)
    make(tmp_path, change=lambda labels: values[labels], classes=("7 background", "11 box", "20 disc"))
    names, labels, _ = read(tmp_path)
    assert names == ("background", "box", "disc")
    np.testing.assert_array_equal(labels["img_001"], np.array([0, 2, 1])[truth(1)])


def test_a_value_0_without_a_class_is_told(tmp_path: Path) -> None:
    make(tmp_path, classes=("1 disc", "2 box"))
    is_told(tmp_path, "the mask value 0 has no class.*'0 background', or convert with --ignore_label=0")
    assert read(tmp_path, ignore_label=0)[0] == ("disc", "box")
    make(tmp_path, classes=("1 background", "2 disc", "3 box"))
    assert "numbers its lines from 1" in is_right(tmp_path)


def test_a_class_called_ignore_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, classes=("background", "ignore", "box"))
    names, labels, _ = read(tmp_path)
    assert names == ("background", "box")
    np.testing.assert_array_equal(labels["img_001"], np.array([0, 255, 1])[truth(1)])


@pytest.mark.parametrize(
    ("mask", "change", "match"),
    [
        (
            "masks/img_{:03}.jpg",
            lambda labels: labels,
            r"img_000\.jpg: expected a mask stored without loss \(PNG\), got JPEG",
        ),
        (
            "masks/img_{:03}.tif",
            lambda labels: labels / np.float32(2),
            r"img_000\.tif: expected class indices.* float32 ",
        ),
        (
            "masks/img_{:03}.npy",
            lambda labels: labels / 2,
            r"img_000\.npy: expected class indices.* float64 values from 0 to 1",
        ),
        ("masks/img_{:03}.npy", lambda labels: np.stack([labels] * 3, -1), r"one number a pixel.*argmax"),
        ("masks/img_{:03}.png", lambda labels: labels * 0 + 255, r"at least one labelled pixel|nothing but 0 and 255"),
    ],
)
def test_what_cannot_be_a_mask_is_told_by_name(
    tmp_path: Path, mask: str, change: Callable[..., Any], match: str
) -> None:
    is_told(make(tmp_path, mask=mask, change=change), match)


def test_a_damaged_array_and_one_of_objects_are_told(tmp_path: Path) -> None:
    make(tmp_path, mask="masks/img_{:03}.npy")
    path = tmp_path / "masks" / "img_001.npy"
    good = path.read_bytes()
    for data in (good[:30], good[:-5], b"x" * 50):
        path.write_bytes(data)
        is_told(tmp_path, r"img_001\.npy: expected a whole \.npy file")
    path.write_bytes(good.replace(b"(24, 32)", b"(24, 99999999999)"[: len(b"(24, 32)")]))
    is_told(tmp_path, r"img_001\.npy: expected")
    np.save(path, np.array([[None]]), allow_pickle=True)
    is_told(tmp_path, r"img_001\.npy: expected an array of integers .*got object")


def test_an_empty_mask_is_background(tmp_path: Path) -> None:
    make(tmp_path)
    save_mask(tmp_path / "masks" / "img_002.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    _, labels, _ = read(tmp_path)
    assert not labels["img_002"].any()


def test_values_and_classes_have_to_agree(tmp_path: Path) -> None:
    make(tmp_path)
    is_told(tmp_path, "--values: expected the mask value of each of the 3 classes", values=(0, 255))
    is_told(tmp_path, "--ignore_label=1 is one of --values too", values=(0, 1, 2), ignore_label=1)


def test_twelve_bits_in_sixteen_are_told_with_the_factor(tmp_path: Path) -> None:
    make(tmp_path, image="images/img_{:03}.tif")
    for path in sorted((tmp_path / "images").iterdir()):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(path)
    is_told(
        tmp_path, r"img_00\d\.tif: 16-bit images that use 12 bits only, in all 4 of them.*nearly black.*divided by 16"
    )
    for path in sorted((tmp_path / "images").iterdir()):
        Image.fromarray(np.asarray(Image.open(path)) * 16).save(path)
    is_right(tmp_path)


def test_colour_of_twelve_bits_in_sixteen_is_told_too(tmp_path: Path) -> None:
    make(tmp_path, image="images/img_{:03}.tif")
    for path in sorted((tmp_path / "images").iterdir()):
        cv2.imwrite(str(path), np.asarray(Image.open(path).convert("RGB")).astype(np.uint16) * 16)
    is_told(tmp_path, r"img_00\d\.tif: 16-bit images that use 12 bits only, in all 4 of them")


def test_images_of_several_pages_are_counted(tmp_path: Path) -> None:
    make(tmp_path, image="images/img_{:03}.tif")
    first = sorted((tmp_path / "images").iterdir())[0]
    image = Image.open(first).copy()
    image.save(first, save_all=True, append_images=[image])
    _, text = folder.prepare(Source(root=str(tmp_path)))
    assert f"of which the first is taken: 1 (images/{first.name})" in " ".join(text.split())


def test_a_mask_that_needs_no_change_keeps_its_compressed_pixels(tmp_path: Path) -> None:
    make(tmp_path)
    stored = png.encode_grey(truth(1))
    (tmp_path / "masks" / "img_001.png").write_bytes(stored)
    source, _ = folder.prepare(Source(root=str(tmp_path)))
    assert folder.example(source, "train", "img_001").labels_png == stored


def save_palette(path: Path, labels: np.ndarray, colours: list[int]) -> None:
    image = Image.fromarray(labels)
    image.putpalette(colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_pascals_colours_in_another_order_are_told(tmp_path: Path) -> None:
    make(tmp_path)
    for number in range(4):
        order = np.array([2, 1, 0], np.uint8)  # as a program that sorts the palette leaves it
        save_palette(tmp_path / "masks" / f"img_{number:03}.png", order[truth(number)], [0, 128, 0, 128, 0, 0, 0, 0, 0])
    told = is_told(tmp_path, "its palette was reordered: index 0 has the colour")
    assert "background 0 0 0; disc 128 0 0; box 0 128 0" in told
    (tmp_path / "classes.txt").write_text("background 0 0 0\ndisc 128 0 0\nbox 0 128 0\n")
    is_right(tmp_path)


def test_other_colours_of_a_palette_say_nothing_of_its_order(tmp_path: Path) -> None:
    make(tmp_path)
    for number in range(4):  # disc has the colour of PASCAL VOC's person
        save_palette(tmp_path / "masks" / f"img_{number:03}.png", truth(number), [0, 0, 0, 192, 128, 128, 64, 128, 0])
    is_right(tmp_path)


def test_colours_with_red_and_blue_swapped_are_told(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
    make(tmp_path, change=lambda labels: colours[labels][:, :, ::-1].copy(), classes=None)
    (tmp_path / "classes.txt").write_text("background 0 0 0\ndisc 250 50 83\nbox 51 221 255\n")
    is_told(tmp_path, "their red and blue are swapped")


def test_a_threshold_reads_jpegs(tmp_path: Path) -> None:
    make(tmp_path, mask="masks/img_{:03}.jpg", change=lambda labels: labels * 255, classes=NAMES[:2], kinds=2)
    is_told(tmp_path, "--threshold=128 reads it as it is")
    _, labels, _ = read(tmp_path, threshold=128)
    for number in range(4):
        wrong = labels[f"img_{number:03}"] != truth(number, 2)
        assert wrong.mean() < 0.01


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda labels: labels, "hold the values 0, 1, 2: one line for each, such as '2 NAME'"),
        (lambda labels: (labels > 0) * np.uint8(255), "'background 0 0 0' and 'NAME 255 255 255'"),
        (
            lambda labels: np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)[labels],
            "hold 3 colours. Write a line for each, with its name: NAME 0 0 0; NAME",
        ),
    ],
)
def test_without_names_the_message_says_what_the_masks_hold(tmp_path: Path, change: Any, told: str) -> None:
    is_told(make(tmp_path, change=change, classes=None), told)
