"""Batch prediction on Flink and Spark: clusters of processes of this machine, and what goes wrong on them.

They need Java, Beam, the engines' jars (requirements-cluster.txt) and Beam's job servers: `make cluster` gets them all,
and these tests run by `.venv-beam/bin/python -m pytest -m slow tests/test_cluster.py`. CLUSTER_JARS names another
folder than cluster/ where the job servers are.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam", reason="needs requirements-beam.txt")

from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import experiment_config
from deeplab_tf.export.saved_model import export_saved_model
from scripts import cluster as command
from scripts.clusters import WORKER
from tests.processes import children, wait_for
from tests.tiny import tiny_network

ROOT = Path(__file__).resolve().parents[1]
JARS = Path(os.environ.get("CLUSTER_JARS", ROOT / "cluster"))
INFO = DatasetInfo("tiny", ("a", "b", "c"), pascal_palette(3))
COUNT = 24
LONG = 300  # seconds; on a busy machine a job starts slowly

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    settings = dataclasses.replace(experiment_config("vgg16_large_fov"), dataset=INFO)
    return export_saved_model(tiny_network(), settings, str(tmp_path_factory.mktemp("exported")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photographs of which each takes the CRF a while, and one that is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        rough = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(rough).resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.jpg")
    (folder / "damaged.jpg").write_bytes((folder / "03.jpg").read_bytes()[:700])
    return folder


@pytest.fixture(scope="module")
def expected(model, photos, tmp_path_factory) -> dict[str, bytes]:
    """What one process leaves."""
    out = tmp_path_factory.mktemp("expected") / "out"
    job = start(model, photos, out)
    assert job.wait(300) == 1, said(job)
    return tree(out)


@pytest.fixture(scope="module", params=["flink", "spark"])
def cluster(request, tmp_path_factory):
    """A master and two workers with a slot each."""
    kind, _ = command.ENGINES[request.param]
    jar = JARS / request.param / "job-server.jar"
    try:
        home = command.engine_home(request.param)
    except UserError as error:
        pytest.skip(str(error))
    if not jar.exists():
        pytest.skip(f"no {jar}: make cluster ENGINE={request.param} makes it")
    with kind(home, tmp_path_factory.mktemp(request.param), jar) as started:
        yield started


def start(model, photos, out, *options: str) -> subprocess.Popen[str]:
    arguments = [f"--model={model}", f"--images={photos}", f"--out={out}", "--crf", "--images_per_block=1", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "deeplab_tf.batch_predict", *arguments],
        **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
        start_new_session=True,
    )


def said(job: subprocess.Popen[str]) -> str:
    return job.communicate(timeout=2 * LONG)[0]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blocks_done(out: Path) -> int:
    return len(list((out / ".batch" / "notes").glob("*")))


def assert_whole(job: subprocess.Popen[str], out: Path, expected: dict[str, bytes]) -> None:
    """All images are there as one process writes them, and the damaged one is said to be damaged."""
    words = said(job)
    assert job.returncode == 1 and "damaged.jpg: " in words and f"{COUNT} of {COUNT + 1} image(s)" in words, words
    assert tree(out) == expected


def test_the_files_are_those_of_one_process(cluster, model, photos, expected, tmp_path):
    assert_whole(start(model, photos, tmp_path / "out", *cluster.flags()), tmp_path / "out", expected)


def test_a_worker_that_is_killed_loses_nothing(cluster, model, photos, expected, tmp_path):
    out = tmp_path / "out"
    job = start(model, photos, out, *cluster.flags())
    wait_for(lambda: blocks_done(out) >= 2, job, seconds=LONG)
    cluster.workers[0].kill()
    cluster.start_worker()
    assert_whole(job, out, expected)
    cluster.wait_for_workers()


def test_a_process_of_python_that_is_killed_loses_nothing(cluster, model, photos, expected, tmp_path):
    out = tmp_path / "out"
    job = start(model, photos, out, *cluster.flags())
    wait_for(lambda: blocks_done(out) >= 2, job, seconds=LONG)
    found = [pid for worker in cluster.workers for pid in python_processes(worker.pid)]
    os.kill(found[0], signal.SIGKILL)
    assert_whole(job, out, expected)


def python_processes(pid: int) -> list[int]:
    """Finds the processes of Beam's worker below a process."""
    return [one for one in below(pid) if b"beam_boot" in Path(f"/proc/{one}/cmdline").read_bytes()]


def below(pid: int) -> list[int]:
    """Finds the processes that a process has started, and those that they have."""
    return [one for child in children(pid) for one in [child, *below(child)]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_stopped_goes_on_where_it_was(cluster, model, photos, expected, tmp_path, number):
    out = tmp_path / "out"
    job = start(model, photos, out, *cluster.flags())
    wait_for(lambda: blocks_done(out) >= 2, job, seconds=LONG)
    job_server = children(job.pid)
    if number == signal.SIGINT:
        os.killpg(job.pid, number)  # as a terminal does: to the command and all that it has started
    else:
        job.send_signal(number)
    words = said(job) if number != signal.SIGKILL else ""
    # After SIGKILL nothing has cancelled the job: it runs beside the new one until it misses its plan.
    assert number == signal.SIGKILL or (job.returncode == 128 + number and "cancelling" in words), words
    done = blocks_done(out)
    assert 2 <= done <= COUNT + 1
    again = start(model, photos, out, *cluster.flags())
    assert_whole(again, out, expected)
    if number == signal.SIGKILL:
        for pid in job_server:
            os.kill(pid, signal.SIGTERM)
    assert not any(Path(f"/proc/{pid}").exists() for pid in job_server) or number == signal.SIGKILL


@pytest.mark.parametrize("engine", ["flink", "spark"])
def test_the_command_that_is_stopped_leaves_nothing_running(model, photos, tmp_path, engine):
    jar, out = JARS / engine / "job-server.jar", tmp_path / "out"
    try:
        command.engine_home(engine)
    except UserError as error:
        pytest.skip(str(error))
    if not jar.exists():
        pytest.skip(f"no {jar}: make cluster ENGINE={engine} makes it")
    many = tmp_path / "many"  # or the job could end first
    for copy in range(20):
        shutil.copytree(photos, many / str(copy))
    options = [f"--engine={engine}", f"--folder={tmp_path}", f"--job_server={jar}"]
    work = [f"--model={model}", f"--images={many}", f"--out={out}", "--", "--crf", "--images_per_block=1"]
    started = subprocess.Popen(
        [sys.executable, "-m", "scripts.cluster", *options, *work],
        **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
    )
    wait_for(lambda: blocks_done(out) >= 1, started, seconds=LONG)
    running = below(started.pid)
    started.terminate()
    words = said(started)
    assert started.returncode == 128 + signal.SIGTERM and "cancelling the job" in words, words
    assert len(running) > 4  # the job and its server, a master, two workers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running))


def test_a_second_job_in_the_same_folder_is_refused(cluster, model, photos, expected, tmp_path):
    out = tmp_path / "out"
    job = start(model, photos, out, *cluster.flags())
    wait_for(lambda: blocks_done(out) >= 1, job, seconds=LONG)
    job.send_signal(signal.SIGSTOP)  # or it could end before the second one begins
    second = start(model, photos, out, *cluster.flags())
    words = said(second)
    job.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "another process is writing to --out=" in words, words
    assert_whole(job, out, expected)


def test_workers_without_the_model_say_so_in_one_line(cluster, model, photos, tmp_path):
    if os.getuid():
        pytest.skip("no rights to hide a folder")
    # As on a machine that does not have the folder: an empty disk lies over it.
    script = tmp_path / "worker.sh"
    hidden = f'mount -t tmpfs none {Path(model).parents[1]} && exec {WORKER} "$@"'
    script.write_text(f"#!/bin/sh\nexec unshare -m sh -c '{hidden}' worker \"$@\"\n")
    script.chmod(0o755)
    flags = [flag.replace(str(WORKER), str(script)) for flag in cluster.flags()]
    job = start(model, photos, tmp_path / "out", *flags)
    words = said(job)
    assert job.returncode == 2 and f"{model}" in words and "Traceback" not in words, words
    again = start(model, photos, tmp_path / "out", *cluster.flags())
    assert "image(s) labelled" in said(again)


def test_a_worker_whose_own_disk_is_full_leaves_nothing_half(cluster, model, photos, expected, tmp_path):
    """It starts, but cannot keep the job's jar: the other worker does all, or the job ends in one line."""
    if os.getuid():
        pytest.skip("no rights to mount a small disk")
    out = tmp_path / "out"
    small = f'mount -t tmpfs -o size=64m none {cluster.disk} && exec "$@"'
    replace_worker(cluster, ["unshare", "-m", "sh", "-c", small, "worker"])
    job = start(model, photos, out, *cluster.flags())
    words = said(job)
    assert "Traceback" not in words, words
    replace_worker(cluster)
    if job.returncode == 2:
        assert "No space left on device" in words and len(words.split("error: ")[-1].splitlines()) == 1, words
        assert_whole(start(model, photos, out, *cluster.flags()), out, expected)
    assert tree(out) == expected, words


def replace_worker(cluster, before: Sequence[str] = ()) -> None:
    """Kills the last worker and starts another."""
    cluster.workers[-1].kill()
    cluster.workers[-1].wait()
    cluster.start_worker(before)
    cluster.wait_for_workers()


def test_a_full_disk_stops_the_job_with_one_line_and_the_same_command_goes_on(
    cluster, model, photos, expected, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(out)])
    if mounted.returncode:
        pytest.skip("no rights to mount a small disk")
    try:
        job = start(model, photos, out, *cluster.flags())
        words = said(job)
        assert job.returncode == 2 and "cannot write to" in words and "Traceback" not in words, words
        subprocess.run(["mount", "-o", "remount,size=16m", str(out)], check=True)
        assert_whole(start(model, photos, out, *cluster.flags()), out, expected)
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)
