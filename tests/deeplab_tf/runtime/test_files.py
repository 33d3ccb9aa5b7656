"""Files and folders are whole or not there, whoever else writes beside them."""

import concurrent.futures
import fcntl
import os
import threading

import pytest

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail(path):
    with open(path, "w") as file:
        file.write("half")
    raise OSError(28, "No space left on device")


def test_a_file_that_could_not_be_written_stays_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(str(path), "before")
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: No space left on device"):
        files.write_atomically(str(path), fail)
    assert path.read_text() == "before" and names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "export"

    def write(text, end=lambda _: None):
        def write_to(temporary):
            os.mkdir(temporary)
            files.write_text(os.path.join(temporary, text), text)
            end(os.path.join(temporary, "rest"))

        return write_to

    files.write_folder_atomically(str(path), write("first"))
    with pytest.raises(UserError, match="No space left on device"):
        files.write_folder_atomically(str(path), write("second", fail))
    assert names(path) == ["first"] and names(tmp_path) == ["export"]
    files.write_folder_atomically(str(path), write("third"))
    assert names(path) == ["third"] and names(tmp_path) == ["export"]


def test_a_process_waits_for_another_that_writes_to_the_same_folder(tmp_path, monkeypatch):
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        (tmp_path / ".writing.a.txt").write_text("of the other process")
        if len(waits) == 3:
            os.close(other)

    monkeypatch.setattr(files.time, "sleep", wait)
    files.write_text(str(tmp_path / "a.txt"), "mine")
    assert len(waits) == 3 and (tmp_path / "a.txt").read_text() == "mine"


def test_a_process_that_waits_in_vain_says_so_and_leaves_the_other_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LONGEST_WAIT_SECONDS", 0)
    (tmp_path / ".writing.a.txt").write_text("of the other process")
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process is writing to"):
        files.write_text(str(tmp_path / "a.txt"), "mine")
    os.close(other)
    assert names(tmp_path) == [".writing.a.txt"]


def test_a_process_may_write_to_a_folder_to_which_it_is_writing(tmp_path):
    with files.complete_or_absent(str(tmp_path / "archive")) as temporary:
        files.write_text(str(tmp_path / "picture"), "")
        os.rename(tmp_path / "picture", temporary)
    assert names(tmp_path) == ["archive"]


def test_threads_of_a_process_do_not_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda _: pytest.fail("waited"))
    both = threading.Barrier(2, timeout=30)

    def write(name):
        with files.complete_or_absent(str(tmp_path / name)) as temporary:
            both.wait()
            with open(temporary, "w") as file:
                file.write(name)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "ab"))
    assert names(tmp_path) == ["a", "b"]
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing holds the folder any more
    os.close(other)


def test_a_writer_does_not_wait_for_a_folder_that_another_process_has_locked(tmp_path):
    locked, free = tmp_path / "locked", tmp_path / "free"
    locked.mkdir()
    free.mkdir()
    other = os.open(locked, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(files.write_text, str(locked / "a"), "")
        while str(locked) not in files._holds:
            pass
        threads.submit(files.write_text, str(free / "a"), "").result(timeout=30)
        assert names(free) == ["a"] and not waiting.done()
        os.close(other)
        waiting.result(timeout=30)
    assert names(locked) == ["a"] and not files._holds


def test_a_file_that_cannot_be_read_is_not_told_as_one_that_cannot_be_written(tmp_path):
    missing = tmp_path / "frame.png"
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"cannot open .*frame\.png: No such file"):
        files.write_atomically(str(out / "film.mp4"), lambda _: missing.read_bytes())
    with pytest.raises(UserError, match=r"cannot open .*frame\.png: No such file"):
        files.write_folder_atomically(str(out / "export"), lambda _: missing.read_bytes())
    with pytest.raises(UserError, match=r"cannot write .*export"):
        files.write_folder_atomically(str(out / "export"), lambda path: os.listdir(os.path.join(path, "none")))


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[" * 100_000, "9" * 5000], ids=lambda t: t[:12]
)
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        files.parse_json(text)


def test_json_comes_back_as_it_was_written(tmp_path):
    content = {"a": [1, -2.5, None, True, "ä"], "b": {}}
    files.write_json(str(tmp_path / "a.json"), content)
    assert files.read_json(tmp_path / "a.json") == content


def test_a_lock_is_refused_while_another_holds_it_and_free_when_that_is_closed(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert files.lock(first) is None
    with pytest.raises(BlockingIOError):
        files.lock(second)
    os.close(first)
    assert files.lock(second, patience_seconds=5) is None
    os.close(second)


def test_a_place_that_cannot_be_locked_is_said_and_not_an_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert files.lock(descriptor).strerror == "Operation not supported"
    os.close(descriptor)
