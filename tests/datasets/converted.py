"""Examples written as a conversion would write them, without raw files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from datasets.source import Example
from datasets.stored import conversion
from datasets.stored.manifest import SplitManifest
from deeplab_tf.dataset_info import DatasetInfo


def write_examples(
    examples: Iterable[Example], info: DatasetInfo, split: str, folder: Path, num_shards: int = 1
) -> SplitManifest:
    by_id = {example.image_id: example for example in examples}
    plan = conversion.SplitPlan(split, tuple(by_id), num_shards, by_id.__getitem__, recipe="")
    with conversion.open_folder(folder) as staging:
        return conversion.write_splits([plan], info, staging, num_workers=1)[0]
