"""Warning of figures that say nothing: images that are in the training too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deeplab_tf.errors import UserError

from ..stored.manifest import Manifest, load_manifest
from .overlap import shared_images


def warn_of_overlap(run: dict[str, Any], manifest: Manifest, split: str) -> str:
    """Compares a split with the one that a network was trained on.

    Args:
        run: "run" of the workdir's config.json, which names data_dir and split of the training; {} where there is
            none.
        manifest: of the data to evaluate.
        split: of that data.

    Returns:
        A sentence or two for the user: images that are shared, or why this could not be checked; "" where nothing is
        shared.
    """
    unknown = "Whether these images were trained on could not be checked: "
    data_dir, trained_split = run.get("data_dir"), run.get("split")
    if not data_dir or not trained_split:
        return unknown + "nothing says what the weights were trained on."
    try:
        training = load_manifest(Path(data_dir)).split(trained_split)
    except UserError:
        return unknown + f"{trained_split} of {data_dir}, the training data, cannot be read."
    evaluated = manifest.split(split)
    shared = shared_images(training, evaluated)
    images = shared.images()
    if not images:
        return ""
    contents = "not known" if shared.contents is None else len(shared.contents)
    return (
        f"{len(images)} of the {evaluated.count} images of {split} are also in {trained_split} of {data_dir}, which "
        f"the network was trained on (equal contents: {contents}; equal ids: {len(shared.ids)}), such as {images[0]}. "
        "The figures say little about new images."
    )
