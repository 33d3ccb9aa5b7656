import os

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.images.sources import find_sources
from deeplab_tf.runtime.written import Written


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """photos/ with images at three depths, and things that are no images."""
    for name in ("a.jpg", "b.GIF", "c.heic", "notes.txt", "README", "x/a.png", "x/y/a.jp2", "x/w.mp4", ".git/d.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_counts_what_it_leaves_out(tree):
    sources = find_sources("photos", "out")
    assert sources.images == {"a": "photos/a.jpg", "b": "photos/b.GIF", "c": "photos/c.heic"} and not sources.videos
    assert sources.left_out == {"ending .txt": 1, "without an ending": 1, "sub-folder(s), which --recursive takes": 1}
    said = "1 ending .txt, 1 sub-folder(s), which --recursive takes, 1 without an ending"
    assert sources.describe_left_out() == said


def test_recursive_keeps_the_folders_in_the_names_and_never_takes_results_or_links(tree):
    (tree / "photos" / "out").mkdir()
    (tree / "photos" / "out" / "a.png").write_bytes(b"")
    os.symlink(tree / "photos", tree / "photos" / "x" / "loop")
    sources = find_sources("photos", "photos/out", recursive=True)
    assert list(sources.images) == ["a", "b", "c", "x/a", "x/y/a"] and sources.videos == {"x/w": "photos/x/w.mp4"}
    assert sources.left_out["symbolic link(s) to folders"] == 1


def test_a_glob_names_results_from_its_first_wildcard_on(tree):
    assert find_sources("photos/*/*", "out").images == {"x/a": "photos/x/a.png"}
    assert list(find_sources(str(tree / "photos" / "**" / "a.*"), "out").images) == ["a", "x/a", "x/y/a"]
    assert list(find_sources("*/a.jpg", "out").images) == ["photos/a"]
    odd = tree / "photos" / "odd[1].png"
    odd.write_bytes(b"")
    assert find_sources(str(odd), "out").images == {"odd[1]": str(odd)}


def test_a_list_names_results_from_the_common_folder_on(tree):
    (tree / "list.txt").write_bytes(b"\xef\xbb\xbfphotos/x/a.png\r\n\nphotos/x/y/a.jp2\nphotos/x/gone.jpg\n")
    sources = find_sources("list.txt", "out")
    assert sources.images == {"a": "photos/x/a.png", "gone": "photos/x/gone.jpg", "y/a": "photos/x/y/a.jp2"}
    assert sources.of_folder  # so that the missing one does not end the run
    (tree / "photos" / "notes.txt").write_text("x/a.png\n")  # relative to the list
    assert find_sources("photos/notes.txt", "out").images == {"a": "photos/x/a.png"}


def test_several_paths_are_taken_together_and_one_file_once(tree):
    sources = find_sources(["photos", "photos/x/w.mp4", "photos/a.jpg"], "out")
    assert list(sources.images) == ["a", "b", "c"] and list(sources.videos) == ["w"]
    assert sources.left_out["named twice"] == 1
    with pytest.raises(UserError, match=r"photos/a.jpg and photos/x/a.png would get results .* with --recursive"):
        find_sources(["photos", "photos/x"], "out")


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("photos/*.xml", "holds no image"),
        ("nowhere.jpg", "--images=nowhere.jpg does not exist; name an image, a video, a folder"),
        ("empty.txt", "expected a list of images, one path per line, got none"),
        ("binary.txt", "expected a list of images, one path per line, got other data"),
        ("bare", r"holds no image .* Left out: 1 ending .txt"),
    ],
)
def test_what_means_no_images_is_refused(tree, images, says):
    (tree / "empty.txt").write_bytes(b"\n")
    (tree / "binary.txt").write_bytes(b"\0\1\2")
    (tree / "bare").mkdir()
    (tree / "bare" / "b.txt").write_bytes(b"")
    with pytest.raises(UserError, match=says):
        find_sources(images, "out")


def test_labels_never_replace_any_source(tree):
    (tree / "photos" / "x" / "z.jpg").write_bytes(b"")
    (tree / "photos" / "x" / "z.png").write_bytes(b"")
    (tree / "list.txt").write_text("photos/x/z.png\nphotos/a.jpg\n")
    with pytest.raises(UserError, match=r"the labels of photos/x/z.jpg would replace photos/x/z.png; name another"):
        find_sources(["photos/x/z.jpg", "list.txt"], "photos/x")


def test_results_that_lie_beside_their_images_are_not_images(tree):
    written = Written("photos", "predict")
    with written.writing("a.png", "a_overlay.jpg"):
        for name in ("a.png", "a_overlay.jpg"):
            (tree / "photos" / name).write_bytes(b"result")
    for pattern in ("photos", "photos/*"):
        sources = find_sources(pattern, "out")
        assert list(sources.images) == ["a", "b", "c"]
        assert sources.left_out["result(s) of predict.py"] == 2
    (tree / "photos" / "a_overlay.jpg").write_bytes(b"edited since: it is the user's")
    assert list(find_sources("photos", "out").images) == ["a", "a_overlay", "b", "c"]


def test_an_address_is_not_a_file(tree):
    with pytest.raises(UserError, match="is an address; download the image"):
        find_sources("https://example.org/a.jpg", "out")
