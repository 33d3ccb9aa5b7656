"""What a workdir knows of the images that it was trained on."""

import gzip
import hashlib

import pytest

from deeplab_tf.training import trained_images
from deeplab_tf.training.trained_images import Images, TrainedImages, TrainingData


def images(text, hashes=True):
    """An image for each letter; its hash is the capital."""
    return Images(tuple(text), tuple(text.upper()) if hashes else None)


def data(train, contents="1", hashes=True, **others):
    splits = {name: images(text, hashes) for name, text in {"train": train, **others}.items()}
    return TrainingData("data/mine", "train", splits, contents)


def test_a_resume_says_how_many_images_came_went_and_moved_to_another_split():
    before = trained_images.begin(data("abcd", val="ef"), "none")
    assert before.changes(data("abcd", val="ef")) == ""
    assert before.changes(data("dcba", val="xy")) == ""  # other images of val were never trained on
    said = before.changes(data("abghi", val="cde", test="d"))
    assert "train of data/mine has 3 more images, and lacks 2 that it had" in said
    assert "2 of the 3 images of val, 1 of the 1 images of test were trained on" in said
    # A split that holds the training split, as trainval does, has no image that moved.
    assert "were trained on" not in before.changes(data("abcdg", trainval="abcdg"))


def test_an_image_is_known_by_its_content_where_hashes_are_known_and_else_by_its_id():
    renamed = TrainingData("d", "train", {"train": Images(("x", "y"), ("A", "B"))}, "1")
    assert trained_images.begin(data("ab"), "none").changes(renamed) == ""
    assert "2 more" in trained_images.begin(data("ab", hashes=False), "none").changes(renamed)


def test_other_labels_of_the_same_images_are_told_of():
    assert "with other labels" in trained_images.begin(data("ab"), "none").changes(data("ab", contents="2"))


def test_what_was_trained_on_once_stays_known_also_over_several_changes_and_trainings(tmp_path):
    seen = trained_images.begin(data("ab"), "none").continued_with(data("bc")).continued_with(data("cd"))
    assert sorted(seen.everything().ids) == ["a", "b", "c", "d"] and seen.now == images("cd")
    trained_images.write(str(tmp_path), seen)
    following = trained_images.begin(data("ef"), str(tmp_path))  # --init=WORKDIR
    assert sorted(following.everything().hashes) == list("ABCDEF") and following.now == images("ef")
    assert "1 of the 1 images of val were trained on" in following.changes(data("ex", val="a"))


def test_what_is_written_is_read_and_what_is_damaged_is_told_of(tmp_path, capsys):
    path = tmp_path / trained_images.TRAINED_FILE
    assert trained_images.read(str(tmp_path)) is None and not capsys.readouterr().out
    for seen in (TrainedImages(images("ab"), images("c"), "1"), TrainedImages(images("ab", hashes=False))):
        trained_images.write(str(tmp_path), seen)
        assert trained_images.read(str(tmp_path)) == seen
    whole = path.read_bytes()
    for content in (b"", whole[:-9], b"{}", whole[:30] + b"\0" + whole[31:]):
        path.write_bytes(content)
        assert trained_images.read(str(tmp_path)) is None
        assert "which images were trained on is not known" in capsys.readouterr().out


def test_a_hundred_thousand_images_take_three_megabytes(tmp_path):
    numbers = range(100_000)
    hashes = tuple(hashlib.md5(b"%d" % number).hexdigest() for number in numbers)
    trained_images.write(str(tmp_path), TrainedImages(Images(tuple(f"{n:012d}" for n in numbers), hashes)))
    assert (tmp_path / trained_images.TRAINED_FILE).stat().st_size < 3e6


@pytest.mark.parametrize("now", ["1", '{"ids": [1], "hashes": null}', '{"ids": ["a"], "hashes": []}', '{"ids": []}'])
def test_a_file_of_another_form_is_told_of(tmp_path, capsys, now):
    fields = f'{{"now": {now}, "before": {{"ids": [], "hashes": []}}, "contents": ""}}'
    (tmp_path / trained_images.TRAINED_FILE).write_bytes(gzip.compress(fields.encode()))
    assert trained_images.read(str(tmp_path)) is None and "cannot be read" in capsys.readouterr().out
