"""What to do after a conversion: the training that fits the machine and the data."""

from __future__ import annotations

import os
import shlex
from typing import NamedTuple

from .stored.manifest import Manifest

LITE, RESNET = "efficientnet_lite0_aspp", "resnet101_aspp"
BATCH = {LITE: 8, RESNET: 10}
"""Images an update of each experiment."""
_FEW = 1000  # images; below, the small network also on a GPU
# Few images are seen more often, but a training of too few updates learns nothing, and one of weeks nobody wants.
_PASSES_LITE, _PASSES_OF_MANY_LITE, _PASSES_RESNET = 30, 10, 20
_LEAST_LITE, _MANY_LITE, _LEAST_RESNET = 600, 4000, 1000  # updates


class Proposal(NamedTuple):
    """A training.

    Attributes:
        experiment: its network and solver.
        iterations: updates.
        why: a sentence: why this network.
    """

    experiment: str
    iterations: int
    why: str


def propose(num_images: int, has_gpu: bool) -> Proposal:
    """Chooses network and length of a training.

    Args:
        num_images: to train on.
        has_gpu: whether the machine has one.
    """
    if has_gpu and num_images >= _FEW:
        iterations = _rounded(max(_LEAST_RESNET, _PASSES_RESNET * num_images / BATCH[RESNET]))
        return Proposal(
            RESNET, iterations, f"This machine has a GPU, and {num_images} images are enough for ResNet-101."
        )
    passes = min(_PASSES_LITE * num_images / BATCH[LITE], _MANY_LITE)
    iterations = _rounded(max(_LEAST_LITE, passes, _PASSES_OF_MANY_LITE * num_images / BATCH[LITE]))
    here = f"{num_images} images are few" if has_gpu else "This machine has no NVIDIA GPU"
    return Proposal(LITE, iterations, f"{here}: EfficientNet-Lite0 is small, and its weights are installed already.")


def next_steps(manifest: Manifest, out: str, has_gpu: bool) -> list[str]:
    """Returns the lines that end a conversion: how to look at the data, how to train, and why so.

    Args:
        manifest: of the data folder, with all its splits.
        out: the folder, as the user wrote it.
        has_gpu: whether the machine has a GPU.
    """
    folder = shlex.quote(out)
    lines = [f"look: python -m datasets.check --data_dir={folder}"]
    train = manifest.splits.get(manifest.info.train_split)
    if train is None or not train.has_labels:
        return [*lines, f"next: convert the split {manifest.info.train_split} too: {out} has nothing to train on yet."]
    chosen = propose(train.count, has_gpu)
    name = os.path.basename(os.path.abspath(out)) or "mine"
    validate = " --eval_split=val" if "val" in manifest.splits and manifest.splits["val"].has_labels else ""
    passes = chosen.iterations * BATCH[chosen.experiment] / train.count
    return [
        *lines,
        f"next: python train.py --experiment={chosen.experiment} --data_dir={folder}"
        f" --workdir={shlex.quote(f'runs/{name}')}{validate} --set=train.iterations={chosen.iterations}",
        f"      {chosen.why}",
        f"      {chosen.iterations} updates of {BATCH[chosen.experiment]} images are {passes:.0f} times through the"
        f" {train.count} images of {train.name}. With --dry_run the command says how long that takes here.",
        "      Other networks: python train.py --list_experiments",
    ]


def _rounded(iterations: float) -> int:
    """Rounds up to hundreds."""
    return -(-int(iterations) // 100) * 100
