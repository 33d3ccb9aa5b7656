"""TF_CONFIG: the environment variable that lists the processes of one training, checked before TensorFlow reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from deeplab_tf.errors import UserError

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["a:12345", "b:12345"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")


class Cluster(NamedTuple):
    """The processes that train together, and which of them this one is.

    Attributes:
        chief: addresses of the chief job, "host:port"; none or one. Without it, worker 0 is the chief.
        worker: addresses of the other processes.
        task_type: "chief" or "worker", of this process.
        task_index: its place in that list.
    """

    chief: tuple[str, ...]
    worker: tuple[str, ...]
    task_type: str
    task_index: int

    @property
    def num_processes(self) -> int:
        """How many processes train together."""
        return len(self.chief) + len(self.worker)

    @property
    def is_chief(self) -> bool:
        """Whether this process reads and writes the workdir."""
        return self.task_type == "chief" or (not self.chief and self.task_index == 0)


def read_cluster(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """Reads TF_CONFIG.

    Args:
        environment: this process's by default.

    Returns:
        What it says; None where it is not set, is empty, or names no cluster.

    Raises:
        UserError: it cannot be used for a training. TensorFlow would end with a traceback, wait forever, or train
            alone.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise _unusable(f"it is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise _unusable(f"expected an object of named fields, got {text:.60}")
    if not fields.get("cluster"):
        return None
    addresses = _addresses(fields["cluster"])
    task_type, task_index = _task(fields.get("task"), addresses)
    return Cluster(addresses["chief"], addresses["worker"], task_type, task_index)


def _addresses(cluster: Any) -> dict[str, tuple[str, ...]]:
    """Returns the addresses of both jobs."""
    if not isinstance(cluster, dict):
        raise _unusable(f'"cluster" should list the addresses of each job, it is {cluster!r:.60}')
    unknown = [job for job in cluster if job not in _JOBS]
    if unknown:
        raise _unusable(f"a training has the jobs chief and worker, and none for {unknown[0]!r:.60}; take it out")
    found: dict[str, tuple[str, ...]] = {"chief": (), "worker": ()}
    for job, listed in cluster.items():
        if not isinstance(listed, list):
            raise _unusable(f'"{job}" should be a list of "host:port", it is {listed!r:.60}')
        for address in listed:
            host, _, port = str(address).rpartition(":")
            if not isinstance(address, str) or not host or not (port.isdecimal() and 0 < int(port) < 65536):
                raise _unusable(f'"{job}" should be a list of "host:port", it has {address!r:.60}')
        found[job] = tuple(listed)
    if len(found["chief"]) > 1:
        raise _unusable(f"there can be one chief, it names {len(found['chief'])}")
    everyone = [*found["chief"], *found["worker"]]
    twice = [address for address in everyone if everyone.count(address) > 1]
    if twice:
        raise _unusable(f"every process needs its own address, but {twice[0]:.60} is listed twice")
    return found


def _task(task: Any, addresses: dict[str, tuple[str, ...]]) -> tuple[str, int]:
    """Returns the type and index of this process."""
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _unusable(f'"task" should say which process this is by "type" and "index", it is {task!r:.60}')
    task_type, index = task["type"], task["index"]
    if task_type not in _JOBS or not addresses[task_type]:
        known = " and ".join(job for job in _JOBS if addresses[job]) or "no process"
        raise _unusable(f"this process is of the type {task_type!r:.60}, and the cluster has {known}")
    if isinstance(index, bool) or not str(index).isdecimal() or int(index) >= len(addresses[task_type]):
        raise _unusable(
            f'the index of this process should be 0 to {len(addresses[task_type]) - 1} for "{task_type}", it is '
            f"{index!r:.60}"
        )
    return task_type, int(index)


def _unusable(problem: str) -> UserError:
    return UserError(f"{VARIABLE} cannot be used: {problem}. Expected such as {EXAMPLE}; unset it to train alone.")
