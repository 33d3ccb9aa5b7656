"""Training on several machines: each process has an address of its own, and no folder is shared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.network_hosts import network_hosts
from tests.processes import children, wait_for
from tests.trained import weights

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("batch_size=6", "iterations=12", "save_every=2", "strategy=auto")


@pytest.fixture
def hosts():
    try:
        with network_hosts(3) as made:
            yield made
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")


# What restartPolicy: OnFailure of Kubernetes does: start again whatever has failed, and nothing else.
SUPERVISED = ["bash", "-c", 'for try in {1..20}; do "$@" && exit; sleep 2; done; exit 1', "supervisor"]


def start_all(hosts, folders, *options, supervisor=()):
    """Starts the chief and two workers, each on its host."""
    addresses = [f"{address}:12345" for address in hosts]
    cluster = {"chief": addresses[:1], "worker": addresses[1:]}
    tasks = [{"type": "chief", "index": 0}, {"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    return [
        subprocess.Popen(
            [*on_host, *supervisor, sys.executable, "-m", "tests.tiny_training", str(folder), *OPTIONS, *options],
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
            },
            **{"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
        )
        for on_host, folder, task in zip(hosts.values(), folders, tasks, strict=True)
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The weights of one process that is not interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    command = [sys.executable, "-m", "tests.tiny_training", str(folder), *OPTIONS]
    assert subprocess.run(command, cwd=ROOT, timeout=600).returncode == 0
    return weights(folder)


def assert_trained(folders, said, straight):
    """The chief has resumed and has the weights of one process; nothing is shared, and the chief alone writes."""
    assert "resuming at step" in said[0] and "1 x CPU in each of 3 processes" in said[0], said
    ended = weights(folders[0])
    for name, values in straight.items():
        # Float additions come in another order, as in tests/test_survival.py.
        np.testing.assert_allclose(ended[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not folders[1].exists() and not folders[2].exists()


@pytest.mark.slow
def test_a_worker_on_another_host_is_killed_and_all_go_on_from_the_checkpoint(hosts, tmp_path, straight):
    folders = [tmp_path / name for name in ("chief", "worker0", "worker1")]
    started = start_all(hosts, folders, "pause=0.5")
    wait_for((folders[0] / "checkpoints" / "step-4.index").exists, started[0], seconds=600)
    started[2].kill()
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [75, 75, -9], said
    assert all("error: another process of this training has ended" in words for words in said[:2]), said
    again = start_all(hosts, folders)
    said = [process.communicate(timeout=600)[0] for process in again]
    assert [process.returncode for process in again] == [0, 0, 0], said
    assert_trained(folders, said, straight)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_a_process_that_is_started_again_alone_meets_the_others_when_they_have_noticed(
    hosts, tmp_path, straight, victim
):
    folders = [tmp_path / name for name in ("chief", "worker0", "worker1")]
    started = start_all(hosts, folders, "pause=0.5", supervisor=SUPERVISED)
    wait_for((folders[0] / "checkpoints" / "step-4.index").exists, started[0], seconds=600)
    [training] = children(started[victim].pid)
    os.kill(training, signal.SIGKILL)
    said = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert_trained(folders, said, straight)
