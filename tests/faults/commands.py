"""The five commands that write, each with small input, and what it has to leave.

TensorFlow takes seconds to import. So this process imports it once, computes nothing, and forks: the child runs the
command as `python COMMAND` would, with flags of its own. Conversion needs no TensorFlow, and is a new process.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "voc_animals"
LONGEST_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Command:
    """A command whose result is known.

    Attributes:
        name: convert, train, eval, export or predict.
        arguments: from the folder for its output to what stands behind "python".
        contents: from that folder to what is in its files under their final names, by name.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    contents: Callable[[Path], dict[str, Any]]


class Running:
    """A command that runs.

    Args:
        command: which.
        out: the folder for its output.
        prepare: called in the process before the command begins.
    """

    def __init__(self, command: Command, out: Path, prepare: Callable[[], None] = lambda: None) -> None:
        self._said = tempfile.TemporaryFile()
        self._begin = time.monotonic()
        arguments = command.arguments(out)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run_in_child(arguments, self._said.fileno(), prepare))

    def wait(self) -> tuple[int, str]:
        """Returns the exit status, -9 for a killed one, and what it said on stderr."""
        until = time.monotonic() + LONGEST_SECONDS
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > until:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
                return -1, f"it did not end within {LONGEST_SECONDS} s"
            time.sleep(0.01)
        self.seconds = time.monotonic() - self._begin
        self._said.seek(0)
        return os.waitstatus_to_exitcode(ended[1]), self._said.read().decode(errors="replace")

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        os.kill(self.pid, 9)


def _run_in_child(arguments: list[str], said: int, prepare: Callable[[], None]) -> int:
    try:
        os.setsid()
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.chdir(ROOT)
        prepare()
        if arguments[:2] == ["-m", "datasets.convert"]:
            os.execv(sys.executable, [sys.executable, *arguments])
        module = arguments[1] if arguments[0] == "-m" else ""
        sys.argv = arguments[1:] if module else arguments
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(ROOT)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def build(folder: Path) -> list[Command]:
    """Writes the input of the commands, and returns these."""
    from datasets.source import Example
    from deeplab_tf import workdir
    from tests.datasets.converted import write_examples

    rng = np.random.default_rng(0)
    raw = folder / "raw"
    for name in ("raw/images", "raw/masks", "photos"):
        (folder / name).mkdir(parents=True)
    (raw / "classes.txt").write_text("a\nb\nc\n")
    for number in range(160):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(raw / "images" / f"{number:03d}.png")
        Image.fromarray(rng.integers(0, 3, (60, 80), np.uint8)).save(raw / "masks" / f"{number:03d}.png")
    examples = []
    for number in range(6):
        # Patches of colour: something that a network sees objects in.
        picture = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((97, 81), Image.Resampling.BICUBIC)
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        (folder / "photos" / f"{number}.png").write_bytes(encoded.getvalue())
        examples.append(Example(f"{number}", encoded.getvalue(), rng.integers(0, 7, (81, 97)).astype(np.uint8)))
    write_examples(examples, workdir.read_config(str(MODEL)).info, "val", folder / "data")
    model, data = f"--workdir={MODEL}", f"--data_dir={folder / 'data'}"
    return [
        Command(
            "convert",
            lambda out: ["-m", "datasets.convert", "--dataset=folder", f"--root={raw}", f"--out={out}", "--shards=8"],
            lambda out: _bytes_in(out, skipped=".converting"),
        ),
        Command(
            "train",
            lambda out: ["-m", "tests.tiny_training", str(out), "save_every=1", "scales=1,0.75,0.5", "pause=0.1"],
            lambda out: _arrays_in(out / "model.weights.h5"),
        ),
        Command("eval", lambda out: ["eval.py", model, data, f"--out={out}", "--crf"], _evaluation_in),
        Command(
            "export",
            lambda out: [
                "export.py",
                model,
                f"--out={out}",
                "--overwrite",
                "--size=65",
                "--formats=saved_model,tflite",
            ],
            _export_in,
        ),
        Command(
            "predict",
            lambda out: ["predict.py", f"--model={MODEL}", f"--images={folder / 'photos'}", f"--out={out}"],
            lambda out: _bytes_in(out, ".written_by_predict.jsonl"),  # with times
        ),
    ]


def _bytes_in(out: Path, skipped: str = "") -> dict[str, Any]:
    """Every file by its name, but those under names that say that they are not finished."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not any(p.startswith(".writing.") or p == skipped for p in path.relative_to(out).parts)
    }


def _arrays_in(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if path.exists():
        with h5py.File(path) as file:
            file.visititems(lambda name, x: found.update({name: x[()].tobytes()} if hasattr(x, "shape") else {}))
    return found


def _evaluation_in(out: Path) -> dict[str, Any]:
    found = _bytes_in(out)
    if "metrics.json" in found:
        found["metrics.json"] = _without_times(json.loads(found["metrics.json"]))
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if "second" not in key}
    return value


def _export_in(out: Path) -> dict[str, Any]:
    """All of a SavedModel but its graph, in which TensorFlow numbers functions anew: of that, that it is there."""
    found = _bytes_in(out)
    for name in found:
        if name.endswith((".pb", "fingerprint.pb", ".index")) or "assets.extra" in name:
            found[name] = len(found[name]) > 0
    return found
