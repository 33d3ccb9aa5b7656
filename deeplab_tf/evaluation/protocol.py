"""How a figure was made, in words: the protocol, where the weights come from, and what the paper did otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from deeplab_tf.config import Config
from deeplab_tf.experiments import EXPERIMENTS

# Data sets of the paper's tables.
_PAPER_DATA = ("voc12", "pascal_context", "person_part", "cityscapes")


def describe_protocol(config: Config, *, crf: bool, crf_backend: str, absent_as_zero: bool) -> dict[str, str]:
    """Says how the images were segmented and scored, one line each."""
    asked, scales = config.inference, config.model.scales
    if asked.align_corners:
        padding = "bottom and right with the mean to the next size that the network takes without rounding"
        padding += f", at least {asked.pad_to} pixels" if asked.pad_to else ""
    else:
        padding = f"to at least {asked.pad_to} pixels" if asked.pad_to else "none"
    constants = f"{config.crf}, backend {crf_backend}"
    if crf_backend != "pydensecrf":
        constants += ", without the labels that cannot be the likeliest of any pixel"
    return {
        "Scales": ", ".join(f"{scale:g}" for scale in scales) + (", fused by maximum" if len(scales) > 1 else ""),
        "Mirrored image": "averaged in" if asked.flip else "not used",
        "Tiles": f"{asked.tile} pixels, sharing {asked.tile_overlap} or more" if asked.tile else "none, whole images",
        "Padding": padding,
        "Resizing": "corners aligned" if asked.align_corners else "corners not aligned",
        "Dense CRF": constants if crf else "not used",
        **describe_scoring(absent_as_zero),
    }


def describe_scoring(absent_as_zero: bool) -> dict[str, str]:
    """Says how labels were scored, wherever they come from, one line each."""
    return {
        "Classes in neither labels nor answers": "count as 0" if absent_as_zero else "left out of the mean",
        "Scored": "all pixels of the split in one confusion matrix, at the images' own sizes",
    }


def describe_training(config: Config, run: dict[str, Any], weights: str) -> dict[str, str]:
    """Says what the weights are.

    Args:
        config: of the network.
        run: "run" of the workdir's config.json, or {}.
        weights: the file given instead of a workdir, or "".
    """
    if weights:
        return {"Weights": f"{weights}, not trained here"}
    settings, solver = config.train, config.optimizer
    images = settings.batch_size * settings.iter_size
    return {
        "Initial weights": str(run.get("init", "not known")),
        "Trained on": f"{run.get('split', '?')} of {run.get('data_dir', '?')}",
        "Updates": f"{settings.iterations} of {images} images, crops of {settings.crop_size} pixels",
        "Solver": f"{solver.name}, {solver.policy}, learning rate {solver.base_lr:g}, {settings.precision}",
        "Trained": f"{run.get('date', 'at an unknown time')}, revision {run.get('git_revision') or 'not known'}",
    }


def differences_from_the_paper(
    config: Config, *, run: dict[str, Any], weights: str, crf: bool, absent_as_zero: bool, score_classes: list[str]
) -> list[str]:
    """Lists what was done otherwise than in the paper and its released code, as far as the settings tell."""
    found = []
    init = str(run.get("init", ""))
    if config.info.name not in _PAPER_DATA:
        found.append(f"The data set, {config.info.name}, is not one of the paper's.")
    if not weights:
        if init != "imagenet":
            found.append(
                f"The training started from {init or 'weights that are not known'}; the paper's from ImageNet."
            )
        if config.model.backbone == "resnet101":
            found.append("The paper pretrained its best ResNet-101 on MS-COCO.")
    published = EXPERIMENTS.get(config.experiment)
    if published is None or config.model.backbone not in ("vgg16", "resnet101"):
        found.append(f"The network, {config.experiment}, is not in the paper.")
    sections = ["model"] + (["train", "optimizer"] if not weights else []) + (["crf"] if crf else [])
    for section in sections if published is not None else ():
        before, now = (dataclasses.asdict(getattr(c, section)) for c in (published, config))
        found += [
            f"{section}.{name} is {_shown(now[name])} instead of {_shown(before[name])}."
            for name in before
            if now[name] != before[name] and name not in _NO_DIFFERENCE
        ]
    asked = config.inference
    if asked.flip:
        found.append("Answers are averaged with those for the mirrored image; the paper's are not.")
    if asked.tile:
        found.append("Images are cut into tiles, see the protocol.")
    if asked.align_corners and asked.pad_to != 513:
        found.append("Images are padded to the next size without rounding; the released code pads them to 513 x 513.")
    if not asked.align_corners:
        found.append("Corners are not aligned and images not padded, as in the PyTorch re-implementation.")
    if crf:
        found.append(
            "The CRF's kernels are normalised symmetrically, the released code normalises after filtering; its "
            "constants were searched by the authors on 100 validation images."
        )
        found.append(
            "With the backend tf, the CRF leaves out labels that cannot be the likeliest of any pixel; the paper's "
            "keeps all."
        )
    if not absent_as_zero:
        found.append("Classes without pixels in labels and answers are left out; the released VOC script counts 0.")
    if score_classes:
        found.append(f"Only {', '.join(score_classes)} are averaged.")
    return found


# How often files are written and the like: no difference in the result.
_NO_DIFFERENCE = frozenset(
    "epochs seed save_every keep_checkpoints eval_every summary_every deterministic xla atrous".split()
)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
