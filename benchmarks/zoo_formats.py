"""Exports every network of the zoo in every format, for any size and for one, and runs each file, in one table.

    python -m benchmarks.zoo_formats PICTURES [NETWORK ...]

PICTURES is a folder of photographs; NETWORKs are experiments, made up by benchmarks/made_up_networks.py, or workdirs;
all experiments by default. Files are written as export.py writes them, so each is compared with the network before it
has its name; then it is loaded as predict.py loads it, and its labels on two photographs are compared with those of
eval.py. The table has the megabytes, the share of equal labels, and the CPU milliseconds of all threads for a
photograph, the least of some calls: other programs change them less than the wall time. A network that does not bear a
format is named with the share of wrong labels. Needs requirements-export.txt.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.made_up_networks import made_up_network
from deeplab_tf import workdir
from deeplab_tf.config import Config
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.export import FORMATS
from deeplab_tf.export.description import Size
from deeplab_tf.export.kind import Job, Kind
from deeplab_tf.export.load import load_exported
from deeplab_tf.images.files import pixels_of
from deeplab_tf.images.fit import fit_image
from deeplab_tf.inference.probabilities import fold_inference
from deeplab_tf.networks.deeplab import DeepLab

SIZES: tuple[Size, ...] = ((None, None), (161, 161))
_LONGEST = 241
_CALIBRATED_ON, _CALLS = 6, 3


class Row(NamedTuple):
    """A file that was written, loaded and run.

    Attributes:
        format_name: of `FORMATS`.
        megabytes: of the file, or of all files of a folder.
        agreement: share of the pixels with the network's label, 0..1.
        cpu_ms: of all threads, for one photograph.
        refused: why it was not written, or nothing.
    """

    format_name: str
    megabytes: float = 0.0
    agreement: float = 0.0
    cpu_ms: float = 0.0
    refused: str = ""


def rows(
    model: DeepLab, config: Config, photographs: Sequence[np.ndarray], size: Size, format_names: Sequence[str]
) -> Iterator[Row]:
    """Exports a network and runs each file.

    Args:
        model: the network, float32.
        config: its configuration.
        photographs: uint8 [H, W, 3], the first two to compare on.
        size: height and width, or None for any; TensorFlow Lite's formats are left out then.
        format_names: of `FORMATS`.
    """
    height, width = size
    if height is None or width is None:
        pictures = [picture[:_LONGEST, :_LONGEST] for picture in photographs]
        pictures[1] = np.ascontiguousarray(pictures[1][: 3 * _LONGEST // 4])
    else:
        pictures = [fit_image(picture, (height, width), model.mean_rgb)[0] for picture in photographs]
    reference = fold_inference(model, config.inference, size)
    wanted = [reference.answer(picture[np.newaxis])[0].numpy().argmax(-1) for picture in pictures[:2]]
    for module in dict.fromkeys(FORMATS[name] for name in format_names):
        if module == "tflite" and None in size:
            continue
        kind = importlib.import_module(f"deeplab_tf.export.{module}").KIND
        names = [name for name in format_names if FORMATS[name] == module]
        with tempfile.TemporaryDirectory() as out:
            refused = _write_all(kind, Job(model, config, out, size, pictures), names)
            for name in names:
                if name in refused:
                    yield Row(name, refused=refused[name])
                    continue
                path = kind.path_of(out, config, name)
                labels_of = load_exported(path).labels_of
                found = [labels_of(picture) for picture in pictures[:2]]
                agreement = float(np.mean([np.mean(a == b) for a, b in zip(found, wanted, strict=True)]))
                cpu = []
                for _ in range(_CALLS):
                    begin = time.process_time()
                    labels_of(pictures[0])
                    cpu.append(1e3 * (time.process_time() - begin))
                yield Row(name, _num_bytes(path) / 1e6, agreement, min(cpu))


def _write_all(kind: Kind, job: Job, names: Sequence[str]) -> dict[str, str]:
    """Writes all formats of a kind; returns those that were refused, and why."""
    try:
        list(kind.write(job, names))
        return {}
    except UserError as error:
        first = str(error)
    if len(names) == 1:
        return {names[0]: first}
    refused = {}
    for name in names:  # one by one: the refusal of one ended the others
        if not os.path.exists(kind.path_of(job.out_dir, job.config, name)):
            refused |= _write_all(kind, job, [name])
    return refused


def _num_bytes(path: str) -> int:
    files = list(Path(path).rglob("*")) if os.path.isdir(path) else [Path(path), Path(path).with_suffix(".bin")]
    return sum(file.stat().st_size for file in files if file.is_file())


def read_photographs(folder: str) -> list[np.ndarray]:
    """Returns the first photographs of a folder, uint8 [H, W, 3]."""
    return [pixels_of(str(path)) for path in sorted(Path(folder).glob("*.jpg"))[:_CALIBRATED_ON]]


def main(folder: str, networks: list[str]) -> None:
    """Prints the table."""
    photographs = read_photographs(folder)
    print(f"{'network':26}{'size':>6} {'format':16}{'MB':>8}{'same %':>10}{'CPU ms':>9}", flush=True)
    for name in networks or list(EXPERIMENTS):
        made_up = name in EXPERIMENTS
        model, config = made_up_network(name, photographs) if made_up else workdir.load(name, workdir.read_config(name))
        for size in SIZES:
            for row in rows(model, config, photographs, size, list(FORMATS)):
                begin = f"{name:26}{size[0] or 'any':>6} {row.format_name:16}"
                wrong = re.search(r"\S+ % of the pixels", row.refused)
                said = f"refused: {wrong[0] if wrong else row.refused}"
                told = f"{row.megabytes:8.1f}{100 * row.agreement:10.3f}{row.cpu_ms:9.0f}"
                print(begin + (said if row.refused else told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
