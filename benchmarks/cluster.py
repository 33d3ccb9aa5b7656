"""What Flink and Spark cost per image: the same images by predict.py, Beam on this machine, and clusters on it.

    python -m benchmarks.cluster --model=exported/mine/saved_model/1 --images=photos/ --out=/tmp/bench

Each way labels a few images and then all: the difference is the time per image, the rest is the start of the job. The
processor time is that of the job, the cluster and the processes that it starts. Clusters are started before, and their
start is not counted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from benchmarks.batch_predict import BATCH, FEW, children, link_images
from benchmarks.timing import machine
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line
from scripts.cluster import ENGINES, engine_home

LOCAL = {
    "predict.py": [sys.executable, "predict.py", "--save=labels"],
    "one process": BATCH,
    "two processes": [*BATCH, "--direct_num_workers=2"],
}


def busy_seconds() -> float:
    """Returns the processor time so far of all processes that this one has started, and of those that they have."""
    ticks = os.sysconf("SC_CLK_TCK")
    below, total = children(os.getpid()), os.times().children_user + os.times().children_system
    while below:
        pid = below.pop()
        with contextlib.suppress(OSError):  # it has just ended, and its parent has its time
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in fields[11:15]) / ticks  # its own, and of its children that have ended
            below += children(pid)
    return total


def timed(command: list[str], images: Path, out: Path) -> tuple[float, float]:
    """Runs a job; returns its seconds and processor seconds.

    Raises:
        UserError: it failed.
    """
    shutil.rmtree(out, ignore_errors=True)
    before, start = busy_seconds(), time.perf_counter()
    whole = [*command, f"--model={flags.FLAGS.model}", f"--images={images}", f"--out={out}"]
    ended = subprocess.run(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode:
        raise UserError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stdout[-300:]}")
    return time.perf_counter() - start, busy_seconds() - before


def measure(name: str, command: list[str], folder: Path, count: int) -> None:
    """Prints a line of the table."""
    few, few_busy = timed(command, folder / "few", folder / "out" / "few")
    whole, busy = timed(command, folder / "all", folder / "out" / name)
    per_image = (whole - few) / (count - FEW)
    per_image_busy = (busy - few_busy) / (count - FEW)
    answers = {path.name: path.read_bytes() for path in (folder / "out" / name).glob("*.png")}
    first = {path.name: path.read_bytes() for path in (folder / "out" / "predict.py").glob("*.png")}
    same = sum(answers.get(image) == data for image, data in first.items())
    print(
        f"{name:<16}{whole:>9.1f}{1 / per_image:>10.2f}{few - FEW * per_image:>9.1f}"
        f"{1000 * per_image_busy:>15.0f}{busy - count * per_image_busy:>12.1f}   {same} of {len(first)} files the same",
        flush=True,
    )


def main() -> None:
    """Prints the table, a line when it is known."""
    values = flags.FLAGS
    folder = Path(values.out)
    shutil.rmtree(folder, ignore_errors=True)
    link_images(Path(values.images), folder / "few", FEW)
    link_images(Path(values.images), folder / "all", values.count)
    print(machine())
    print(f"{'':<16}{'seconds':>9}{'images/s':>10}{'start s':>9}{'CPU ms/image':>15}{'CPU start s':>12}", flush=True)
    blocks = f"--images_per_block={values.images_per_block}"
    for name in values.ways:
        if name in LOCAL:
            measure(name, [*LOCAL[name], *([] if name == "predict.py" else [blocks])], folder, values.count)
            continue
        engine, workers, slots = name.split(":")
        kind, _ = ENGINES[engine]
        jar = Path(values.jars).resolve() / engine / "job-server.jar"
        home, runs = engine_home(engine), folder.resolve() / "runs" / name.replace(":", "-")
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(kind(home, runs, jar, workers=int(workers), slots=int(slots)))
            measure(name, [*BATCH, blocks, *cluster.flags()], folder, values.count)


def _define_flags() -> None:
    flags.DEFINE_string("model", "", "What export.py wrote: OUT/saved_model/1.")
    flags.DEFINE_string("images", "", "A folder of .jpg files.")
    flags.DEFINE_string("out", "", "A folder that is made anew.")
    flags.DEFINE_string("jars", "cluster", "Where make cluster has put the job servers.")
    flags.DEFINE_integer("count", 500, "Images of the whole run.", lower_bound=FEW + 1)
    flags.DEFINE_integer("images_per_block", 20, "As with batch_predict.")
    flags.DEFINE_list(
        "ways",
        [*LOCAL, "flink:1:1", "flink:2:1", "spark:1:1", "spark:2:1"],
        "What to measure, predict.py first; a cluster is ENGINE:WORKERS:SLOTS.",
    )


if __name__ == "__main__":
    _define_flags()
    command_line.run(main, needs_tensorflow=False)
