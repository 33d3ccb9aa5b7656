"""The commands as a user types them: end to end on the generated data, resume, and one line for bad input."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import pipeline
from deeplab_tf.images.video import write_video
from tests.trained import weights

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    "--experiment=vgg16_large_fov",
    "--init=none",
    "--set=train.batch_size=2",
    "--set=train.crop_size=65",
    "--set=train.save_every=1",
    "--set=train.deterministic=true",
    "--set=optimizer.name=adam",
    "--set=optimizer.base_lr=1e-5",
)


def command(*arguments, check=True):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def one_line(done):
    """The line of a user error: status 2, nothing else on stderr."""
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1, (done.returncode, done.stderr)
    return lines[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    ids = folder / "ids.txt"
    ids.write_text("".join(f"{split}_{i:04d}\n" for split in ("train", "val") for i in range(4)))
    command("-m", "datasets.convert", "--dataset=synthetic", f"--out={folder / 'records'}", f"--ids={ids}")
    return folder / "records"


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "workdir"
    command("train.py", *SMALL, f"--data_dir={data}", f"--workdir={folder}", "--set=train.iterations=2")
    return folder


def test_train_leaves_weights_settings_checkpoints_and_events(workdir):
    assert (workdir / "model.weights.h5").is_file()
    config = json.loads((workdir / "config.json").read_text())
    assert config["experiment"] == "vgg16_large_fov" and config["train"]["iterations"] == 2
    assert config["dataset"]["class_names"][0] == "background" and config["run"]["init"] == "none"
    assert sorted((workdir / "checkpoints").glob("step-2.*"))
    assert list(workdir.glob("events.out.tfevents.*"))


def test_eval_predict_and_export_give_the_same_answers(data, workdir, tmp_path):
    command("eval.py", f"--workdir={workdir}", f"--data_dir={data}", f"--out={tmp_path / 'eval'}", "--report")
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["num_images"] == 4 and metrics["crf"] is None
    assert set(metrics) >= {"miou", "pixel_accuracy", "mean_accuracy", "per_class_iou", "seconds_per_image"}
    assert (tmp_path / "eval" / "panel.png").is_file()
    assert len(metrics["trimap"]["network"]["miou"]) == 40
    report = (tmp_path / "eval" / "report.html").read_text()
    assert "vgg16_large_fov on synthetic val" in report and "Initial weights</dt><dd>none" in report
    assert "Careful" not in report

    picture = tmp_path / "pictures" / "street.png"
    picture.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (37, 101, 3), np.uint8)
    Image.fromarray(pixels).save(picture)
    (picture.parent / "bad.jpg").write_bytes(picture.read_bytes()[:500])
    with write_video(str(picture.parent / "walk.mp4"), (48, 64), 25) as add:
        add(pixels[:37, :64].repeat(2, axis=0)[:48])
    command("export.py", f"--workdir={workdir}", f"--out={tmp_path / 'exported'}")
    saved_model = tmp_path / "exported" / "saved_model" / "1"
    answers = []
    for model in (workdir, saved_model):
        out = tmp_path / f"answers{len(answers)}"
        done = command("predict.py", f"--model={model}", f"--images={picture.parent}", f"--out={out}", check=False)
        assert done.returncode == 1 and "2 of 3 file(s) segmented" in done.stdout
        warning, summary, listed = done.stderr.splitlines()
        assert warning == f"warning: {listed}" and "1 of 3" in summary
        assert listed.startswith(f"{picture.parent / 'bad.jpg'}: expected a whole image")
        with Image.open(out / "street.png") as mask:
            assert mask.mode == "P"
            answers.append(np.asarray(mask))
        assert (out / "street_overlay.jpg").is_file() and (out / "walk_overlay.mp4").is_file()
    assert answers[0].shape == (37, 101)
    np.testing.assert_array_equal(*answers)
    named = command("predict.py", f"--model={model}", f"--images={picture.parent / 'bad.jpg'}", "--out=o", check=False)
    assert "expected a whole image" in one_line(named)
    again = command("export.py", f"--workdir={workdir}", f"--out={tmp_path / 'exported'}", check=False)
    assert "--overwrite" in one_line(again)


def test_stored_labels_are_scored_and_missing_ones_listed(data, tmp_path):
    stored = pipeline.evaluation_examples(str(data), "val", frozenset(), needs_labels=True).as_numpy_iterator()
    first, *others = [(image_id.decode(), labels) for image_id, _, labels in stored]
    for image_id, labels in others:
        Image.fromarray(np.where(labels == 255, 0, labels).astype(np.uint8)).save(tmp_path / f"{image_id}.png")
    flags = ("eval.py", f"--data_dir={data}", f"--predictions={tmp_path}", f"--out={tmp_path / 'out'}")
    done = command(*flags, "--report", check=False)
    assert done.returncode == 1 and "3 images, " in done.stdout
    _, summary, listed = done.stderr.splitlines()
    assert "1 of 4 images have no result" in summary and f"{first[0]}.png: expected this prediction" in listed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["miou"], metrics["num_images"], metrics["num_left_out"]) == (1, 3, 1)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Careful" in report and "1 of 4 images have no result" in report
    (tmp_path / "out" / "metrics.json").write_text("mine")
    assert "metrics.json would be replaced" in one_line(command(*flags, check=False))
    assert "leave --crf, --flip out" in one_line(command(*flags, "--crf", "--flip", check=False))


def test_an_exported_model_is_evaluated_like_its_workdir_and_pictures_of_others_are_kept(data, workdir, tmp_path):
    command("export.py", f"--workdir={workdir}", f"--out={tmp_path / 'exported'}")
    model = f"--model={tmp_path / 'exported' / 'saved_model' / '1'}"
    for name, flag in (("workdir", f"--workdir={workdir}"), ("model", model)):
        command("eval.py", flag, f"--data_dir={data}", f"--out={tmp_path / name}")
    of_both = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("workdir", "model")]
    assert of_both[0]["miou"] == pytest.approx(of_both[1]["miou"], abs=1e-6)

    annotations = tmp_path / "ds" / "masks"
    for folder in (annotations, tmp_path / "ds" / "images"):
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "a.png")
    flags = ("predict.py", model, f"--images={annotations.parent / 'images'}", f"--out={annotations}", "--save=labels")
    before = (annotations / "a.png").read_bytes()
    assert "a.png would be replaced" in one_line(command(*flags, check=False))
    assert (annotations / "a.png").read_bytes() == before
    command(*flags, "--overwrite")
    assert (annotations / "a.png").read_bytes() != before


@pytest.mark.slow
def test_every_format_is_exported_and_predict_reads_them(data, workdir, tmp_path):
    out, pictures = tmp_path / "exported", tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 41, 3), np.uint8)).save(pictures / "street.png")
    flags = (f"--workdir={workdir}", f"--out={out}", "--size=65", "--crf", "--precision=bfloat16")
    done = command("export.py", *flags, f"--data_dir={data}", "--formats=saved_model,tflite,tflite_int8")
    assert "bfloat16, with the CRF" in done.stdout and "the CRF will not be in tflite" in done.stdout
    for model in (out / "saved_model" / "1", out / "vgg16_large_fov.tflite", out / "vgg16_large_fov_int8.tflite"):
        command("predict.py", f"--model={model}", f"--images={pictures}", f"--out={tmp_path / 'answers'}")
        with Image.open(tmp_path / "answers" / "street.png") as mask:
            assert mask.size == (41, 60) and mask.mode == "P"
        refused = command("predict.py", f"--model={model}", f"--images={pictures}", "--out=o", "--crf", check=False)
        assert ("CRF inside" if model.is_dir() else "take a SavedModel for --crf") in one_line(refused)
    again = command("export.py", *flags, "--formats=saved_model,tflite", check=False)
    assert "--overwrite" in one_line(again)
    assert sorted(path.name for path in out.iterdir()) == [
        "saved_model",
        "vgg16_large_fov.tflite",
        "vgg16_large_fov_int8.tflite",
    ]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--formats=tflite",), "add --size"),
        (("--formats=tflite", "--size=512"), "the nearest are 505 and 513"),
        (("--formats=tflite_int8", "--size=513"), "add --data_dir"),
        (("--size=wide",), "--size takes pixels"),
    ],
)
def test_an_export_that_cannot_be_is_refused_in_one_line(workdir, tmp_path, flags, says):
    done = command("export.py", f"--workdir={workdir}", f"--out={tmp_path / 'out'}", *flags, check=False)
    assert says in one_line(done) and not (tmp_path / "out").exists()


def test_a_published_file_is_evaluated_without_a_workdir(data, workdir, tmp_path):
    arrays = {}
    for name, values in weights(workdir).items():
        layer, _, index = name.split("/")[-3:]
        layer = "fc8_voc12" if layer == "fc8" else layer
        arrays[f"{layer}.{('weight', 'bias')[int(index)]}"] = values.transpose(3, 2, 0, 1) if index == "0" else values
    file = tmp_path / "published.npz"
    np.savez(file, **arrays)
    flags = (f"--data_dir={data}", "--experiment=vgg16_large_fov")
    command("eval.py", f"--weights={file}", "--dataset=synthetic", *flags, f"--out={tmp_path / 'file'}")
    command("eval.py", f"--workdir={workdir}", flags[0], f"--out={tmp_path / 'workdir'}")
    one, other = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("file", "workdir"))
    assert one["per_class_iou"] == other["per_class_iou"]
    # Seven classes were trained, VOC has 21.
    done = command("eval.py", f"--weights={file}", "--dataset=voc12", *flags, f"--out={tmp_path / 'o'}", check=False)
    assert done.returncode == 2 and "does not hold all of vgg16_large_fov for the 21 classes" in done.stderr


def test_a_run_stopped_by_sigterm_goes_on_to_the_same_weights(data, workdir, tmp_path):
    flags = (*SMALL, f"--data_dir={data}", f"--workdir={tmp_path / 'stopped'}", "--set=train.iterations=2")
    said = []
    with subprocess.Popen(
        [sys.executable, "train.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            said.append(line)
            if line.startswith("step 1/"):
                process.send_signal(signal.SIGTERM)
                break
        said.append(process.stdout.read())
    # The signal may come while the last step runs: then the run is over, and that is fine too.
    assert process.returncode in (143, 0), "".join(said)
    stopped = process.returncode == 143
    resumed = command("train.py", *flags)
    assert not stopped or re.search(r"resuming at step \d", resumed.stdout)

    straight, interrupted = weights(workdir), weights(tmp_path / "stopped")
    assert straight.keys() == interrupted.keys() and len(straight) == 32
    for name, values in straight.items():
        np.testing.assert_array_equal(values, interrupted[name], err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train.py",), "--experiment is missing"),
        (("train.py", "--experiment=vgg16_large_fow"), "did you mean vgg16_large_fov"),
        (("train.py", "--experiment=vgg16_large_fov", "--set=train.iteration=3"), "did you mean iterations"),
        (("train.py", "--experiment=vgg16_large_fov", "--set=train.iterations=many"), "whole number"),
        (
            ("train.py", "--experiment=vgg16_large_fov", "--data_dir=nowhere", "--workdir=w"),
            "expected a folder of TFRecords",
        ),
        (("train.py", "--no_such_flag=1"), "no_such_flag"),
        (("eval.py", "--workdir=nowhere", "--data_dir=nowhere"), "expected a folder of TFRecords"),
        (("predict.py", "--model=nowhere", "--images=nowhere", "--out=o"), "--images=nowhere does not exist"),
        (
            ("export.py", "--out=o", "--calibration_images=3"),
            "--calibration_images has no effect: it is for",
        ),
        (
            ("predict.py", "--images=i", "--out=o", "--crf_backend=pydensecrf"),
            "--crf_backend has no effect: --crf is",
        ),
        (("predict.py", "--images=i", "--out=o", "--set=crf.w1=5"), "--set=crf.w1=5 has no effect: --crf is"),
        (("export.py", "--out=o", "--formats=coreml"), "--formats knows"),
    ],
)
def test_a_bad_flag_gives_one_line_and_status_2(arguments, says):
    assert says in one_line(command(*arguments, check=False))


def test_a_workdir_of_another_experiment_is_refused(data, workdir):
    flags = [flag for flag in SMALL if not flag.startswith("--experiment")]
    done = command(
        "train.py", "--experiment=vgg16_aspp_l", *flags, f"--data_dir={data}", f"--workdir={workdir}", check=False
    )
    assert "holds the experiment vgg16_large_fov, not vgg16_aspp_l" in done.stderr and done.returncode == 2


def test_a_crop_that_does_not_fit_names_one_that_does(data, tmp_path):
    done = command(
        *("train.py", *SMALL, "--set=train.crop_size=60", f"--data_dir={data}", f"--workdir={tmp_path / 'w'}"),
        check=False,
    )
    assert "try 65" in one_line(done)


def test_an_empty_split_and_an_unwritable_workdir_are_refused(data, tmp_path):
    done = command("train.py", *SMALL, f"--data_dir={data}", "--split=test", f"--workdir={tmp_path}", check=False)
    assert "test" in one_line(done)
    (tmp_path / "file").write_text("")
    done = command("train.py", *SMALL, f"--data_dir={data}", f"--workdir={tmp_path / 'file' / 'w'}", check=False)
    assert "cannot make the folder --workdir" in one_line(done)


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    flags = (*SMALL, "--set=optimizer.name=sgd", "--set=optimizer.base_lr=1e30", "--set=train.save_every=9")
    done = command(
        *("train.py", *flags, f"--data_dir={data}", f"--workdir={tmp_path / 'w'}", "--set=train.iterations=4"),
        check=False,
    )
    assert re.search("loss is (nan|inf) at step 3;", one_line(done))
    assert not (tmp_path / "w" / "model.weights.h5").exists()


def test_evaluating_what_was_trained_on_is_warned_of_and_ways_to_ask_are_shared(data, workdir, tmp_path):
    flags = ("--tile=97", "--tile_overlap=40", "--flip", "--noalign_corners")
    refused = command("eval.py", f"--workdir={workdir}", f"--data_dir={data}", *flags, check=False)
    assert "aligned corners only" in one_line(refused)
    out = tmp_path / "eval"
    done = command(
        *("eval.py", f"--workdir={workdir}", f"--data_dir={data}", "--split=train", f"--out={out}", *flags[:3])
    )
    assert "warning: 4 of the 4 images of train were trained on" in done.stdout
    assert json.loads((out / "metrics.json").read_text())["num_images"] == 4


@pytest.mark.slow
def test_the_crf_search_puts_what_it_found_into_the_workdir(data, workdir, tmp_path):
    searched = tmp_path / "searched"
    shutil.copytree(workdir, searched)
    flags = (f"--workdir={searched}", f"--data_dir={data}", "--crf_search", "--crf_search_images=1")
    command("eval.py", *flags, "--set=crf.iterations=1", "--set=crf.w2=2", f"--out={tmp_path / 'out'}")
    table = json.loads((tmp_path / "out" / "crf_search.json").read_text())
    config = json.loads((searched / "config.json").read_text())
    best = max(table["scores"], key=lambda row: row["miou"])
    assert config["crf"] == table["best"]
    assert {name: best[name] for name in ("w1", "sigma_alpha", "sigma_beta")}.items() <= config["crf"].items()
    assert (config["crf"]["w2"], config["crf"]["iterations"]) == (2.0, 1)
    # All else stays.
    before = json.loads((workdir / "config.json").read_text())
    assert {**config, "crf": None} == {**before, "crf": None}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--crf_backend=pydensecrf",), "--crf_backend has no effect: --crf is not given"),
        (("--set=crf.w1=5",), "--set=crf.w1=5 has no effect: --crf is not given"),
        (("--crf_search", "--trimap"), "--trimap has no effect: --crf_search scores"),
        (("--competition=comp5",), "--competition has no effect: --submission is not given"),
        (("--dataset=voc12",), "--dataset has no effect: "),
        (("--set=train.batch_size=3",), "--set=train.batch_size=3 has no effect: it says how a network is trained"),
    ],
)
def test_a_flag_without_effect_is_refused_by_eval(data, workdir, flags, says):
    done = command("eval.py", f"--workdir={workdir}", f"--data_dir={data}", *flags, check=False)
    assert says in one_line(done)


def test_damaged_records_of_the_split_to_validate_on_are_skipped_too(data, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    shard = damaged / "val-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[300] ^= 1
    shard.write_bytes(content)
    flags = (*SMALL, f"--data_dir={damaged}", "--eval_split=val", "--set=train.iterations=1")
    refused = command("train.py", *flags, f"--workdir={tmp_path / 'a'}", check=False)
    assert "--skip_damaged" in one_line(refused)
    done = command("train.py", *flags, f"--workdir={tmp_path / 'b'}", "--skip_damaged", "--set=optimizer.momentum=0.8")
    assert "left out 1 damaged record" in done.stdout and "on 3 images of val" in done.stdout
    assert "note: optimizer.momentum has no effect: the solver is adam" in done.stdout


def test_only_data_with_a_test_server_can_be_submitted(data, workdir):
    done = command("eval.py", f"--workdir={workdir}", f"--data_dir={data}", "--submission", check=False)
    assert "the data set is synthetic" in one_line(done)


FROZEN = """
import os, runpy, sys
from deeplab_tf.runtime import command_line

run = command_line.run
command_line.run = lambda main, **options: run(
    lambda: print(os.environ.get("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS")), **options)
runpy.run_path(sys.argv.pop(), run_name="__main__")
"""


def test_tensorflow_hears_that_weights_are_frozen_only_where_nothing_trains(monkeypatch):
    monkeypatch.delenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", raising=False)
    said = {script: command("-c", FROZEN, script).stdout.strip() for script in ("train.py", "eval.py", "predict.py")}
    assert said == {"train.py": "None", "eval.py": "1", "predict.py": "1"}


@pytest.mark.parametrize("script", ["train.py", "eval.py", "predict.py", "export.py"])
def test_help_names_the_flags_and_exits_0(script):
    done = command(script, "--help")
    assert "--set" in done.stdout and not done.stderr
    assert "Can be repeated." in done.stdout and "repeat this option" not in done.stdout
