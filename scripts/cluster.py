"""Labels images on a Flink or Spark cluster that it starts on this machine, and stops it. Run it with `make cluster`.

    python -m scripts.cluster
    python -m scripts.cluster --model=exported/mine/saved_model/1 --images=photos/ --out=answers/
    python -m scripts.cluster --engine=spark --workers=2 --slots=2 --model=... --images=... --out=... -- --crf

What follows `--` goes to `python -m deeplab_tf.batch_predict`. It needs Java 17, an environment with
requirements-beam.txt and requirements-cluster.txt, and Maven, once, to put Beam's job server together.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line
from scripts.clusters import Cluster, FlinkCluster, SparkCluster

ROOT = Path(__file__).resolve().parents[1]
POM = ROOT / "scripts" / "job_server.xml"
_ENDING = (signal.SIGTERM, signal.SIGHUP)
ENGINES: dict[str, tuple[type[Cluster], str]] = {"flink": (FlinkCluster, "pyflink"), "spark": (SparkCluster, "pyspark")}


def engine_home(engine: str) -> Path:
    """Returns where pip has put the jars of an engine, without importing it.

    Raises:
        UserError: it is not installed.
    """
    found = importlib.util.find_spec(ENGINES[engine][1])
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"the jars of {engine.title()} are not installed here: {sys.executable} -m pip install"
            " -r requirements-cluster.txt -c constraints-beam.txt."
        )
    return Path(found.submodule_search_locations[0])


def job_server(engine: str, folder: Path) -> Path:
    """Returns Beam's job server for an engine, one jar; Maven puts it together where it is not there yet.

    Args:
        engine: flink or spark.
        folder: where the jar is kept.

    Raises:
        UserError: Maven is not installed, or it failed.
    """
    jar = folder / "job-server.jar"
    if jar.exists():
        return jar
    if shutil.which("mvn") is None:
        raise UserError(
            "Maven is not installed, and Beam's job server has to be put together: install it (Debian: apt-get install"
            " maven), or give the jar by --job_server."
        )
    print("putting Beam's job server together: Maven downloads some 200 MB the first time", flush=True)
    building = folder / f"building-{os.getpid()}"
    command = ["mvn", "-q", "-B", "-f", str(POM), "-P", engine, f"-Dfolder={building}", "package"]
    try:
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if built.returncode:
            raise UserError(f"Maven could not put the job server together: {_first_error(built.stdout)}")
        (building / "job-server.jar").replace(jar)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return jar


def _first_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "ERROR" in line]
    return (lines or text.splitlines() or ["it said nothing"])[0]


def own_model(folder: Path) -> Path:
    """Exports models/voc_animals, where that has not been done."""
    if not (folder / "saved_model" / "1").is_dir():
        _run_python("export.py", "--workdir=models/voc_animals", f"--out={folder}", "--formats=saved_model")
    return folder / "saved_model" / "1"


def own_images(folder: Path) -> str:
    """Makes the generated data set, where that has not been done; returns a pattern of its TFRecord files."""
    if not (folder / "manifest.json").exists():
        _run_python("-m", "datasets.convert", "--dataset=synthetic", f"--out={folder}")
    return f"{folder}/*.tfrecord"


def _run_python(*command: str) -> None:
    status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    if status:
        raise UserError(f"python {' '.join(command)} ended with status {status}.")


def _end(number: int, _: object) -> None:
    """Ends this process as an error would: the cluster is stopped."""
    sys.exit(128 + number)


def _run_job(command: list[str], environment: dict[str, str]) -> int:
    """Runs the job and returns its status; it gets the signals that this process gets, and cancels itself."""
    job = subprocess.Popen(command, env=environment)
    signals = (signal.SIGINT, *_ENDING)
    before = {number: signal.signal(number, lambda number, _: job.send_signal(number)) for number in signals}
    try:
        status = job.wait()
        return status if status >= 0 else 128 - status  # as a shell says that a signal ended it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str]) -> int:
    """Starts the cluster, runs the job there, and stops it; returns the status of the job."""
    values = flags.FLAGS
    if shutil.which("java") is None:
        raise UserError("java is not installed; Flink and Spark need Java 17 (Debian: apt-get install openjdk-17-jre).")
    if values.job_server and not os.path.isfile(values.job_server):
        raise UserError(f"--job_server={values.job_server}: there is no such file.")
    home = engine_home(values.engine)
    folder = Path(values.folder).resolve()
    (folder / values.engine).mkdir(parents=True, exist_ok=True)
    jar = Path(values.job_server).resolve() if values.job_server else job_server(values.engine, folder / values.engine)
    run = folder / values.engine / f"run-{os.getpid()}"
    model = values.model or own_model(folder / "model")
    images = values.images or own_images(folder / "data")
    out = values.out or run / "labels"
    kind, _ = ENGINES[values.engine]
    others = [argument for argument in arguments if argument != "--"]  # after it, batch_predict would read no flag
    for number in _ENDING:
        signal.signal(number, _end)
    begin = time.monotonic()
    with kind(home, run, jar, workers=values.workers, slots=values.slots) as cluster:
        print(f"{values.engine.title()} runs after {time.monotonic() - begin:.0f} s: {cluster.page}", flush=True)
        command = ["-m", "deeplab_tf.batch_predict", f"--model={model}", f"--images={images}", f"--out={out}"]
        begin = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        status = _run_job([sys.executable, *command, *cluster.flags(), *others], environment)
        print(f"the job took {time.monotonic() - begin:.0f} s; the logs are in {cluster.logs}", flush=True)
        if values.wait:
            print(f"{cluster.page} stays until Ctrl-C", flush=True)
            cluster.workers[0].wait()
    return status


def _define_flags() -> None:
    flags.DEFINE_enum("engine", "flink", list(ENGINES), "Flink, or a standalone Spark.")
    flags.DEFINE_string("model", "", "What export.py wrote: OUT/saved_model/1. Without: models/voc_animals, exported.")
    flags.DEFINE_string("images", "", "A folder, a pattern or TFRecord files. Without: generated images.")
    flags.DEFINE_string("out", "", "Folder for the answers. Without: a new one beside the logs.")
    flags.DEFINE_integer("workers", 2, "TaskManagers, or Spark's workers.", lower_bound=1)
    flags.DEFINE_integer("slots", 1, "Slots, or cores, of each: so many processes label images.", lower_bound=1)
    flags.DEFINE_string("folder", "cluster", "For the job server's jar, logs and what the engine writes.")
    flags.DEFINE_string("job_server", "", "Beam's job server for this engine, a jar, in place of Maven's.")
    flags.DEFINE_bool("wait", False, "Keep the cluster, to look at its page, until Ctrl-C.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main, needs_tensorflow=False, takes_other_flags=True)
