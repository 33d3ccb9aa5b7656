import os
import threading

import pytest

from deeplab_tf.errors import ItemError, UserError
from deeplab_tf.runtime import files
from deeplab_tf.runtime.written import Written


def write(folder, written, name, text="ours"):
    with written.writing(name):
        files.write_text(str(folder / name), text)


def test_what_a_command_wrote_it_may_replace_in_a_later_run(tmp_path):
    write(tmp_path, Written(str(tmp_path), "predict"), "a.png")
    later = Written(str(tmp_path), "predict")
    later.refuse_others(["a.png", "new.png"], overwrite=False)
    assert later.others(["a.png", "new.png"]) == []


def test_what_others_wrote_is_refused_unless_the_user_allows_it(tmp_path):
    for name in ("mine.png", "mine2.png"):
        (tmp_path / name).write_text("an annotation")
    written = Written(str(tmp_path), "predict")
    with pytest.raises(UserError, match=r"mine\.png and 1 more would be replaced.*--overwrite"):
        written.refuse_others(["new.png", "mine.png", "mine2.png"], overwrite=False)
    written.refuse_others(["mine.png"], overwrite=True)
    write(tmp_path, Written(str(tmp_path), "eval"), "metrics.json")
    assert written.others(["metrics.json"]) == ["metrics.json"]


def test_what_the_user_edited_since_is_the_users(tmp_path):
    write(tmp_path, Written(str(tmp_path), "predict"), "a.png")
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert Written(str(tmp_path), "predict").others(["a.png"]) == ["a.png"]


def test_an_interrupted_run_knows_what_it_was_writing_and_a_killed_one_too(tmp_path):
    for name in ("a.png", "killed.png"):
        with pytest.raises(KeyboardInterrupt), Written(str(tmp_path), "predict").writing(name):
            (tmp_path / name).write_text("ours")
            raise KeyboardInterrupt
    listed = (tmp_path / ".written_by_predict.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / ".written_by_predict.jsonl").write_text("".join(listed[:-1]))
    with open(tmp_path / ".written_by_predict.jsonl", "a") as file:
        file.write('{"file": "half')
    assert Written(str(tmp_path), "predict").others(["a.png", "killed.png"]) == []


def test_a_file_that_was_not_written_after_all_may_be_the_users_later(tmp_path):
    with Written(str(tmp_path), "eval").writing("metrics.json", "trimap.svg"):
        files.write_text(str(tmp_path / "metrics.json"), "{}")
    (tmp_path / "trimap.svg").write_text("mine")
    assert Written(str(tmp_path), "eval").others(["metrics.json", "trimap.svg"]) == ["trimap.svg"]


def test_threads_write_whole_lines(tmp_path):
    written = Written(str(tmp_path), "predict")
    names = [f"{number}.txt" for number in range(40)]
    threads = [threading.Thread(target=write, args=(tmp_path, written, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Written(str(tmp_path), "predict").others(names) == []


def test_a_name_as_long_as_a_name_may_be_is_written_and_a_longer_one_is_an_error_of_its_own(tmp_path):
    longest = "a" * 251 + ".txt"
    files.write_text(str(tmp_path / longest), "text")
    assert [path.name for path in tmp_path.iterdir()] == [longest]
    with pytest.raises(ItemError, match=r"File name too long.*Shorten it"):
        files.write_text(str(tmp_path / ("b" + longest)), "text")
    assert [path.name for path in tmp_path.iterdir()] == [longest]
