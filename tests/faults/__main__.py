"""Does to the commands what machines do to them, and looks at what is left.

    python -m tests.faults [--seconds=600] [--seed=0] [--only=kills,full_disk,...] [--commands=train,...]

kills            SIGKILL at random moments, again and again, then the same command to its end
full_disk        a file system that is too small, then a larger one
lost_rights      the folder becomes unwritable at a random moment (needs root and chattr), then writable again
read_only        the folder is unwritable from the start
clock            the clock jumps back an hour at every look at it
few_descriptors  64 open files at most
two_at_once      two of the same command write to the same folder

After each fault: whatever has its final name is whole, a failure is one line and exit status 2, and the same command
ends as one that nothing happened to. docs/reliability.json adds up how often it was done.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import ledger
from tests.faults.commands import Command, Running, build

KILLS_IN_A_ROW = 4


class Bench:
    """The commands, what each leaves undisturbed, and how long it takes."""

    def __init__(self, folder: Path, names: list[str], dice: random.Random) -> None:
        self.folder = folder
        self.dice = dice
        self.commands = [command for command in build(folder) if not names or command.name in names]
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        self.findings: list[str] = []
        for command in self.commands:
            out = self.fresh()
            running = Running(command, out)
            status, said = running.wait()
            assert status == 0, said
            self.expected[command.name] = command.contents(out)
            self.seconds[command.name] = running.seconds
            print(f"{command.name}: {running.seconds:.1f} s undisturbed", flush=True)

    def fresh(self) -> Path:
        """Returns a name for an output folder, without those before."""
        for old in self.folder.glob("out*"):
            shutil.rmtree(old, ignore_errors=True)
        return self.folder / "out"

    def find(self, fault: str, command: Command, what: str) -> None:
        """Notes a finding."""
        self.findings.append(f"{fault}, {command.name}: {what}")
        print(f"FINDING {self.findings[-1]}", flush=True)

    def check_whole(self, fault: str, command: Command, out: Path) -> None:
        """Looks at what has its final name."""
        if not out.exists():
            return
        try:
            found = command.contents(out)
        except Exception as error:  # such as JSON that ends early
            self.find(fault, command, f"a file that cannot be read: {error!r}")
            return
        expected = self.expected[command.name]
        for name, content in found.items():
            if name in expected and content != expected[name]:
                self.find(fault, command, f"{name} is not whole")

    def check_end(self, fault: str, command: Command, out: Path) -> None:
        """Runs the command to its end, and compares with the undisturbed one."""
        status, said = Running(command, out).wait()
        if status != 0:
            self.find(fault, command, f"the same command ends with status {status}: {said[-2000:]}")
            return
        found, expected = command.contents(out), self.expected[command.name]
        if found != expected:
            differ = [name for name in {*found, *expected} if found.get(name) != expected.get(name)]
            self.find(fault, command, f"the end differs: {sorted(differ)[:9]}")
        left = [
            str(path) for path in out.rglob(".*") if path.name.startswith((".writing.", ".converting", ".replaced."))
        ]
        if left:
            self.find(fault, command, f"left over: {left[:3]}")

    def check_refusal(self, fault: str, command: Command, status: int, said: str, may_end: bool) -> None:
        """Looks at how a command failed: with one line."""
        lines = [line for line in said.replace("\r", "\n").splitlines() if line.startswith("error: ")]
        if status == 0 and may_end:
            return
        if status != 2 or len(lines) != 1 or "Traceback" in said:
            self.find(fault, command, f"status {status} and {said[-3000:]!r}")


def kills(bench: Bench, command: Command) -> dict[str, int]:
    out, done = bench.fresh(), 0
    for attempt in range(KILLS_IN_A_ROW):
        running = Running(command, out)
        time.sleep(bench.dice.uniform(0, bench.seconds[command.name]))
        running.kill()
        status, said = running.wait()
        if status == -9:
            done += 1
        elif status != 0:
            bench.find("kills", command, f"status {status} before the kill: {said[-2000:]}")
        elif attempt == 0:
            bench.seconds[command.name] = running.seconds  # the machine was slower before
        bench.check_whole("kills", command, out)
    bench.check_end("kills", command, out)
    return {"kills": done}


def full_disk(bench: Bench, command: Command) -> dict[str, int]:
    disk = bench.folder / "disk"
    disk.mkdir(exist_ok=True)
    total = sum(len(content) for content in bench.expected[command.name].values() if isinstance(content, bytes))
    size = int(total * bench.dice.uniform(0.05, 0.9)) // 4096 * 4096 + 4096
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        status, said = Running(command, disk / "out").wait()
        # Outputs that a loop of bytes underestimates may fit after all.
        bench.check_refusal("full_disk", command, status, said, may_end=True)
        bench.check_whole("full_disk", command, disk / "out")
        subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
        bench.check_end("full_disk", command, disk / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return {"failures": int(status != 0)}


def lost_rights(bench: Bench, command: Command) -> dict[str, int]:
    out = bench.fresh()
    running = Running(command, out)
    time.sleep(bench.dice.uniform(0, bench.seconds[command.name]))
    locked = [path for path in (out, *out.rglob("*")) if path.is_dir()] if out.exists() else []
    try:
        for path in locked:
            subprocess.run(["chattr", "+i", str(path)], check=False)
        status, said = running.wait()
    finally:
        subprocess.run(["chattr", "-R", "-i", str(out)], check=False, capture_output=True)
    bench.check_refusal("lost_rights", command, status, said, may_end=True)
    bench.check_whole("lost_rights", command, out)
    bench.check_end("lost_rights", command, out)
    return {"failures": int(status != 0)}


def read_only(bench: Bench, command: Command) -> dict[str, int]:
    out = bench.fresh()
    out.mkdir()
    try:
        subprocess.run(["chattr", "+i", str(out)], check=True)
        status, said = Running(command, out).wait()
    finally:
        subprocess.run(["chattr", "-i", str(out)], check=True)
    bench.check_refusal("read_only", command, status, said, may_end=False)
    bench.check_end("read_only", command, out)
    return {"failures": int(status != 0)}


def clock(bench: Bench, command: Command) -> dict[str, int] | None:
    if command.name == "convert":
        return None  # a new program, in which nothing can be replaced; it compares times for equality only
    out = bench.fresh()
    running = Running(command, out, _turn_back_the_clock)
    time.sleep(bench.dice.uniform(0, bench.seconds[command.name]))
    running.kill()
    running.wait()
    status, said = Running(command, out, _turn_back_the_clock).wait()
    if status != 0:
        bench.find("clock", command, f"status {status}: {said[-2000:]}")
    bench.check_whole("clock", command, out)
    bench.check_end("clock", command, out)
    return {"kills": 1}


def _turn_back_the_clock() -> None:
    now, looks = time.time(), iter(range(10**9))
    time.time = lambda: now - 3600 * next(looks)


def few_descriptors(bench: Bench, command: Command) -> dict[str, int]:
    out = bench.fresh()
    status, said = Running(command, out, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))).wait()
    if status != 0:
        bench.find("few_descriptors", command, f"status {status}: {said[-2000:]}")
    bench.check_whole("few_descriptors", command, out)
    bench.check_end("few_descriptors", command, out)
    return {}


def two_at_once(bench: Bench, command: Command) -> dict[str, int]:
    out = bench.fresh()
    first = Running(command, out)
    time.sleep(bench.dice.uniform(0, 0.3) * bench.seconds[command.name])
    second = Running(Command(command.name, lambda _: command.arguments(out), command.contents), bench.folder / "out2")
    ends = [running.wait() for running in (first, second)]
    for status, said in ends:
        bench.check_refusal("two_at_once", command, status, said, may_end=True)
    if all(status != 0 for status, _ in ends):
        bench.find("two_at_once", command, f"none of the two came to its end: {ends}")
    bench.check_whole("two_at_once", command, out)
    bench.check_end("two_at_once", command, out)
    return {"refused": sum(status == 2 for status, _ in ends)}


FAULTS: dict[str, Callable[[Bench, Command], dict[str, int] | None]] = {
    fault.__name__: fault for fault in (kills, full_disk, lost_rights, read_only, clock, few_descriptors, two_at_once)
}


def main() -> None:
    """Parses the command line, and takes faults and commands in turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10**6)
    parser.add_argument("--only", default=",".join(FAULTS))
    parser.add_argument("--commands", default="")
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # All that the commands import, so that a forked one begins at once.
    for module in ("deeplab_tf.evaluation.evaluate", "deeplab_tf.export.tflite", "datasets.pipeline", "tests.tiny"):
        importlib.import_module(module)

    print(f"seed {flags.seed}")
    begin, rounds = time.monotonic(), 0
    names = [name for name in flags.commands.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), names, random.Random(flags.seed))
        while True:
            for name in flags.only.split(","):
                for command in bench.commands:
                    if time.monotonic() - begin > flags.seconds:
                        print(f"{rounds} faults, {len(bench.findings)} findings")
                        print("\n".join(bench.findings))
                        sys.exit(1 if bench.findings else 0)
                    before = len(bench.findings)
                    counts = FAULTS[name](bench, command)
                    if counts is None:
                        continue
                    rounds += 1
                    found = len(bench.findings) - before
                    ledger.add("faults", f"{name} {command.name}", findings=found, **counts)
                    print(f"{name} {command.name}: {counts} {'FAILED' if found else 'as it should be'}", flush=True)


if __name__ == "__main__":
    main()
