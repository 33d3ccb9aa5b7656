"""Attacks the local page as other programs and other pages could, and looks at what they got.

    python -m tests.intrusions [--seconds=600] [--seed=0] [--threads=4]

It starts `python -m deeplab_tf.webapp` on a loopback port, with a secret file beside it. Requests that are right but
for one thing (see attempts.py) have to be refused and must not bring the secret back; right ones between them have to
get the result that they got alone. Uploads break off, connections say nothing, and ten images of almost 50 megapixels
come at once. At the end the memory and the open files of the process are compared with those of the beginning, and
nothing may lie in its folder for temporary files. docs/reliability.json adds up the requests.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import ledger
from tests.intrusions.attempts import KINDS, Target, complaint
from tests.page_server import SEGMENT, browser_headers, raw_request, refine, segment, send

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "voc_animals"
SECRET = b"nobody else may read this: 4711-0815"
LARGE = (7062, 7065)  # 49.9 megapixels
CROWD = 10
ROUND_SECONDS = 60
MOST_GROWTH_BYTES = 1.5e9
MAX_BYTES = 20_000_000
# How many of a hundred requests are of each kind; the rest are attempts.
SHARES = {"right": 10, "refine": 5, "breaks off": 5, "says nothing": 2}


class Page:
    """The command in a process of its own, and what it answers when nobody else asks."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        secret = folder / "secret.txt"
        secret.write_bytes(SECRET)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deeplab_tf.webapp", f"--model={MODEL}", "--port=0"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.temporary), "PAGE_SECRET": SECRET.decode()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        assert found, self.process.communicate()[1]
        port = int(found[1])
        image = encode(np.random.default_rng(0).integers(0, 256, (97, 129, 3)).astype(np.uint8))
        answer = segment(port, image).json
        constants = {"w1": 4, "sigma_alpha": 49, "sigma_beta": 5, "w2": 3, "sigma_gamma": 3, "iterations": 5}
        self.target = Target(port, image, answer["image"], constants, str(secret), MAX_BYTES)
        self.right = without_times(answer)
        self.refined = without_times(refine(port, answer["image"], constants).json)
        self.large = encode(np.zeros((*LARGE, 3), np.uint8))
        self.crowd()  # what this takes once is kept
        self.files, self.peak = self.open_files(), self.most_memory()

    def ask(self, dice: random.Random) -> tuple[str, str]:
        """Sends something; returns its kind, and what is wrong with the response, or ""."""
        kind = dice.choices([*SHARES, "attempt"], [*SHARES.values(), 100 - sum(SHARES.values())])[0]
        port, image = self.target.port, self.target.image
        if kind == "right":
            response = segment(port, image)
            return kind, "" if response.status == 200 and without_times(response.json) == self.right else "wrong"
        if kind == "refine":
            response = refine(port, self.target.key, self.target.constants)
            return kind, "" if response.status == 200 and without_times(response.json) == self.refined else "wrong"
        if kind in ("breaks off", "says nothing"):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                if kind == "breaks off":
                    headers = [*browser_headers(port, **SEGMENT), ("Content-Length", str(MAX_BYTES))]
                    connection.sendall(raw_request("POST", "/segment", headers, image * dice.randrange(1, 20)))
                time.sleep(dice.random())
            return kind, ""
        kind = dice.choice(list(KINDS))
        data = KINDS[kind](dice, self.target)
        found = complaint(kind, send(port, data), SECRET)
        return kind, f"{found}: {data[:300]!r}" if found else ""

    def crowd(self) -> bool:
        """Sends many large images at once; says whether all were answered."""
        with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
            sent = [pool.submit(segment, self.target.port, self.large) for _ in range(CROWD)]
            return all(each.result().status == 200 for each in sent)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def most_memory(self) -> int:
        """Returns how many bytes of memory the process has had at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]

    def end(self) -> list[str]:
        """Ends the process; returns what is left that should not be."""
        found = []
        time.sleep(12)  # until connections that say nothing are closed
        files, peak = self.open_files(), self.most_memory()
        print(f"open files {self.files} -> {files}, most memory {self.peak / 1e6:.0f} -> {peak / 1e6:.0f} MB")
        if files > self.files + 2:
            found.append(f"{files} open files instead of {self.files}")
        if peak > self.peak + MOST_GROWTH_BYTES:
            found.append(f"memory grew by {(peak - self.peak) / 1e6:.0f} MB")
        left = [path.name for path in self.temporary.rglob("*")]
        if left:
            found.append(f"left behind: {left[:5]}")
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        if said or self.process.returncode != 128 + signal.SIGTERM:
            found.append(f"status {self.process.returncode}, said {said[-2000:]!r}")
        return found


def encode(image: np.ndarray) -> bytes:
    """Returns a PNG."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer without what differs each time."""
    return {
        name: {key: value for key, value in part.items() if key != "seconds"} if isinstance(part, dict) else part
        for name, part in answer.items()
        if name != "image"
    }


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=4)
    flags = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        page = Page(Path(folder))
        try:
            end, number = time.monotonic() + flags.seconds, 0
            while time.monotonic() < end and len(findings) < 20:
                until, number = min(end, time.monotonic() + ROUND_SECONDS), number + 1

                def work(thread: int, number: int = number, until: float = until) -> list[tuple[str, str]]:
                    dice, done = random.Random(f"{flags.seed} {number} {thread}"), []
                    while time.monotonic() < until:
                        done.append(page.ask(dice))
                    return done

                with concurrent.futures.ThreadPoolExecutor(flags.threads) as threads:
                    for kind, found in (pair for done in threads.map(work, range(flags.threads)) for pair in done):
                        counts[kind] += 1
                        if found:
                            findings.append(f"{kind}: {found}")
                            print(findings[-1], flush=True)
                counts["crowd"] += CROWD
                if not page.crowd():
                    findings.append("crowd: not all were answered")
                print(f"{counts.total()} requests, at most {page.most_memory() / 1e6:.0f} MB", flush=True)
            findings += page.end()
        finally:
            page.process.kill()
            page.process.communicate()
    print(f"findings: {findings or 'none'} of {dict(counts)}")
    ledger.add("intrusions", "page", requests=counts.total(), findings=len(findings), seconds=flags.seconds)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
