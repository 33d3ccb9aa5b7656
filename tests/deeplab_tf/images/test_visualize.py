import io

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.dataset_info import pascal_palette
from deeplab_tf.images import visualize

PALETTE = pascal_palette(4)
LABELS = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


def grey(height, width, value=128):
    return np.full((height, width, 3), value, np.uint8)


def test_each_label_gets_its_colour_and_255_the_border_colour():
    colours = visualize.colourize(LABELS.astype(np.int32), PALETTE)
    assert colours.shape == (2, 3, 3) and colours.dtype == np.uint8
    assert [tuple(c) for c in colours[0]] == [PALETTE[0], PALETTE[1], PALETTE[2]]
    assert tuple(colours[1, 1]) == visualize.BORDER_COLOUR


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros(4, int), np.array([[256]]), np.array([[-1]])], ids=str)
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(ValueError, match="labels must be"):
        visualize.colourize(labels, PALETTE)


def test_an_overlay_mixes_inside_lightens_the_contour_and_leaves_background_and_border():
    labels = np.zeros((9, 12), np.uint8)
    labels[2:7, 3:9] = 1
    labels[:, 11] = 255
    mixed = visualize.overlay(grey(9, 12), labels, PALETTE, alpha=0.5)
    np.testing.assert_array_equal(mixed[4, 5], (np.array(PALETTE[1]) + 128) // 2)
    np.testing.assert_array_equal(mixed[2, 5], (np.array(PALETTE[1]) + 255) // 2 + (np.array(PALETTE[1]) + 255) % 2)
    assert (mixed[labels != 1] == 128).all()


def test_an_overlay_paints_class_0_where_it_is_not_the_background():
    labels = np.zeros((9, 12), np.uint8)
    labels[2:7, 3:9] = 1
    road = [(200, 0, 0), (0, 200, 0)]
    mixed = visualize.overlay(grey(9, 12), labels, road, alpha=1, background=None)
    assert (mixed[0, 0] == (200, 0, 0)).all() and (mixed[4, 5] == (0, 200, 0)).all()
    other = visualize.overlay(grey(9, 12), labels, road, alpha=1, background=1)
    assert (other[0, 0] == (200, 0, 0)).all() and (other[4, 5] == 128).all()
    layer = np.array(Image.open(io.BytesIO(visualize.encode_layer_png(labels, road, background=1))))
    assert layer[0, 0, 3] == 255 and layer[4, 5, 3] == 0


def test_an_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match="as large as the image"):
        visualize.overlay(grey(3, 2), LABELS, PALETTE)
    with pytest.raises(ValueError, match="alpha"):
        visualize.overlay(grey(2, 3), LABELS, PALETTE, alpha=2)


def test_a_palette_png_reads_back_as_indices_and_shows_colours(tmp_path):
    path = tmp_path / "labels.png"
    path.write_bytes(b"an older file")
    visualize.save_palette_png(path, LABELS, PALETTE)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), LABELS)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), visualize.colourize(LABELS, PALETTE))
    assert [p.name for p in tmp_path.iterdir()] == ["labels.png"]  # no temporary file is left


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.jpg", 3), ("a.JPEG", 3)])
def test_an_image_is_written_in_the_format_of_its_name(tmp_path, name, tolerance):
    image = grey(7, 9, 200)
    image[..., 2] = 40
    visualize.save_image(tmp_path / name, image)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == ("PNG" if tolerance == 0 else "JPEG")
        assert np.abs(np.asarray(picture).astype(int) - image).max() <= tolerance


def test_an_unknown_suffix_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"\.jpg.*got .*a\.gif"):
        visualize.save_image(tmp_path / "a.gif", grey(2, 2))
    assert not list(tmp_path.iterdir())


def test_a_legend_wraps_to_its_width_and_shows_every_colour():
    names = [f"class number {k}" for k in range(4)]
    wide, narrow = visualize.legend(names, PALETTE, 900), visualize.legend(names, PALETTE, 200)
    assert wide.shape[1] == 900 and narrow.shape[1] == 200
    assert narrow.shape[0] == 4 * wide.shape[0]
    for colour in PALETTE:
        assert (narrow == colour).all(-1).sum() >= 100
    assert visualize.legend([], [], 50).shape == (0, 50, 3)


def test_a_panel_scales_to_one_height_and_adds_captions_and_legend():
    rows = [[grey(50, 80), grey(50, 80)], [grey(200, 100), grey(200, 100)]]
    plain = visualize.panel(rows, ["image", "truth"], height=100)
    assert plain.shape[1] == 2 * 160 + 8 + 2 * 12
    assert (plain[[0, -1]] == 255).all() and (plain[:, [0, -1]] == 255).all()
    assert (plain == 128).all(-1).sum() >= 2 * 100 * 160 + 2 * 100 * 50
    captioned = visualize.panel(rows, ["image", "truth"], captions=["mIoU 0.8", "mIoU 0.9"], height=100)
    full = visualize.panel(rows, ["image", "truth"], ["mIoU 0.8", "mIoU 0.9"], ["cat", "dog"], PALETTE[1:3], height=100)
    assert plain.shape[0] < captioned.shape[0] < full.shape[0]
    assert (full == PALETTE[2]).all(-1).any() and not (full == PALETTE[3]).all(-1).any()


def test_a_panel_with_missing_pictures_or_captions_is_refused():
    with pytest.raises(ValueError, match=r"rows of 2 pictures, got rows of \[1\]"):
        visualize.panel([[grey(5, 5)]], ["a", "b"])
    with pytest.raises(ValueError, match="one caption per row"):
        visualize.panel([[grey(5, 5)]], ["a"], captions=["x", "y"])
