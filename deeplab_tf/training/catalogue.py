"""The experiments as a table: what each network is, which weights it starts from, and for whom it is."""

from __future__ import annotations

from deeplab_tf.config import Config, ModelConfig
from deeplab_tf.experiments import EXPERIMENTS

# Parameters of each backbone, and the channels of its output.
_BACKBONES = {
    "vgg16": (14_714_688, 512),
    "resnet50": (23_561_152, 2048),
    "resnet101": (42_605_504, 2048),
    "efficientnet_lite0": (3_413_024, 1280),
    "efficientnet_lite1": (4_189_344, 1280),
    "efficientnet_lite2": (4_869_168, 1280),
}
_INSTALLED = "installed"
_WEIGHTS = {
    "vgg16": "download, 550 MB",
    "resnet50": "download, 94 MB",
    "resnet101": "download, 171 MB",
    "efficientnet_lite0": _INSTALLED,
    "efficientnet_lite1": "requirements-lite.txt",
    "efficientnet_lite2": "requirements-lite.txt",
}
_FOR = {
    "efficientnet_lite0_aspp": "no GPU, own images: start here",
    "efficientnet_lite1_aspp": "no GPU, a little slower than Lite0",
    "efficientnet_lite2_aspp": "no GPU, 1.4 x Lite0's time, better",
    "resnet101_aspp": "a GPU and a thousand images or more",
    "resnet101_aspp_msc": "the paper's best: a GPU and more time",
    "vgg16_large_fov": "the paper's VGG; --init=hed needs no download",
    "vgg16_aspp_l": "the paper, Table 3",
    "vgg16_aspp_s": "the paper, Table 3",
}
_CLASSES = 21


def table() -> str:
    """Returns the table, a line for each experiment, those to start with first."""
    header = ("experiment", "backbone", "rates", "scales", "parameters", "updates", "ImageNet weights", "for")
    names = sorted(EXPERIMENTS, key=lambda name: not name.startswith("efficientnet"))
    rows = [header, *(_row(name, EXPERIMENTS[name]) for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(
        [
            *lines,
            "",
            f"rates: of the atrous branches. parameters: with {_CLASSES} classes. updates: train.iterations x images"
            " an update.",
            "ImageNet weights: where --init=imagenet, the default, takes them from. docs/training.md has the other"
            " ways to start.",
        ]
    )


def parameters(model: ModelConfig, num_classes: int) -> int:
    """Counts the parameters of a network without building it.

    Args:
        model: the network, with a backbone of this project.
        num_classes: K.
    """
    backbone, channels = _BACKBONES[model.backbone]
    area, hidden = model.kernel_size**2, model.hidden_units
    if hidden:
        branch = area * channels * hidden + hidden + hidden**2 + hidden + hidden * num_classes + num_classes
    else:
        branch = area * channels * num_classes + num_classes
    return backbone + len(model.rates) * branch


def _row(name: str, config: Config) -> tuple[str, ...]:
    model, train = config.model, config.train
    purpose = _FOR.get(name) or ("to compare with the paper" if model.backbone != "resnet50" else "a smaller ResNet")
    return (
        name,
        model.backbone,
        ",".join(map(str, model.rates)),
        ",".join(f"{scale:g}" for scale in model.scales),
        f"{parameters(model, _CLASSES) / 1e6:.1f}M",
        f"{train.iterations} x {train.batch_size * train.iter_size}",
        _WEIGHTS[model.backbone],
        purpose,
    )
