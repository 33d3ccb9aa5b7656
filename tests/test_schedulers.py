"""The examples of docs/distributed.md for schedulers: run as they stand, with stand-ins for what only a cluster has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "distributed.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = [text for language, text in BLOCKS if language == "bash"]
[JOB] = [text for language, text in BLOCKS if language == "yaml"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script with the programs of a folder before all others."""
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], env={"PATH": path, **environment}, capture_output=True, text=True, timeout=60
    )


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_every_script_of_the_page_is_valid_bash():
    assert len(SCRIPTS) == 3
    for script in SCRIPTS:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("status", "queued_again"), [(0, False), (1, False), (2, False), (75, True), (143, True)])
def test_slurm_starts_each_process_with_its_place_and_queues_again_what_was_stopped(tmp_path, status, queued_again):
    [script] = [text for text in SCRIPTS if "srun" in text]
    program(
        tmp_path,
        "scontrol",
        f'if [ "$1" = show ]; then echo node07; echo node12; else echo "$@" >> {tmp_path}/requeued; fi',
    )
    # The last argument is the command; each of two tasks runs it.
    program(tmp_path, "srun", 'for r in 0 1; do SLURM_PROCID=$r bash -c "${@: -1}" || status=$?; done; exit $status')
    program(tmp_path, "python", f'echo "$TF_CONFIG" >> {tmp_path}/started; exit {status}')
    ended = bash(script, tmp_path, SLURM_JOB_ID="4711", SLURM_JOB_NODELIST="node[07,12]")
    assert not ended.stderr
    workers = ["node07:24711", "node12:24711"]
    assert [json.loads(line) for line in (tmp_path / "started").read_text().splitlines()] == [
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}} for rank in (0, 1)
    ]
    assert (tmp_path / "requeued").exists() == queued_again
    if queued_again:
        assert (tmp_path / "requeued").read_text() == "requeue 4711\n"


def test_kubernetes_starts_each_pod_with_its_place_under_the_names_that_its_service_gives(tmp_path):
    [script] = re.findall(r"- \|\n(.*?)^ +resources:", JOB, re.MULTILINE | re.DOTALL)
    program(tmp_path, "python", 'echo "$TF_CONFIG"')
    [pods] = map(int, re.findall(r"completions: (\d+)", JOB))
    [batch] = map(int, re.findall(r"train.batch_size=(\d+)", JOB))
    [name] = re.findall(r"kind: Job\nmetadata: {name: (\w+)}", JOB)
    [service] = re.findall(r"kind: Service\nmetadata: {name: (\w+)}", JOB)
    assert f"subdomain: {service}" in JOB and f"selector: {{job-name: {name}}}" in JOB and f"parallelism: {pods}" in JOB
    [gpus] = map(int, re.findall(r"nvidia.com/gpu: (\d+)", JOB))
    assert batch % (pods * gpus) == 0  # or train.py refuses it
    for index in range(pods):
        started = bash(textwrap.dedent(script), tmp_path, JOB_COMPLETION_INDEX=str(index))
        assert json.loads(started.stdout) == {
            "cluster": {"worker": [f"{name}-{place}.{service}:12345" for place in range(pods)]},
            "task": {"type": "worker", "index": index},
        }
