"""One example of a split as it is stored, and what it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import zlib
from pathlib import Path

import numpy as np

from deeplab_tf import errors

from .. import DATASETS
from ..raw import files as raw_files
from ..source import Example, Source

# What the stored bytes depend on, beside this project's own code.
_PACKAGES = ("numpy", "pillow", "opencv-python-headless", "scipy", "pycocotools")


@dataclasses.dataclass(frozen=True)
class Loader:
    """Gives the examples of one split as they are stored; processes exchange it.

    Attributes:
        dataset: a name in `DATASETS`.
        source: where the raw files are.
        split: its name.
        new_labels: the new label of each old one, 256 of them; () for no change.
        downsample: see `raw_files.downsample`; 1 for the original size.
    """

    dataset: str
    source: Source
    split: str
    new_labels: tuple[int, ...]
    downsample: int

    def __call__(self, image_id: str) -> Example:
        """Reads and validates one image of the split."""
        example = DATASETS[self.dataset].example(self.source, self.split, image_id)
        if self.new_labels and example.labels is not None:
            example = example.with_labels(np.array(self.new_labels, np.uint8)[example.labels])
        return raw_files.downsample(example, self.downsample) if self.downsample > 1 else example

    def recipe(self) -> str:
        """Says all that an example depends on beside its id and the raw files."""
        source = dataclasses.replace(self.source, scratch="", split_names=())
        fields = dataclasses.asdict(dataclasses.replace(self, source=source))
        return json.dumps([fields, _code_version()], sort_keys=True)


def code_files() -> list[Path]:
    """Returns the files whose code decides what a shard holds: this package, and what decodes images for it."""
    model = Path(errors.__file__).parent
    decoding = [model / "errors.py", model / "dataset_info.py", *(model / "images").glob("*.py")]
    return sorted([*Path(__file__).parents[1].rglob("*.py"), *decoding])


def _code_version() -> str:
    """Names the code that reads raw files: a shard that other code wrote may differ."""
    code = hashlib.sha256()
    for path in code_files():
        code.update(path.read_bytes())
    versions = [f"zlib {zlib.ZLIB_RUNTIME_VERSION}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return f"{code.hexdigest()}, {', '.join(versions)}"
