"""Trainings that are killed, run twice, or run by several processes: each a process of its own, on the tiny network."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.processes import wait_for
from tests.trained import weights

ROOT = Path(__file__).resolve().parent.parent
SCALES = "scales=1,0.75,0.5"


def start(workdir, *options, workers=None, rank=0, log=None, chief_job=False):
    """Starts a training; `workers` are the addresses of all its processes, of which this is the one with `rank`.

    With `chief_job` the first of them is not worker 0 but a job of its own.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if workers and chief_job:
        task = {"type": "worker", "index": rank - 1} if rank else {"type": "chief", "index": 0}
        cluster = {"cluster": {"chief": workers[:1], "worker": workers[1:]}, "task": task}
        environment["TF_CONFIG"] = json.dumps(cluster)
    elif workers:
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
        environment["TF_CONFIG"] = json.dumps(cluster)
    command = [sys.executable, "-m", "tests.tiny_training", str(workdir), *options]
    said = open(log, "w") if log else subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True)


def train(workdir, *options):
    process = start(workdir, *options)
    said = process.communicate(timeout=600)[0]
    return process.returncode, said


def addresses(count):
    """Addresses of this machine that are free."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    found = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twenty steps with dropout, three scales and iter_size 2, on one device, not interrupted."""
    workdir = tmp_path_factory.mktemp("straight")
    status, said = train(workdir, SCALES)
    assert status == 0, said
    return weights(workdir)


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_with_the_same_weights(straight, tmp_path):
    moments = random.Random(int(os.environ.get("KILL_SEED", "0")))
    wanted, kills, ended = int(os.environ.get("KILLS", "6")), 0, 0
    # A training comes to its end between two kills sooner or later; then it is the next one's turn.
    while True:
        workdir = tmp_path / str(ended)
        process = start(workdir, SCALES, "save_every=1", "pause=0.05")
        last = kills >= wanted
        if not last:
            # From the first word it says on, at any moment: while it restores, steps or saves.
            process.stdout.readline()
            time.sleep(moments.uniform(0, 12))
            process.send_signal(signal.SIGKILL)
        said = process.communicate(timeout=600)[0]
        if process.returncode == 0:
            assert_equal(workdir, straight)
            ended += 1
            if last:
                break
        else:
            assert process.returncode == -signal.SIGKILL, said
            kills += 1
    print(f"killed {kills} times, {ended} trainings ended")


def assert_equal(workdir, straight):
    ended = weights(workdir)
    assert ended.keys() == straight.keys()
    for name, values in straight.items():
        np.testing.assert_array_equal(ended[name], values, err_msg=name)


def assert_close(workdir, straight):
    ended = weights(workdir)
    for name, values in straight.items():
        # Float additions come in another order; the largest difference seen was 2e-7.
        np.testing.assert_allclose(ended[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_two_devices_give_the_weights_of_one(straight, tmp_path):
    status, said = train(tmp_path, SCALES, "cpus=2", "strategy=mirrored")
    assert status == 0 and "2 x CPU (MirroredStrategy)" in said, said
    assert_close(tmp_path, straight)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_and_only_the_chief_writes(straight, tmp_path):
    workers = addresses(2)
    folders = [tmp_path / "chief", tmp_path / "other"]
    # Stopped after some steps by a signal to one of them, and started again: both go on from the chief's checkpoint.
    for signalled in (True, False):
        processes = [
            start(
                folder, SCALES, "strategy=auto", "save_every=2", f"pause={0.5 * signalled}", workers=workers, rank=rank
            )
            for rank, folder in enumerate(folders)
        ]
        if signalled:
            wait_for((folders[0] / "checkpoints" / "step-2.index").exists, processes[0], seconds=600)
            processes[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=600)[0] for process in processes]
        assert [process.returncode for process in processes] == [143 * signalled] * 2, said
    assert "resuming at step" in said[0] and "2 x CPU" not in said[0] and "in each of 2 processes" in said[0]
    assert_close(folders[0], straight)
    assert not folders[1].exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_chief_job_and_workers_give_the_weights_of_one_and_only_the_chief_writes(tmp_path, workers):
    options = (SCALES, "batch_size=6", "iterations=12")
    status, said = train(tmp_path / "straight", *options)
    assert status == 0, said
    processes = workers + 1
    cluster = addresses(processes)
    folders = [tmp_path / str(rank) for rank in range(processes)]
    # Stopped by a signal to the last of them, and started again: weights of the checkpoint come from the chief.
    for signalled in (True, False):
        started = [
            start(
                *(folder, *options, "strategy=auto", "save_every=2", f"pause={0.5 * signalled}"),
                **{"workers": cluster, "rank": rank, "chief_job": True},
            )
            for rank, folder in enumerate(folders)
        ]
        if signalled:
            wait_for((folders[0] / "checkpoints" / "step-2.index").exists, started[0], seconds=600)
            started[-1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=600)[0] for process in started]
        assert [process.returncode for process in started] == [143 * signalled] * processes, said
    assert "resuming at step" in said[0] and f"1 x CPU in each of {processes} processes" in said[0]
    assert all("trained to step" not in words for words in said[1:])
    assert_close(folders[0], weights(tmp_path / "straight"))
    assert not any(folder.exists() for folder in folders[1:])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_dies_the_other_stops_with_one_line(tmp_path, victim):
    workers = addresses(2)
    processes = [
        start(tmp_path / "w", "strategy=auto", "iterations=100000", "save_every=2", workers=workers, rank=rank)
        for rank in (0, 1)
    ]
    wait_for((tmp_path / "w" / "checkpoints" / "step-2.index").exists, processes[0], seconds=600)
    processes[victim].kill()
    said = processes[1 - victim].communicate(timeout=120)[0]  # two minutes are what is promised
    processes[victim].communicate()
    assert processes[1 - victim].returncode == 75
    assert "error: another process of this training has ended" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_second_training_in_the_same_workdir_is_refused(tmp_path):
    first = start(tmp_path, "iterations=100000", "save_every=1000000")
    wait_for((tmp_path / "config.json").exists, first, seconds=600)
    status, said = train(tmp_path)
    first.kill()
    first.communicate()
    assert status == 2 and f"process {first.pid} on {socket.gethostname()} is training in {tmp_path}" in said
    # The lock goes with the process.
    status, said = train(tmp_path, "iterations=1")
    assert status == 0, said


@pytest.mark.slow
def test_validation_keeps_the_best_weights_and_goes_on_after_a_kill(tmp_path):
    options = ("validate=3", "eval_every=5", "save_every=5")
    status, said = train(tmp_path / "straight", *options)
    assert status == 0 and "mIoU" in said, said
    process = start(tmp_path / "killed", *options, "pause=0.2")
    wait_for((tmp_path / "killed" / "checkpoints" / "step-10.index").exists, process, seconds=600)
    process.kill()
    process.communicate()
    status, said = train(tmp_path / "killed", *options)
    assert status == 0 and "resuming at step 10" in said, said
    results = [json.loads((tmp_path / name / "validation.json").read_text()) for name in ("straight", "killed")]
    assert results[0] == results[1] and [entry["step"] for entry in results[0]["history"]] == [5, 10, 15, 20]
    tables = [(tmp_path / name / "loss.csv").read_bytes() for name in ("straight", "killed")]
    assert tables[0] == tables[1] and tables[0].count(b"\n") == 21
    best = results[0]["best"]
    assert best == max(results[0]["history"], key=lambda entry: entry["miou"])
    assert (tmp_path / "killed" / "best.weights.h5").is_file()
