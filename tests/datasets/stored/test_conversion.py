"""Conversions: the same bytes however many processes work, nothing half done, and nothing done twice."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeplab_tf
from datasets.source import Example
from datasets.stored import conversion, records, workers
from datasets.stored.conversion import SplitPlan
from datasets.stored.loader import code_files
from datasets.stored.manifest import SplitManifest, read_manifest
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError, UserErrors
from tests.datasets.converted import write_examples
from tests.processes import children, wait_for

REPOSITORY = Path(__file__).parents[3]
INFO = DatasetInfo("tiny", ("background", "cat"), pascal_palette(2))


class Files:
    """Loads the examples of a folder of files NAME, and keeps in mind which it was asked for."""

    def __init__(self, folder: Path, labelled: bool = True) -> None:
        self.folder = folder
        self.labelled = labelled
        self.loaded: list[str] = []

    def __call__(self, image_id: str) -> Example:
        self.loaded.append(image_id)
        data = (self.folder / image_id).read_bytes()
        if data == b"bad":
            raise UserError(f"{image_id}: is bad")
        if data == b"killer":
            os.kill(os.getpid(), signal.SIGKILL)
        labels = np.full((4, 5), len(data) % 2, np.uint8)
        return Example(image_id, data, labels if self.labelled else None, (self.folder / image_id,))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "raw"
    folder.mkdir()
    for index in range(12):
        (folder / f"id{index}").write_bytes(b"x" * (index + 10))
    return Files(folder)


def plan(load: Callable[[str], Example], split: str = "train", count: int = 12, recipe: str = "") -> SplitPlan:
    return SplitPlan(split, tuple(f"id{index}" for index in range(count)), min(count, 4), load, recipe)


def write(folder: Path, *plans: SplitPlan, processes: int = 1) -> list[SplitManifest]:
    with conversion.open_folder(folder) as staging:
        return conversion.write_splits(plans, INFO, staging, processes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a few images be worth a process each."""
    monkeypatch.setattr(workers, "_IMAGES_PER_PROCESS", 1)


def test_a_split_is_stored_in_blocks_in_order(files: Files, tmp_path: Path) -> None:
    (split,) = write(tmp_path / "out", plan(files, count=10))
    assert split.ids == tuple(f"id{index}" for index in range(10))
    assert [file.count for file in split.files] == [2, 3, 2, 3]
    assert [file.name for file in split.files] == [f"train-0000{index}-of-00004.tfrecord" for index in range(4)]
    assert set(contents(tmp_path / "out")) == {"manifest.json", *(file.name for file in split.files)}
    assert read_manifest(tmp_path / "out").split("train") == split


def test_the_bytes_do_not_depend_on_the_number_of_processes(files: Files, tmp_path: Path, small_jobs: None) -> None:
    for processes in (1, 2):
        write(tmp_path / f"{processes}", plan(files), plan(files, "val", 3), processes=processes)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    write(tmp_path / "again", plan(files), plan(files, "val", 3))
    assert contents(tmp_path / "1") == contents(tmp_path / "again")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bad_file_ends_the_conversion_without_a_manifest(
    files: Files, tmp_path: Path, small_jobs: None, processes: int
) -> None:
    (files.folder / "id7").write_bytes(b"bad")
    with pytest.raises(UserError, match="id7: is bad"):
        write(tmp_path / "out", plan(files), plan(files, "val", 3), processes=processes)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [conversion.STAGING]
    with pytest.raises(UserError, match=r"expected manifest\.json.*a conversion did not end"):
        read_manifest(tmp_path / "out")


@pytest.mark.parametrize("processes", [1, 2])
def test_all_bad_files_are_named_at_once(files: Files, tmp_path: Path, small_jobs: None, processes: int) -> None:
    for name in ("id1", "id7", "id2"):
        (files.folder / name).write_bytes(b"bad")
    with pytest.raises(UserErrors) as raised:
        write(tmp_path / "out", plan(files), processes=processes)
    assert raised.value.problems == ("id1: is bad", "id2: is bad", "id7: is bad")


def test_nothing_stays_where_no_shard_was_finished(files: Files, tmp_path: Path) -> None:
    for name in ("id0", "id3", "id8", "id11"):
        (files.folder / name).write_bytes(b"bad")
    with pytest.raises(UserError, match="id0: is bad"):
        write(tmp_path / "new" / "out", plan(files))
    assert not (tmp_path / "new" / "out").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="id0: is bad"):
        write(tmp_path / "there", plan(files))
    assert contents(tmp_path / "there") == {}


def test_a_failed_conversion_leaves_the_splits_that_were_there(files: Files, tmp_path: Path) -> None:
    write(tmp_path / "out", plan(files, count=4))
    before = {name: data for name, data in contents(tmp_path / "out").items()}
    (files.folder / "id7").write_bytes(b"bad")
    with pytest.raises(UserError, match="id7: is bad"):
        write(tmp_path / "out", plan(files))
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert after == before
    read_manifest(tmp_path / "out")


def test_the_next_call_goes_on_from_the_finished_shards(files: Files, tmp_path: Path) -> None:
    write(tmp_path / "whole", plan(files))
    (files.folder / "id7").write_bytes(b"bad")
    with pytest.raises(UserError):
        write(tmp_path / "out", plan(files))
    (files.folder / "id7").write_bytes(b"x" * 17)
    files.loaded.clear()
    write(tmp_path / "out", plan(files))
    assert files.loaded == ["id6", "id7", "id8"]  # shards of 3; id7 is in the third
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["a raw file", "the recipe", "a shard", "the note"])
def test_a_finished_shard_that_would_come_out_different_is_written_anew(
    files: Files, tmp_path: Path, change: str
) -> None:
    (files.folder / "id7").write_bytes(b"bad")
    with pytest.raises(UserError):
        write(tmp_path / "out", plan(files))
    (files.folder / "id7").write_bytes(b"x" * 17)
    staged = tmp_path / "out" / conversion.STAGING / "train-00001-of-00004.tfrecord"
    recipe = ""
    if change == "a raw file":
        (files.folder / "id4").write_bytes(b"y" * 14)
    elif change == "the recipe":
        recipe = "other"
    elif change == "a shard":
        data = bytearray(staged.read_bytes())
        data[50] ^= 1
        staged.write_bytes(data)
    else:
        staged.with_suffix(".json").write_text("{")
    files.loaded.clear()
    write(tmp_path / "out", plan(files, recipe=recipe))
    assert {"id3", "id4", "id5"} <= set(files.loaded)
    assert ("id0" in files.loaded) == (change == "the recipe")
    write(tmp_path / "whole", plan(files))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_shards_left_over_from_other_settings_do_not_stay(files: Files, tmp_path: Path) -> None:
    (files.folder / "id7").write_bytes(b"bad")
    with pytest.raises(UserError):
        write(tmp_path / "out", plan(files))
    (files.folder / "id7").write_bytes(b"x" * 17)
    other = plan(files)._replace(num_shards=2)
    write(tmp_path / "out", other)
    assert set(contents(tmp_path / "out")) == {
        "manifest.json",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    }


def test_a_split_written_again_is_replaced_and_others_stay(files: Files, tmp_path: Path) -> None:
    write(tmp_path, plan(files), plan(files, "train-2", 3), plan(files, "val", 2))
    write(tmp_path, plan(files, count=2))
    manifest = read_manifest(tmp_path)
    assert {name: split.count for name, split in manifest.splits.items()} == {"train-2": 3, "val": 2, "train": 2}
    assert len(list(tmp_path.glob("train-0*"))) == 2


def test_other_classes_are_refused_before_anything_is_read(files: Files, tmp_path: Path) -> None:
    write(tmp_path, plan(files))
    other = DatasetInfo("tiny", ("background", "dog"), pascal_palette(2))
    files.loaded.clear()
    with (
        pytest.raises(UserError, match=r"background, cat.*background, dog"),
        conversion.open_folder(tmp_path) as staging,
    ):
        conversion.write_splits([plan(files, "val")], other, staging, 1)
    assert files.loaded == []


def test_a_split_name_cannot_leave_the_folder_and_comes_once(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split name.*'\.\./train'"):
        write(tmp_path, plan(files, "../train"))
    with pytest.raises(UserError, match=r"every split once, got val twice"):
        write(tmp_path, plan(files, "val"), plan(files, "val"))


def test_labels_of_some_examples_only_are_a_defect_of_the_caller(tmp_path: Path) -> None:
    def mixed() -> Iterator[Example]:
        for index in range(4):
            yield Example(f"id{index}", b"x", np.zeros((2, 2), np.uint8) if index % 2 else None)

    for num_shards in (1, 4):
        with pytest.raises(ValueError, match="labels for all examples or for none"):
            write_examples(mixed(), INFO, "train", tmp_path, num_shards)


def test_a_place_that_cannot_be_written_is_a_user_error(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "link", Path("/proc/nothing")):
        with pytest.raises(UserError, match=f"^{place}: expected to write TFRecords there, cannot"):
            write(place, plan(files))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_user_error(files: Files, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="expected to write TFRecords there, cannot: Permission denied"):
        write(tmp_path / "out", plan(files))


def test_a_full_disk_is_a_user_error(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "frame", full)
    with pytest.raises(UserError, match=r"cannot: No space left on device\..*free space"):
        write(tmp_path / "out", plan(files))


def test_a_second_conversion_at_once_is_refused_and_leaves_the_first_alone(files: Files, tmp_path: Path) -> None:
    with conversion.open_folder(tmp_path / "out") as staging:
        with pytest.raises(UserError, match="another one is running"):
            write(tmp_path / "out", plan(files))
        conversion.write_splits([plan(files)], INFO, staging, num_workers=1)
    assert read_manifest(tmp_path / "out").split("train").count == 12


def test_a_killed_process_is_one_line_that_names_the_image(files: Files, tmp_path: Path, small_jobs: None) -> None:
    (files.folder / "id7").write_bytes(b"killer")
    with pytest.raises(UserError, match=r"one of 2 processes was killed.* while they read (id\d+, )?id7"):
        write(tmp_path / "out", plan(files), processes=2)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_conversion_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Kills it, with SIGKILL, while it waits for an image that is a pipe; its processes must end with it."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for index in range(12):
        (folder / f"id{index}").write_bytes(b"x" * (index + 10))
    (folder / "id9").unlink()
    os.mkfifo(folder / "id9")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\n"
        "from datasets.stored import workers\n"
        "from tests.datasets.stored import test_conversion as here\n"
        "if __name__ == '__main__':\n"
        "    workers._IMAGES_PER_PROCESS = 1\n"
        f"    here.write(Path({str(tmp_path / 'out')!r}), here.plan(here.Files(Path({str(folder)!r}))), processes=2)\n"
    )
    staging = tmp_path / "out" / conversion.STAGING
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(staging.glob("*.json"))) == 3)  # all but the shard of id9
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert not (tmp_path / "out" / "manifest.json").exists()
    (folder / "id9").unlink()
    (folder / "id9").write_bytes(b"x" * 19)
    files = Files(folder)
    write(tmp_path / "out", plan(files))
    assert files.loaded == ["id9", "id10", "id11"]
    write(tmp_path / "whole", plan(files))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_raw_file_that_the_disk_cannot_read_is_named_and_not_the_output(files: Files, tmp_path: Path) -> None:
    def load(image_id: str) -> Example:
        raise OSError(errno.EIO, "Input/output error", str(files.folder / image_id))

    with pytest.raises(UserError, match=r"id0: cannot be read: Input/output error"):
        write(tmp_path / "out", plan(files)._replace(load=load))


def test_the_recipe_covers_the_code_that_decodes_images() -> None:
    covered = set(code_files())
    package = Path(deeplab_tf.__file__).parent
    seen, waiting = set(), [package / "images" / "files.py"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            for module in [node.module or ""] if isinstance(node, ast.ImportFrom) else []:
                if module.startswith("deeplab_tf."):
                    waiting.append(package.joinpath(*module.split(".")[1:]).with_suffix(".py"))
    assert len(seen) >= 3 and seen <= covered
    assert Path(conversion.__file__) in covered
