"""Batch prediction as a whole: predict.py's answers, every image once, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

from apache_beam.ml.inference.base import PredictionResult

from deeplab_tf.batch import storage
from deeplab_tf.batch.blocks import SegmentedBlock
from deeplab_tf.batch.job import FAILURES, MANIFEST, absolute, find_inputs, run_job
from deeplab_tf.batch.manifest import Entry
from deeplab_tf.batch.pipeline import Handler, ReadBlock, Request, WriteBlock, describe_model, load_segmenter
from deeplab_tf.batch.plan import Block
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import experiment_config
from deeplab_tf.export.saved_model import export_saved_model
from deeplab_tf.runtime import beam
from tests.deeplab_tf.batch.memory_file_system import FILES
from tests.processes import children, wait_for
from tests.tiny import tiny_network

ROOT = Path(__file__).resolve().parents[3]
INFO = DatasetInfo("tiny", ("a", "b", "c"), pascal_palette(3))
CRF = CrfParams(iterations=2)

# Beam's own files and grpc leave some open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("exported")
    settings = dataclasses.replace(experiment_config("vgg16_large_fov"), dataset=INFO)
    return export_saved_model(tiny_network(), settings, str(out))


def save_photo(path: Path, seed: int, size: tuple[int, int] = (40, 56)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rough = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two folders with images of the same names, and of two sizes."""
    folder = tmp_path / "photos"
    for number in range(8):
        save_photo(folder / "ab"[number % 2] / f"cat{number // 2}.jpg", number, (40 + 8 * (number % 3), 56))
    return folder


def predict(model, images, out, crf=None, as_records=False, images_per_block=3, batch_size=4):
    inputs = find_inputs(str(images), absolute(str(out)))
    request = Request(absolute(model), absolute(str(out)), inputs.root, crf, as_records, batch_size)
    options = beam.pipeline_options("DirectRunner", [])
    return run_job(inputs, request, describe_model(request.model), options, images_per_block)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.mark.parametrize("crf", [None, CRF])
def test_answers_are_those_of_one_image_at_a_time(model, photos, tmp_path, crf):
    outcome = predict(model, photos, tmp_path / "out", crf)
    segmenter = load_segmenter(model, crf)
    found = tree(tmp_path / "out")
    paths = sorted(photos.rglob("*.jpg"))
    assert [entry.input for entry in outcome.entries] == list(map(str, paths))
    for path in paths:
        labels = pixels(found.pop(str(path.relative_to(photos).with_suffix(".png"))))
        np.testing.assert_array_equal(labels, segmenter.segment(path.read_bytes()).labels)
    assert set(found) == {MANIFEST, FAILURES, "settings.json"} and found[FAILURES] == b""
    assert outcome.counters["images"] == 8 and outcome.counters["failures"] == 0
    assert outcome.counters["network_milliseconds"] > 0
    assert (outcome.counters["crf_milliseconds"] > 0) == (crf is not None)


def test_bad_images_are_dead_letters_and_stop_nothing(model, photos, tmp_path):
    (photos / "a" / "text.jpg").write_text("no image")
    (photos / "b" / "short.png").write_bytes((photos / "a" / "cat0.jpg").read_bytes()[:500])
    (photos / "b" / "gone.jpg").symlink_to("nowhere")
    outcome = predict(model, f"{photos}/**", tmp_path / "out")
    failures = [json.loads(line) for line in (tmp_path / "out" / FAILURES).read_text().splitlines()]
    assert [Path(failure["input"]).name for failure in failures] == ["text.jpg", "short.png"]
    assert "no known image format" in failures[0]["reason"] and "Truncated" in failures[1]["reason"]
    assert outcome.counters["images"] == 8 and outcome.counters["failures"] == 2
    assert len(list((tmp_path / "out").rglob("*.png"))) == 8


def test_a_second_run_does_only_what_is_missing(model, photos, tmp_path):
    out = tmp_path / "out"
    (photos / "a" / "cat9.jpg").write_text("no image")
    predict(model, photos, out)
    before = tree(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    save_photo(photos / "a" / "cat9.jpg", 9)  # mended
    save_photo(photos / "b" / "new.jpg", 10)
    (out / "b" / "cat0.png").unlink()
    outcome = predict(model, photos, out)
    assert outcome.counters["images"] == 3
    assert {path for path, stamp in times.items() if path.stat().st_mtime_ns == stamp} == times.keys() - {
        out / "b" / "cat0.png"
    }
    after = tree(out)
    assert after.keys() - before.keys() == {"a/cat9.png", "b/new.png"} and after["b/cat0.png"] == before["b/cat0.png"]
    assert predict(model, photos, out).counters == {} and tree(out) == after
    predict(model, photos, tmp_path / "whole")
    assert tree(tmp_path / "whole") == after


def test_other_settings_are_not_mixed_in(model, photos, tmp_path):
    predict(model, photos, tmp_path / "out")
    before = tree(tmp_path / "out")
    for changed, name in (({"crf": CRF}, "crf"), ({"as_records": True}, "format")):
        with pytest.raises(UserError, match=f"was begun with another {name}: "):
            predict(model, photos, tmp_path / "out", **changed)
    assert tree(tmp_path / "out") == before


def test_two_jobs_do_not_share_a_folder(model, photos, tmp_path):
    out = tmp_path / "out"
    with storage.only_job(str(out)), pytest.raises(UserError, match=f"another process is writing to --out={out}: "):
        predict(model, photos, out)
    assert predict(model, photos, out).counters["images"] == 8


def test_a_job_whose_plan_is_gone_writes_nothing(model, photos, tmp_path):
    """One that still runs on a cluster when the same command has been started again."""
    out = tmp_path / "out"
    out.mkdir()
    request = Request(absolute(model), str(out), f"{photos}/", None, False, 4)
    block = Block(0, (str(photos / "a" / "cat0.jpg"),))
    segmented = SegmentedBlock([Entry(block.inputs[0], size=(40, 56))], [b"labels"], 0.0, 0.0)
    writer = WriteBlock(str(out / ".batch" / "plan-1.jsonl"), request)
    with pytest.raises(UserError, match="was started again there, and this job stops"):
        writer.process(PredictionResult(block, segmented))
    assert not tree(out)


def test_a_block_that_is_done_is_not_done_again(model, photos, tmp_path):
    """A cluster that has lost a machine deals out once more what that machine had."""
    first, second = (str(photos / "a" / name) for name in ("cat0.jpg", "cat1.jpg"))
    note = Entry(first, output="a/cat0.png", size=(40, 56)).to_line()
    (tmp_path / "out" / ".batch" / "notes").mkdir(parents=True)
    (tmp_path / "out" / ".batch" / "notes" / "000004.jsonl").write_text(note)
    reader = ReadBlock(str(tmp_path / "out"))
    assert list(reader.process(Block(4, (first,)).to_line())) == []
    # A note of the same number for other images is not this block's.
    for block in (Block(5, (first,)), Block(4, (second,)), Block(4, (first, second))):
        [(read, pictures)] = reader.process(block.to_line())
        assert read == block and [picture.input for picture in pictures] == list(block.inputs)


def test_a_process_of_a_cluster_gets_the_settings_of_the_command(model):
    request = Request(model, "out", "", None, False, 4, threads=3)
    assert Handler(request)._env_vars == {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1",
        "TF_NUM_INTRAOP_THREADS": "3",
    }


def test_places_that_do_not_go_together_are_refused(model, photos, tmp_path):
    with pytest.raises(UserError, match="found no image"):
        predict(model, tmp_path / "nowhere", tmp_path / "out")
    for images, out in ((photos, photos / "out"), (f"{photos}/**", photos / "b"), (f"{photos}/a/*", photos / "a")):
        with pytest.raises(UserError, match="is among the images"):
            predict(model, images, out)
    (photos / "x.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match="matches images and TFRecord files"):
        predict(model, photos, tmp_path / "out")
    with pytest.raises(UserError, match="cannot list nothing://"):
        predict(model, "nothing://photos/*", tmp_path / "out")


def read_records(path: Path) -> dict[str, bytes]:
    text = tf.io.FixedLenFeature([], tf.string)
    parsed = [
        tf.io.parse_single_example(payload, {"image_id": text, "labels": text})
        for payload in tf.data.TFRecordDataset(str(path))
    ]
    found = {one["image_id"].numpy().decode(): one["labels"].numpy() for one in parsed}
    assert len(found) == len(parsed)
    return found


def write_records(path: Path, images: list[tuple[str, bytes]]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image_id, data in images:
            values = {"image_id": image_id.encode(), "image": data}
            feature = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def test_shards_hold_every_image_once(model, photos, tmp_path):
    out = tmp_path / "out"
    predict(model, photos, out, as_records=True)
    predict(model, photos, tmp_path / "png")
    shards = sorted(out.glob("*.tfrecord"))
    assert [shard.name for shard in shards] == [f"labels-00000{number}.tfrecord" for number in range(3)]
    found = {name: data for shard in shards for name, data in read_records(shard).items()}
    assert sorted(found) == sorted(map(str, photos.rglob("*.jpg")))
    for name, data in found.items():
        assert data == (tmp_path / "png" / Path(name).relative_to(photos).with_suffix(".png")).read_bytes()
    for line in (out / MANIFEST).read_text().splitlines():
        entry = json.loads(line)
        assert entry["input"] in read_records(out / entry["output"])


@pytest.mark.parametrize("as_records", [True, False])
def test_tfrecord_files_are_read(model, photos, tmp_path, as_records):
    stored: dict[str, list[tuple[str, bytes]]] = {"a": [], "b": []}
    for path in sorted(photos.rglob("*.jpg")):
        stored[path.parent.name].append((path.stem, path.read_bytes()))
    stored["b"] += [("bad", b"no image"), ("../../cat", stored["a"][0][1])]
    for name, images in stored.items():
        (tmp_path / "records").mkdir(exist_ok=True)
        write_records(tmp_path / "records" / f"{name}.tfrecord", images)
    outcome = predict(model, tmp_path / "records", tmp_path / "out", as_records=as_records)
    predict(model, photos, tmp_path / "png")
    assert len(outcome.entries) == 10
    assert (
        [entry.record for entry in outcome.entries if entry.reason] == ["bad"] if as_records else ["../../cat", "bad"]
    )
    for folder in "ab":
        for number in range(4):
            expected = (tmp_path / "png" / folder / f"cat{number}.png").read_bytes()
            if as_records:
                assert read_records(tmp_path / "out" / f"{folder}.tfrecord")[f"cat{number}"] == expected
            else:
                assert (tmp_path / "out" / folder / f"cat{number}.png").read_bytes() == expected
    before = tree(tmp_path / "out")
    assert predict(model, tmp_path / "records", tmp_path / "out", as_records=as_records).counters == {}
    (tmp_path / "out" / ("b.tfrecord" if as_records else "b/cat1.png")).unlink()
    assert (
        predict(model, tmp_path / "records", tmp_path / "out", as_records=as_records).counters["images"]
        == 4 + as_records
    )
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("as_records", [False, True])
def test_model_images_and_answers_may_be_in_a_cloud(model, photos, tmp_path, as_records):
    FILES.clear()
    for name, data in tree(photos).items():
        FILES[f"mem://bucket/photos/{name}"] = data
    for name, data in tree(Path(model)).items():
        FILES[f"mem://bucket/model/1/{name}"] = data
    before = dict(FILES)
    out = "mem://bucket/out"
    predict("mem://bucket/model/1", "mem://bucket/photos/**.jpg", out, as_records=as_records)
    predict(model, photos, tmp_path / "out", as_records=as_records)
    found = {name.removeprefix(f"{out}/"): data for name, data in FILES.items() if name not in before}
    here = tree(tmp_path / "out")
    assert found.keys() == here.keys()
    for name, data in here.items():
        if name.endswith(".png") or name == "settings.json":
            assert found[name] == data
    manifest = found[MANIFEST].decode().replace("mem://bucket/photos", str(photos))
    assert manifest == here[MANIFEST].decode()
    again = predict("mem://bucket/model/1/", "mem://bucket/photos/", f"{out}/", as_records=as_records)
    assert again.counters == {} and FILES == {**before, **{f"{out}/{name}": data for name, data in found.items()}}


def test_a_machine_without_room_for_a_copy_ends_the_job_and_no_image_counts_as_bad(
    model, photos, tmp_path, monkeypatch
):
    FILES.clear()
    images = [(path.stem, path.read_bytes()) for path in sorted((photos / "a").iterdir())]
    write_records(tmp_path / "a.tfrecord", images)
    FILES["mem://bucket/data/a.tfrecord"] = (tmp_path / "a.tfrecord").read_bytes()

    def no_room(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr("tempfile.TemporaryDirectory", no_room)
        with pytest.raises(UserError, match=r"cannot copy mem://bucket/data/a\.tfrecord to a temporary folder of"):
            predict(model, "mem://bucket/data/*.tfrecord", tmp_path / "out")
        # Of its own, a block needs no disk but that of OUT.
        predict(model, photos, tmp_path / "shards", as_records=True)
    assert predict(model, "mem://bucket/data/*.tfrecord", tmp_path / "out").counters["failures"] == 0
    predict(model, photos, tmp_path / "shards again", as_records=True)
    assert tree(tmp_path / "shards") == tree(tmp_path / "shards again")


def start(model, images, out, *flags):
    command = [
        sys.executable,
        "-m",
        "deeplab_tf.batch_predict",
        f"--model={model}",
        f"--images={images}",
        f"--out={out}",
    ]
    return subprocess.Popen(
        [*command, *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("as_records", [False, True])
def test_a_run_that_is_killed_is_finished_by_the_next(model, photos, tmp_path, as_records):
    """Kills it, with SIGKILL, while it waits for an image that is a pipe; its processes must end with it."""
    (photos / "a" / "bad.jpg").write_text("no image")
    flags = ["--images_per_block=1", "--direct_num_workers=2", *(["--format=tfrecord"] if as_records else [])]
    whole = start(model, photos, tmp_path / "whole", *flags)
    _, said = whole.communicate(timeout=200)
    assert whole.returncode == 1 and "1 not" in said

    pipe, data = photos / "b" / "cat1.jpg", (photos / "b" / "cat1.jpg").read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)
    out = tmp_path / "out"
    process = start(model, photos, out, *flags)
    try:
        wait_for(lambda: len(list(out.glob(".batch/notes/*"))) >= 2, process, seconds=100)
        workers = children(process.pid)
        assert len(workers) == 2
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=100)
    killed = tree(out)
    assert MANIFEST not in killed
    for name, content in killed.items():  # no half file under a final name
        if not name.startswith(".batch"):
            assert tree(tmp_path / "whole")[name] == content
    pipe.unlink()
    pipe.write_bytes(data)
    again = start(model, photos, out, *flags)
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 1 and "images 0," not in said and "images 8," not in said
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_next_run_goes_on(model, photos, tmp_path):
    """Kills one of two processes while the other waits for an image that is a pipe."""
    pipe, data = photos / "b" / "cat1.jpg", (photos / "b" / "cat1.jpg").read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)
    out = tmp_path / "out"
    process = start(model, photos, out, "--images_per_block=1", "--direct_num_workers=2")
    wait_for(lambda: len(list(out.glob(".batch/notes/*"))) >= 2, process, seconds=100)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 2 and len(said.splitlines()) == 1 and "one of the processes was killed" in said
    pipe.unlink()
    pipe.write_bytes(data)
    predict(model, photos, out, images_per_block=1)
    predict(model, photos, tmp_path / "whole", images_per_block=1)
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.slow
def test_what_a_user_can_mend_is_one_line(model, photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for flags, says in (
        (["--modle=x"], "did you mean"),
        (["--runner=NoRunner"], "NoRunner"),
        (["--direct_num_workers=many"], "direct_num_workers"),
        ([f"--model={photos}"], "not a SavedModel"),
        ([f"--out={tmp_path}/file"], "cannot"),
    ):
        process = start(model, photos, tmp_path / "out", *flags)
        _, said = process.communicate(timeout=100)
        assert process.returncode == 2 and len(said.splitlines()) == 1 and says.lower() in said.lower(), said
