"""Flink and Spark on this machine: a master and workers as processes of their own, on free ports of loopback.

`scripts/cluster.py` is the command. Each process is a Java machine with a small heap; the network runs beside it, in
processes of Python that a worker starts by scripts/beam_worker.sh.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_tf.errors import UserError

HOST = "127.0.0.1"
WORKER = Path(__file__).resolve().parent / "beam_worker.sh"
_START_SECONDS = 120
_STOP_SECONDS = 15

# What both engines reach into since Java 17 closed its own packages.
_OPENED = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.text"),
    *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("java.util.concurrent.locks", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
_OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]


class Cluster:
    """A master and its workers; stops them where the `with` block ends.

    Attributes:
        page: the address of its page, once it is started.
        workers: the processes that do the work.
        logs: the folder with a log of each process.
        disk: the folder where the engine keeps its own files, such as the jar of a job.
    """

    def __init__(self, home: Path, folder: Path, job_server: Path, workers: int = 2, slots: int = 1) -> None:
        """Chooses free ports; `start` or `with` starts the processes.

        Args:
            home: where the engine's jars are: pyflink or pyspark, as pip installs them.
            folder: for logs, settings and what the engine writes.
            job_server: Beam's job server for this engine, one jar.
            workers: how many.
            slots: pieces of work that each of them does at once.
        """
        self.home, self.folder, self.job_server = home, folder, job_server
        self.slots, self._count = slots, workers
        self.logs = folder / "logs"
        self.disk = folder / "tmp"
        for made in (self.logs, self.disk):
            made.mkdir(parents=True, exist_ok=True)
        self.page = f"http://{HOST}:{free_port()}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the master and the workers, and waits until it knows all of them.

        Raises:
            UserError: one of them ended, or they took too long.
        """
        self._start_master()
        self._wait_for(0)
        for _ in range(self._count):
            self.start_worker()
        self.wait_for_workers()

    def wait_for_workers(self) -> None:
        """Waits until the master knows as many workers as are running.

        Raises:
            UserError: one of them ended, or they took too long.
        """
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        self._wait_for(len(self.workers))

    def stop(self) -> None:
        """Stops all processes, the last one started first."""
        for process in reversed(self._all):
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + _STOP_SECONDS
        for process in reversed(self._all):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()

    def flags(self) -> list[str]:
        """Returns the flags of `batch_predict` and `datasets.convert` that send the work there."""
        raise NotImplementedError

    def start_worker(self, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Starts one more worker.

        Args:
            before: a command and its arguments that the worker's own command follows, such as nice.
        """
        raise NotImplementedError

    def known_workers(self) -> int:
        """Returns how many workers the master knows.

        Raises:
            OSError: it does not answer.
        """
        raise NotImplementedError

    def _start_master(self) -> None:
        raise NotImplementedError

    def _worker_environment(self) -> dict[str, Any]:
        """What starts the processes of Python: with as many threads as there are cores for each."""
        cores = len(os.sched_getaffinity(0))
        threads = max(1, cores // (self._count * self.slots))
        return {
            "command": str(WORKER),
            "env": {"PYTHON": sys.executable, "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"},
        }

    def _java(
        self,
        name: str,
        megabytes: int,
        jars: Sequence[str],
        *arguments: str,
        before: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        options = [f"-Xmx{megabytes}m", "-XX:+UseSerialGC", *_OPENS, "-cp", ":".join(jars)]
        # Where this process is killed, with nothing to stop the cluster, Linux ends its processes.
        outlived = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        command = [*outlived, *before, "java", *options, *arguments]
        with open(self.logs / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                **{"stdout": log, "stderr": log, "cwd": self.folder, "env": {**os.environ, **environment}},
                start_new_session=True,  # Ctrl-C is for the job: it cancels itself while the cluster still runs
            )
        self._all.append(process)
        return process

    def _wait_for(self, count: int) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if self.known_workers() >= count:
                    return
            ended = [process for process in self._all[:1] + self.workers if process.poll() is not None]
            if ended or time.monotonic() > end:
                what = f"a process ended with {ended[0].returncode}" if ended else f"not ready in {_START_SECONDS} s"
                raise UserError(f"the cluster did not start: {what}. The logs are in {self.logs}.")
            time.sleep(0.3)


class FlinkCluster(Cluster):
    """A session cluster: a JobManager and TaskManagers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._port = free_port()
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": self._port,
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.jvm-metaspace.size": "256m",
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.page.rsplit(":", 1)[1],
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": self.slots,
            # Without Flink's own shell scripts nothing works these out.
            "taskmanager.cpu.cores": float(self.slots),
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.task.heap.size": "256m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.managed.size": "64m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "192m",
            "taskmanager.memory.jvm-overhead.max": "192m",
            # A TaskManager that is lost is noticed within seconds, and its work is done again.
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 10000,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 5,
            "restart-strategy.fixed-delay.delay": "2 s",
            "io.tmp.dirs": str(self.disk),
            "web.tmpdir": str(self.disk),
        }
        self._conf = self.folder / "conf"
        self._conf.mkdir(exist_ok=True)
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
        (self._conf / "config.yaml").write_text("".join(lines))
        (self._conf / "log4j.properties").write_text(_LOG4J)

    def flags(self) -> list[str]:
        """See `Cluster.flags`."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.page.removeprefix('http://')}",
            f"--flink_job_server_jar={self.job_server}",
            f"--parallelism={self._count * self.slots}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps(self._worker_environment())}",
            f"--sdk_worker_parallelism={self.slots}",
        ]

    def start_worker(self, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Starts one more TaskManager, see `Cluster.start_worker`."""
        worker = self._run(f"taskmanager-{len(self._all)}", 512, "taskexecutor.TaskManagerRunner", before)
        self.workers.append(worker)
        return worker

    def known_workers(self) -> int:
        """Returns how many TaskManagers the JobManager knows."""
        return int(read_json(f"{self.page}/overview")["taskmanagers"])

    def _start_master(self) -> None:
        self._run("jobmanager", 512, "entrypoint.StandaloneSessionClusterEntrypoint")

    def _run(self, name: str, megabytes: int, entry: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        log = f"-Dlog4j.configurationFile={self._conf}/log4j.properties"
        entry = f"org.apache.flink.runtime.{entry}"
        jars = [f"{self.home}/lib/*"]
        return self._java(name, megabytes, jars, log, entry, "--configDir", str(self._conf), before=before)


class SparkCluster(Cluster):
    """A standalone master and its workers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._port = free_port()

    def flags(self) -> list[str]:
        """See `Cluster.flags`."""
        properties = {
            "spark.executor.memory": "512m",
            "spark.driver.host": HOST,
            # A lost executor's work is dealt to the others in pieces of this number.
            "spark.default.parallelism": 4 * self._count * self.slots,
        }
        java = [*_OPENS, "-Xmx512m", *(f"-D{name}={value}" for name, value in properties.items())]
        return [
            "--runner=SparkRunner",
            f"--spark_master_url=spark://{HOST}:{self._port}",
            f"--spark_job_server_jar={self.job_server}",
            # Or else Spark ends the processes of Python after each task, and the next one loads the model again.
            "--environment_cache_millis=600000",
            *(f"--job_server_jvm_properties={one}" for one in java),
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps(self._worker_environment())}",
            f"--sdk_worker_parallelism={self.slots}",
        ]

    def start_worker(self, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Starts one more worker, see `Cluster.start_worker`."""
        number = len(self._all)
        worker = self._run(
            f"worker-{number}",
            *("worker.Worker", "--host", HOST, "--webui-port", "0", "--cores", str(self.slots), "--memory", "1g"),
            *("--work-dir", str(self.folder / f"work-{number}"), f"spark://{HOST}:{self._port}"),
            before=before,
        )
        self.workers.append(worker)
        return worker

    def known_workers(self) -> int:
        """Returns how many workers the master knows."""
        return int(read_json(f"{self.page}/json/")["aliveworkers"])

    def _start_master(self) -> None:
        page = self.page.rsplit(":", 1)[1]
        self._run("master", "master.Master", "--host", HOST, "--port", str(self._port), "--webui-port", page)

    def _run(self, name: str, entry: str, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        return self._java(
            *(name, 384, [f"{self.home}/jars/*"], f"org.apache.spark.deploy.{entry}", *arguments),
            SPARK_HOME=str(self.home),
            SPARK_SCALA_VERSION="2.12",
            SPARK_LOCAL_IP=HOST,
            SPARK_LOCAL_DIRS=str(self.disk),
            before=before,
        )


_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %-5p %c{1} - %m%n
"""


def free_port() -> int:
    """Returns a port of loopback that nothing listens on."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def read_json(address: str) -> Any:
    """Reads what a page of a cluster says in JSON.

    Raises:
        OSError: it does not answer.
    """
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)
