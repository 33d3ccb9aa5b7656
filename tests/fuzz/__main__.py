"""Fuzzes one target for as long as is asked.

    python -m tests.fuzz TARGET [--seconds=600] [--seed=0]      one target, or all
    python -m tests.fuzz TARGET --input=FILE                    one input, such as one that was found

A process imports TensorFlow once and checks one input after the other; case n of a seed is always the same. An input
that makes `check` raise, ends the process, takes longer than 30 s or more than 4 GB beside what was in use is a
finding: it is made smaller where that is cheap, and stays in build/fuzz/. docs/reliability.json adds up the cases.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests import ledger

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / "build" / "fuzz"
SECONDS_A_CASE = 30
MORE_BYTES = 4 << 30
CURRENT, COUNTS = "current", "counts"


def work(name: str, seed: int, start: int, until: float, folder: Path) -> None:
    """Checks case after case until the time is over or one is a finding, which ends the process with status 3."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tests.fuzz.targets import TARGETS

    faulthandler.enable()
    target = TARGETS[name]
    corpus = target.corpus(folder)
    for data in corpus:
        target.check(data, folder)
    limit_memory()
    taken = number = 0
    while time.time() < until:
        number += 1
        dice = random.Random(f"{seed} {start + number}")
        data = target.damage(dice.choice(corpus), dice)
        (folder / CURRENT).write_bytes(data)
        faulthandler.dump_traceback_later(SECONDS_A_CASE, exit=True)
        try:
            taken += target.check(data, folder)
        except Exception as error:
            faulthandler.cancel_dump_traceback_later()
            (folder / CURRENT).write_bytes(shrink(target.check, data, folder, error))
            traceback.print_exc()
            sys.exit(3)
        finally:
            (folder / COUNTS).write_text(f"{number} {taken}")
        faulthandler.cancel_dump_traceback_later()


def limit_memory() -> None:
    """Lets this process take MORE_BYTES beside what it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MORE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def shrink(check, data: bytes, folder: Path, error: Exception, seconds: float = 10) -> bytes:
    """Leaves parts out as long as the same error comes from the same line."""
    until, size = time.monotonic() + seconds, len(data) // 2
    while size and time.monotonic() < until:
        place = 0
        while place < len(data) and time.monotonic() < until:
            smaller = data[:place] + data[place + size :]
            try:
                check(smaller, folder)
            except Exception as other:
                if where(other) == where(error):
                    data = smaller
                    continue
            place += size
        size //= 2
    return data


def where(error: Exception) -> tuple[type, str, int | None]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return type(error), last.filename, last.lineno


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Runs workers until the time is over; returns the number of different findings."""
    begin, cases, taken = time.time(), 0, 0
    findings: dict[str, Path] = {}
    FINDINGS.mkdir(parents=True, exist_ok=True)
    while time.time() < begin + seconds and len(findings) < 20:
        with tempfile.TemporaryDirectory() as folder:
            options = [f"--worker={folder}", f"--seed={seed}", f"--start={cases}", f"--until={begin + seconds}"]
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", name, *options], cwd=ROOT, capture_output=True, text=True
            )
            counts = Path(folder, COUNTS)
            if not counts.exists():
                if time.time() > begin + seconds:
                    break  # it had no time for a case
                sys.exit(f"{name}: the worker did not begin:\n{done.stderr}")
            checked, accepted = map(int, counts.read_text().split())
            cases, taken = cases + checked, taken + accepted
            if done.returncode:
                data = Path(folder, CURRENT).read_bytes()
                said = f"status {done.returncode}\n{done.stderr[-6000:]}"
                kind = said.strip().splitlines()[-1][:200] if done.returncode == 3 else f"status {done.returncode}"
                if kind not in findings:
                    path = FINDINGS / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}"
                    path.write_bytes(data)
                    path.with_suffix(".txt").write_text(f"seed {seed}, case {cases}\n{said}")
                    findings[kind] = path
                    print(f"{name}: {kind}\n  python -m tests.fuzz {name} --input={path.relative_to(ROOT)}", flush=True)
    spent = time.time() - begin
    ledger.add("fuzz", name, cases=cases, taken=taken, findings=len(findings), seconds=spent)
    print(f"{name}: {cases} cases, {taken} taken, {len(findings)} findings, {spent:.0f} s, seed {seed}", flush=True)
    return len(findings)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10**6)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        return work(flags.target, flags.seed, flags.start, flags.until, flags.worker)
    from tests.fuzz.targets import TARGETS

    names = list(TARGETS) if flags.target == "all" else [flags.target]
    if not set(names) <= set(TARGETS):
        parser.error(f"targets are all, {', '.join(TARGETS)}")
    if flags.input:
        with tempfile.TemporaryDirectory() as folder:
            TARGETS[flags.target].corpus(Path(folder))
            print("taken" if TARGETS[flags.target].check(flags.input.read_bytes(), Path(folder)) else "refused")
        return None
    sys.exit(1 if sum(fuzz(name, flags.seconds, flags.seed) for name in names) else 0)


if __name__ == "__main__":
    main()
