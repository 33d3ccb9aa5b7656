"""How fast `datasets.convert` is, against reading the same files and writing their bytes with as many processes.

    python -m benchmarks.convert --dataset=voc12 --root=DIR

Each round copies the raw files of all splits into as many files as the converter makes, then converts; the best of the
rounds counts. Reading comes from the page cache, or with --cold from the disk. Both end when all they wrote is on
the disk, and both include the start of their processes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags

from datasets import DATASETS
from datasets.convert import convert
from datasets.source import Source
from deeplab_tf.runtime import command_line


def raw_files(dataset: str, source: Source) -> list[list[Path]]:
    """Returns the files of each image, of all splits."""
    module = DATASETS[dataset]
    return [
        list(module.example(source, split, image_id).files)
        for split in source.split_names or module.splits(source)
        for image_id in module.ids(source, split)
    ]


def copy(files: Sequence[Path], to: Path) -> None:
    with open(to, "wb", buffering=1 << 20) as written:
        for path in files:
            written.write(path.read_bytes())


def copy_all(images: Sequence[Sequence[Path]], num_files: int, num_workers: int, folder: Path) -> None:
    blocks = [
        [
            path
            for image in images[part * len(images) // num_files : (part + 1) * len(images) // num_files]
            for path in image
        ]
        for part in range(num_files)
    ]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, context) as pool:
        list(pool.map(copy, blocks, [folder / f"{part}" for part in range(num_files)]))


def forget(images: Sequence[Sequence[Path]]) -> None:
    """Takes files out of the page cache."""
    os.sync()
    for path in {path for image in images for path in image}:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir="."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def timed(work: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Returns wall time and CPU time in seconds, until what was written to `folder` is on the disk."""

    def processor_seconds() -> float:
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    start, processor_start = time.perf_counter(), processor_seconds()
    work(folder)
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - start, processor_seconds() - processor_start


def main() -> None:
    values = flags.FLAGS
    source = Source(root=values.root, split_names=tuple(values.splits))
    images = raw_files(values.dataset, source)
    num_bytes = sum(path.stat().st_size for image in images for path in image)
    state = "cold" if values.cold else "warm"
    print(f"{len(images)} images, {num_bytes / 1e6:.0f} MB, {values.workers} processes, {state}")
    num_files = 1

    def read_and_write(folder: Path) -> None:
        copy_all(images, num_files, values.workers, folder)

    def converted(folder: Path) -> None:
        convert(values.dataset, source, str(folder), num_workers=values.workers)

    ways = {"read and write": read_and_write, "convert": converted}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(values.rounds + 1):  # the first round warms up, and counts the converter's files
        for name, way in ways.items():
            if values.cold:
                forget(images)
            with empty_folder() as folder:
                times[name].append(timed(way, folder))
                num_files = len(list(folder.glob("*.tfrecord"))) or num_files
    print(f"{'':<16}{'images/s':>10}{'MB/s':>8}{'processor ms/image':>20}")
    best = {name: min(of_name[1:]) for name, of_name in times.items()}
    for name, (seconds, processor) in best.items():
        rates = len(images) / seconds, num_bytes / 1e6 / seconds
        print(f"{name:<16}{rates[0]:>10.0f}{rates[1]:>8.0f}{1000 * processor / len(images):>20.2f}")
    print(f"convert reaches {best['read and write'][0] / best['convert'][0]:.0%} of reading and writing")


def _define_flags() -> None:
    flags.DEFINE_enum("dataset", "voc12", list(DATASETS), "Data set to convert.")
    flags.DEFINE_string("root", "", "Its raw files.")
    flags.DEFINE_list("splits", [], "Its splits; all by default.")
    flags.DEFINE_integer("workers", len(os.sched_getaffinity(0)), "Processes.")
    flags.DEFINE_integer("rounds", 3, "Rounds that count.")
    flags.DEFINE_bool("cold", False, "Read from the disk, not from the page cache.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main, needs_tensorflow=False)
