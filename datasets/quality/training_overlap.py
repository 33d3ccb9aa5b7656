"""Warning of figures that say nothing: images that are in the training too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_tf.errors import UserError

from ..stored.manifest import Manifest, load_manifest
from .overlap import Overlap, shared_images, shared_with

Kept = tuple[Sequence[str], Sequence[str] | None]
"""Ids and hashes of images, as a workdir keeps them."""


def warn_of_overlap(run: dict[str, Any], manifest: Manifest, split: str, kept: tuple[Kept, Kept] | None = None) -> str:
    """Compares a split with what a network was trained on.

    Args:
        run: "run" of the workdir's config.json, which names data_dir and split of the training; {} where there is
            none.
        manifest: of the data to evaluate.
        split: of that data.
        kept: the images that the workdir says were trained on, of its newest data and of earlier data. Without them,
            the data folder of the training is read, which may have been written again since.

    Returns:
        A sentence or two for the user: images that are shared, or why this could not be checked; "" where nothing is
        shared.
    """
    data_dir, trained_split = run.get("data_dir"), run.get("split")
    evaluated = manifest.split(split)
    if kept:
        newest, earlier = (shared_with(*images, evaluated) for images in kept)
        parts = [newest]
        if kept[1][0]:
            # Ids of another data set may be equal by chance: there contents count, where they are known.
            parts.append(earlier if earlier.contents is None else earlier._replace(ids=()))
        where = "were trained on"
    else:
        unknown = "Whether these images were trained on could not be checked: "
        if not data_dir or not trained_split:
            return unknown + "nothing says what the weights were trained on."
        try:
            training = load_manifest(Path(data_dir)).split(trained_split)
        except UserError:
            return unknown + f"{trained_split} of {data_dir}, the training data, cannot be read."
        parts = [shared_images(training, evaluated)]
        where = f"are also in {trained_split} of {data_dir}, which the network was trained on"
    shared = _together(parts)
    images = shared.images()
    if not images:
        return ""
    contents = "not known" if shared.contents is None else len(shared.contents)
    return (
        f"{len(images)} of the {evaluated.count} images of {split} {where} (equal contents: {contents}; equal ids: "
        f"{len(shared.ids)}), such as {images[0]}. The figures say little about new images."
    )


def _together(parts: Sequence[Overlap]) -> Overlap:
    """Adds overlaps up."""
    ids = tuple(dict.fromkeys(image_id for part in parts for image_id in part.ids))
    if any(part.contents is None for part in parts):
        return Overlap(ids, None)
    return Overlap(ids, tuple(pair for part in parts for pair in part.contents or ()))
