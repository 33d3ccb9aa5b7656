import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.sources import Sources, find_sources
from deeplab_tf.images.video import VideoReader, write_video
from deeplab_tf.inference.files import Notes, check_save, planned_files, segment_sources
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.runtime.written import Written

INFO = DatasetInfo("three", ("background", "red", "green"), pascal_palette(3))


def ask(image):
    scores = np.concatenate([np.full_like(image[..., :1], 90), image[..., :2]], axis=-1).astype(np.float32)
    return scores / scores.sum(axis=-1, keepdims=True)


SEGMENTER = Segmenter(ask, INFO)


def save_image(path, number=0):
    pixels = np.random.default_rng(number).integers(0, 256, (14 + number, 20, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def save_video(path, count=7):
    with write_video(str(path), (48, 64), 10) as add:
        for number in range(count):
            frame = np.full((48, 64, 3), 30, np.uint8)
            frame[10:30, 5 * number : 5 * number + 20] = (230, 20, 20)
            add(frame)


@pytest.fixture
def folders(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "in", tmp_path / "out"


def segment(images, out, *save, segmenter=SEGMENTER):
    return segment_sources(segmenter, find_sources(str(images), str(out)), str(out), save)


def read_labels(path):
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_files_of_an_image_hold_what_the_model_says_of_it(folders):
    folder, out = folders
    image = save_image(folder / "a.jpg")
    assert segment(folder, out, "labels", "overlay", "probabilities") == []
    assert names(out) == ["a.png", "a_overlay.jpg", "a_probabilities.npy"]
    prediction = SEGMENTER.segment(image)
    np.testing.assert_array_equal(read_labels(out / "a.png"), prediction.labels)
    stored = np.load(out / "a_probabilities.npy", allow_pickle=False)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, prediction.probabilities)
    visualize.save_image(folder / "expected.jpg", SEGMENTER.overlay(prediction))
    assert (out / "a_overlay.jpg").read_bytes() == (folder / "expected.jpg").read_bytes()


def test_bad_files_between_good_ones_are_named_and_the_others_segmented(folders, capfd):
    folder, out = folders
    images = {f"{number}.png": save_image(folder / f"{number}.png", number) for number in range(9)}
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "5.png").write_bytes(b"")
    (folder / "6.png").unlink()
    (folder / "6.png").mkdir()
    failures = segment(folder, out, "labels")
    assert [str(error).split(":")[0] for error in failures] == [str(folder / f"{number}.png") for number in (3, 5, 6)]
    assert names(out) == ["0.png", "1.png", "2.png", "4.png", "7.png", "8.png"]
    for name in names(out):
        np.testing.assert_array_equal(read_labels(out / name), SEGMENTER.segment(images[name]).labels)
    assert [line.split(": ")[0] for line in capfd.readouterr().err.splitlines()] == ["warning"] * 3


def test_a_bad_file_that_was_named_itself_is_an_error(folders, capfd):
    folder, out = folders
    (folder / "a.jpg").write_bytes(b"no image")
    (folder / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.jpg: .*no known image format"):
        segment(folder / "a.jpg", out, "labels")
    with pytest.raises(UserError, match=r"a\.mp4: expected a video"):
        segment(folder / "a.mp4", out, "overlay")
    assert capfd.readouterr().err == "" and names(out) == []


def test_a_defect_or_a_full_disk_ends_it(folders, monkeypatch):
    folder, out = folders
    save_image(folder / "a.png")

    def broken(image):
        raise KeyError("defect")

    with pytest.raises(KeyError, match="defect"):
        segment(folder, out, "labels", segmenter=Segmenter(broken, INFO))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deeplab_tf.runtime.files.os.replace", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        segment(folder, out, "labels")
    assert names(out) == []


def test_a_video_becomes_an_overlay_of_its_rate_and_labels_for_each_frame(folders):
    folder, out = folders
    save_video(folder / "walk.mp4")
    save_image(folder / "walk.png")
    assert segment(folder, out, "labels", "overlay", "frames") == []
    assert names(out) == ["walk", "walk.png", "walk_overlay.jpg", "walk_overlay.mp4"]
    with VideoReader(str(folder / "walk.mp4")) as video, VideoReader(str(out / "walk_overlay.mp4")) as drawn:
        assert (drawn.frames_per_second, drawn.stated_frames, drawn.size) == (10, 7, (48, 64))
        assert names(out / "walk") == [f"{number:06d}.png" for number in range(7)]
        pairs = zip(video.frames(), drawn.frames(), strict=True)
        for number, (frame, overlay) in enumerate(pairs):
            prediction = SEGMENTER.segment(frame)
            assert 1 in prediction.labels
            np.testing.assert_array_equal(read_labels(out / "walk" / f"{number:06d}.png"), prediction.labels)
            assert np.abs(overlay.astype(int) - SEGMENTER.overlay(prediction)).mean() < 6  # the codec


def test_the_legend_of_a_video_stands_below_each_frame_with_all_classes_but_the_background(folders):
    folder, out = folders
    save_video(folder / "walk.mp4", count=2)
    assert segment(folder, out, "legend") == [] and names(out) == ["walk_legend.mp4"]
    with VideoReader(str(folder / "walk.mp4")) as video, VideoReader(str(out / "walk_legend.mp4")) as drawn:
        assert drawn.stated_frames == 2
        for frame, picture in zip(video.frames(), drawn.frames(), strict=True):
            overlay = SEGMENTER.overlay(SEGMENTER.segment(frame))
            assert np.abs(picture[:48, :64].astype(int) - overlay).mean() < 6  # the codec
            key = picture[52:].reshape(-1, 3).astype(int)
            near = [(np.abs(key - colour).max(axis=1) < 40).sum() for colour in INFO.palette]
            assert near[1] > 50 and near[2] > 50 and near[0] < 225  # black: only the letters


def test_videos_that_break_off_or_cannot_be_opened_do_not_keep_the_next_from_being_segmented(folders):
    folder, out = folders
    writer = cv2.VideoWriter(str(folder / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    whole = (folder / "a.avi").read_bytes()
    (folder / "a.avi").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "b.mkv").write_bytes(b"")
    save_video(folder / "c.mp4")
    cut, unopened = segment(folder, out, "overlay")
    assert "a.avi: expected about 20 frames" in str(cut) and "b.mkv: expected a video" in str(unopened)
    assert names(out) == ["a_overlay.mp4", "c_overlay.mp4"]


def test_a_video_of_unknown_rate_is_written_at_25_frames_a_second(folders, monkeypatch, capfd):
    folder, out = folders
    save_video(folder / "a.mp4")
    monkeypatch.setattr("deeplab_tf.images.video._HIGHEST_RATE", 5.0)
    segment(folder, out, "overlay")
    assert "does not declare its frame rate" in capfd.readouterr().out
    capture = cv2.VideoCapture(str(out / "a_overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 25
    capture.release()


def test_what_a_failing_video_began_is_removed(folders):
    folder, out = folders
    save_video(folder / "a.mp4")

    asked = []

    def breaks(image):
        asked.append(image)
        if len(asked) == 4:
            raise KeyError("defect")
        return ask(image)

    with pytest.raises(KeyError):
        segment(folder, out, "overlay", segmenter=Segmenter(breaks, INFO))
    assert names(out) == []


def test_a_folder_is_searched_for_images_and_videos_by_their_endings(folders):
    folder, out = folders
    for name in ("b.JPG", "a.webp", "a.mov", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(b"")
    sources = find_sources(str(folder), str(out))
    assert list(sources.images) == ["a", "b"] and list(sources.videos) == ["a"] and sources.of_folder


def test_answers_never_replace_what_is_segmented_nor_each_other(folders):
    folder, out = folders
    save_image(folder / "a.png")
    with pytest.raises(UserError, match="is the folder of the images"):
        find_sources(str(folder), str(folder / ".." / "in"))
    with pytest.raises(UserError, match="would replace it"):
        find_sources(str(folder / "a.png"), str(folder))
    (folder / "a.jpg").write_bytes(b"")
    assert find_sources(str(folder / "a.jpg"), str(folder)).images == {"a": str(folder / "a.jpg")}
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would get results of the same names"):
        find_sources(str(folder), str(out))


@pytest.mark.parametrize(
    ("name", "save", "says"),
    [
        ("a.png", ["label"], "--save knows labels, indices, overlay, .*, frames; got label"),
        ("a.png", ["frames"], "saves nothing of images"),
        ("a.mp4", ["labels", "probabilities"], "saves nothing of videos"),
    ],
)
def test_what_would_save_nothing_is_refused(folders, name, save, says):
    folder, out = folders
    (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match=says):
        check_save(save, find_sources(str(folder), str(out)))


def test_probabilities_need_a_model_that_has_them(folders):
    folder, out = folders
    save_image(folder / "a.png")
    labels_only = Segmenter(lambda image: image[..., 0] % 3, INFO, has_probabilities=False)
    with pytest.raises(UserError, match="returns labels only"):
        segment(folder, out, "probabilities", segmenter=labels_only)


def test_an_empty_folder_and_a_missing_one_are_refused(folders):
    folder, out = folders
    with pytest.raises(UserError, match="holds no image"):
        find_sources(str(folder), str(out))
    with pytest.raises(UserError, match="does not exist"):
        find_sources(str(folder / "nowhere"), str(out))


def test_a_picture_too_long_for_jpeg_and_a_name_too_long_to_write_end_nothing(folders):
    folder, out = folders
    Image.new("RGB", (65_536, 1)).save(folder / "long.png")
    save_image(folder / ("n" * 251 + ".png"))
    save_image(folder / "usual.png")
    long, name = segment(folder, out, "labels", "overlay")
    assert str(long).startswith(f"{folder / 'long.png'}: cannot write") and "at most 65535 pixels" in str(long)
    assert "nnn.png: cannot write" in str(name) and "refuses the name" in str(name)
    assert names(out) == ["long.png", "n" * 251 + ".png", "usual.png", "usual_overlay.jpg"]


def test_an_image_too_large_for_the_crf_is_known_before_the_network_runs(folders, monkeypatch):
    folder, out = folders
    sizes = {"large.png": (3000, 2000), "small.png": (20, 10)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(folder / name)
    monkeypatch.setattr("deeplab_tf.runtime.memory.available_bytes", lambda: 6_000_000_000)
    seen = []

    def watched(image):
        seen.append(image.shape)
        return ask(image)

    [error] = segment(
        folder, out, "labels", segmenter=Segmenter(watched, INFO, crf=CrfParams(iterations=1), crf_backend="tf")
    )
    assert str(error).startswith(f"{folder / 'large.png'}: the dense CRF of an image of 3000x2000 pixels takes about")
    assert names(out) == ["small.png"] and seen == [(10, 20, 3)]


def test_a_frame_that_cannot_be_segmented_ends_its_video_only(folders):
    folder, out = folders
    save_video(folder / "a.mp4")
    save_video(folder / "b.mp4")
    count = []

    def network(image):
        count.append(1)
        if len(count) == 3:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return ask(image)

    [error] = segment(folder, out, "overlay", segmenter=Segmenter(network, INFO))
    assert str(error).startswith(f"{folder / 'a.mp4'}, frame 00000") and names(out) == ["b_overlay.mp4"]


def test_results_keep_the_sub_folders_and_tables_have_a_row_for_each_image(folders):
    folder, out = folders
    (folder / "sub").mkdir()
    images = {name: save_image(folder / f"{name}.png", number) for number, name in enumerate(("b", "sub/b", "a"))}
    (folder / "broken.png").write_bytes(b"")
    sources = find_sources(str(folder), str(out), recursive=True)
    assert len(segment_sources(SEGMENTER, sources, str(out), ["labels", "shares", "coco"])) == 1
    assert names(out) == ["a.png", "b.png", "coco.json", "shares.csv", "sub"] and names(out / "sub") == ["b.png"]
    header, *rows = [line.split(",") for line in (out / "shares.csv").read_text().splitlines()]
    assert header == ["image", "width", "height", *INFO.class_names]
    assert [row[0] for row in rows] == [str(folder / f"{name}.png") for name in ("a", "b", "sub/b")]
    for row, name in zip(rows, ("a", "b", "sub/b"), strict=True):
        labels = SEGMENTER.segment(images[name]).labels
        assert (int(row[2]), int(row[1])) == labels.shape
        np.testing.assert_allclose(
            np.array(row[3:], float), np.bincount(labels.ravel(), minlength=3) / labels.size, atol=1e-6
        )
    coco = json.loads((out / "coco.json").read_text())
    assert [image["id"] for image in coco["images"]] == [1, 2, 3]
    assert {annotation["category_id"] for annotation in coco["annotations"]} == {1, 2}
    assert [annotation["id"] for annotation in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    areas = {image["id"]: 0 for image in coco["images"]}
    for annotation in coco["annotations"]:
        areas[annotation["image_id"]] += annotation["area"]
    expected = [(SEGMENTER.segment(images[name]).labels > 0).sum() for name in ("a", "b", "sub/b")]
    assert list(areas.values()) == expected


def test_the_table_of_classes_sums_over_all_images(folders):
    folder, out = folders
    images = [save_image(folder / f"{number}.png", number) for number in range(3)]
    Image.fromarray(np.full((20, 30, 3), 250, np.uint8)).save(folder / "plain.png")
    segment_sources(SEGMENTER, find_sources(str(folder), str(out)), str(out), ["classes"])
    labels = [SEGMENTER.segment(image).labels for image in [*images, np.full((20, 30, 3), 250, np.uint8)]]
    counts = np.array([[(each == label).sum() for label in range(3)] for each in labels])
    assert (counts == 0).any() and (counts.sum(axis=0) > 0).all()  # a class is missing from an image
    assert names(out) == ["classes.csv"]
    header, *rows = [line.split(",") for line in (out / "classes.csv").read_text().splitlines()]
    assert header == ["class", "pixels", "share", "images"] and [row[0] for row in rows] == list(INFO.class_names)
    assert [int(row[1]) for row in rows] == counts.sum(axis=0).tolist()
    np.testing.assert_allclose([float(row[2]) for row in rows], counts.sum(axis=0) / counts.sum(), atol=1e-6)
    assert [int(row[3]) for row in rows] == (counts > 0).sum(axis=0).tolist()


def test_files_that_this_command_did_not_write_are_kept(folders):
    folder, out = folders
    save_image(folder / "a.png")
    save_video(folder / "v.mp4")
    sources, save = find_sources(str(folder), str(out)), ["labels", "overlay", "shares", "frames"]
    planned = planned_files(sources, str(out), save)
    assert planned == ["a.png", "a_overlay.jpg", "shares.csv", "v_overlay.mp4"]
    written = Written(str(out), "predict")
    segment_sources(SEGMENTER, sources, str(out), save, written=written)
    again = Written(str(out), "predict")
    again.refuse_others(planned_files(sources, str(out), save), overwrite=False)
    (out / "v" / "000003.png").write_bytes(b"mine")
    (out / "a.png").write_bytes(b"mine too")
    assert again.others(planned_files(sources, str(out), save)) == ["a.png", "v/000003.png"]


def test_two_results_of_one_name_are_refused(folders):
    sources = Sources({"a": "a.jpg", "a_mask": "a_mask.jpg"}, {}, True)
    with pytest.raises(UserError, match=r"a.jpg and a_mask.jpg would both have the result a_mask.png"):
        planned_files(sources, "out", ["labels", "mask"])
    assert len(planned_files(sources, "out", ["mask"])) == 2


def test_the_first_notes_are_printed_and_the_others_counted(folders, capfd):
    folder, out = folders
    for number in range(7):
        frames = [Image.new("RGB", (9, 8), (level, 0, 0)) for level in (0, 200)]
        frames[0].save(folder / f"{number}.gif", save_all=True, append_images=frames[1:])
    assert segment(folder, out, "labels") == []
    lines = capfd.readouterr().err.splitlines()
    assert sum("several pages or frames" in line for line in lines) == Notes.SHOWN
    assert lines[-1] == "note: 2 more notes are not shown."
