"""How fast `deeplab_tf.batch_predict` is beside `predict.py`, on the same images in the same run.

    python -m benchmarks.batch_predict --model=exported/mine/saved_model/1 --images=photos/ --out=/tmp/bench

It links the images of a folder as often as it takes to have --count of them, and has each command segment a few of
them and then all: the difference is the time per image, the rest is the start. The memory of each process is its peak.
With --plan=1000000 it times instead what the first process does alone: planning and collecting so many images.
"""

from __future__ import annotations

import collections
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from absl import flags

from benchmarks.timing import machine
from deeplab_tf.batch.manifest import Entry, merge
from deeplab_tf.batch.plan import check_names, find_missing, make_blocks
from deeplab_tf.errors import UserError
from deeplab_tf.runtime import command_line

FEW = 20
LARGEST_BLOCK = 100
BATCH = [sys.executable, "-m", "deeplab_tf.batch_predict"]
WAYS = {
    "predict": [sys.executable, "predict.py", "--save=labels"],
    "batch": BATCH,
    "batch with two": [*BATCH, "--direct_num_workers=2"],
}


def link_images(source: Path, folder: Path, count: int) -> None:
    """Links images under new names until there are `count`."""
    images = sorted(source.glob("*.jpg"))
    if not images:
        raise UserError(f"--images={source}: expected a folder of .jpg files.")
    folder.mkdir(parents=True)
    for number in range(count):
        image = images[number % len(images)]
        to = folder / f"{number:06d}_{image.name}"
        try:
            os.link(image, to)
        except OSError:  # another file system
            shutil.copy(image, to)


def peak_memories(process: subprocess.Popen, peaks: dict[int, int]) -> None:
    """Notes the peak of the memory, in kB, of a process and its children until it ends."""
    while process.poll() is None:
        for pid in (process.pid, *children(process.pid)):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                if line.startswith("VmHWM"):
                    peaks[pid] = int(line.split()[1])
        time.sleep(0.2)


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def run(command: list[str], model: str, images: Path, out: Path) -> tuple[float, float, list[int]]:
    """Returns wall time and CPU time in seconds, and each process's peak in MB."""
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--model={model}", f"--images={images}", f"--out={out}", *(["--crf"] if flags.FLAGS.crf else [])],
        stdout=subprocess.PIPE,
        text=True,
    )
    peaks: dict[int, int] = {}
    watcher = threading.Thread(target=peak_memories, args=(process, peaks))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode:
        raise UserError(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {said.strip().splitlines()[-1]}")
    return seconds, processors, sorted((peak // 1024 for peak in peaks.values() if peak > 50_000), reverse=True)


def compare(model: str, images: Path, folder: Path, count: int, ways: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    link_images(images, folder / "few", FEW)
    link_images(images, folder / "all", count)
    print(machine())
    rows = []
    for name in ways:
        # Enough blocks for every process to have several.
        blocks = [f"--images_per_block={min(LARGEST_BLOCK, max(1, count // 10))}"] if name != "predict" else []
        few, _, _ = run([*WAYS[name], *blocks], model, folder / "few", folder / "out" / name)
        whole, processors, peaks = run([*WAYS[name], *blocks], model, folder / "all", folder / "out" / name)
        per_image = (whole - few) / (count - FEW)
        rows.append((name, whole, 1 / per_image, few - FEW * per_image, 1000 * processors / count, peaks))
    print(f"{'':<20}{'seconds':>9}{'images/s':>10}{'start s':>9}{'processor ms/image':>20}  MB of each process")
    for name, whole, rate, start, processors, peaks in rows:
        print(f"{name:<20}{whole:>9.1f}{rate:>10.2f}{start:>9.1f}{processors:>20.0f}  {', '.join(map(str, peaks))}")
    answers = {name: {path.name: path.read_bytes() for path in (folder / "out" / name).glob("*.png")} for name in ways}
    differing = collections.Counter(
        name for name in ways for image, data in answers[ways[0]].items() if answers[name].get(image) != data
    )
    print(f"files that differ from those of {ways[0]}: {dict(differing) or 'none'}")


def plan(count: int) -> None:
    """Times what grows with the number of images and is not shared out."""
    paths = [f"gs://bucket/archive/{number // 1000:04d}/{number:09d}.jpg" for number in range(count)]
    start = time.perf_counter()
    check_names(paths, "gs://bucket/archive/", [])
    blocks = make_blocks(find_missing(paths, []), 100, ())
    planned = time.perf_counter()
    entries = [Entry(path, output=path[20:-3] + "png", size=(375, 500)) for path in paths]
    lines = "".join(entry.to_line() for entry in merge(entries))
    collected = time.perf_counter()
    check_names(paths, "gs://bucket/archive/", entries)
    missing = find_missing(paths, [Entry.from_line(line) for line in lines.splitlines()])
    again = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} images: plan {planned - start:.1f} s ({len(blocks)} blocks), collect {collected - planned:.1f} s")
    print(f"find that {len(missing.new)} are missing {again - collected:.1f} s; manifest {len(lines) / 1e6:.0f} MB")
    print(f"peak of memory {peak:.0f} MB")


def main() -> None:
    values = flags.FLAGS
    if values.plan:
        plan(values.plan)
        return
    compare(os.path.abspath(values.model), Path(values.images), Path(values.out), values.count, values.ways)


def _define_flags() -> None:
    flags.DEFINE_string("model", "", "A SavedModel.")
    flags.DEFINE_string("images", "", "A folder of .jpg files.")
    flags.DEFINE_string("out", "/tmp/bench_batch_predict", "A folder; what is in it is removed.")
    flags.DEFINE_integer("count", 1000, "Images.")
    flags.DEFINE_list("ways", list(WAYS), "Commands to compare.")
    flags.DEFINE_bool("crf", False, "With the CRF.")
    flags.DEFINE_integer("plan", 0, "Time the planning of so many images instead.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main, needs_tensorflow=False)
