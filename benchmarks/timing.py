"""Times several ways of doing one thing beside each other."""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def interleaved(
    ways: Mapping[str, Callable[[], Any]], rounds: int = 7, seconds: float = 10, least: int = 3
) -> dict[str, dict[str, float]]:
    """Runs all ways once to warm up, then in turns, in another order in each round.

    A way gains from running after one that leaves the same arrays in the caches, so no order is used throughout.

    Args:
        ways: by name; each does its work before it returns.
        rounds: turns of each.
        seconds: stop earlier after these, but not before `least` rounds.
        least: rounds.

    Returns:
        Per way "median", "low" and "high" (quartiles) of the wall-clock milliseconds, and "cpu", the median of the
        milliseconds of all processors together: on a machine with other work the more reliable number.
    """
    for run in ways.values():
        run()
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    random = np.random.default_rng(0)
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= least and time.perf_counter() > end:
            break
        for name in random.permutation(list(ways)):
            run = ways[name]
            started, started_cpu = time.perf_counter(), time.process_time()
            run()
            wall[name].append(1e3 * (time.perf_counter() - started))
            cpu[name].append(1e3 * (time.process_time() - started_cpu))
    summary = {}
    for name, times in wall.items():
        low, median, high = np.percentile(times, [25, 50, 75])
        summary[name] = {"median": median, "low": low, "high": high, "cpu": float(np.median(cpu[name]))}
    return summary


def peak_mebibytes(build: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """Builds something in a process of its own and returns how much more memory than it holds then running it takes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deeplab_tf.networks.deeplab"])  # imports TensorFlow once for all
    with context.Pool(1) as pool:
        return pool.apply(_peak_mebibytes, (build, *arguments))


def _peak_mebibytes(build: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    run = build(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, that of building, is forgotten
    before = _status_kibibytes("VmRSS")
    for _ in range(2):
        run()
    return (_status_kibibytes("VmHWM") - before) / 1024


def _status_kibibytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def gpu_peak_bytes() -> int:
    """Returns the most memory that TensorFlow has used of the first GPU; 0 without one."""
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return 0
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def machine() -> str:
    """GPUs, cores, processor and versions, in one line."""
    import tensorflow as tf

    from deeplab_tf.runtime import devices

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    cores = f"{os.cpu_count()} cores of {cpu}"
    return ", ".join([*devices.gpu_names(), cores, f"TensorFlow {tf.__version__}", f"load {os.getloadavg()[0]:.1f}"])
