"""Weights and images drawn by name, so that logits of other people's networks need no weights beside them.

`tests/data/oracles.npz` holds some of the logits that public PyTorch implementations gave for them.
"""

from __future__ import annotations

import zlib

import numpy as np

SEED = "dev-"
VGG_CHANNELS = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}
RESNET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def parameter(name, shape):
    """The value of a parameter, in PyTorch's layout."""
    rng = np.random.default_rng(zlib.crc32((SEED + name).encode()))
    leaf = name.rsplit(".", 1)[1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "weight" and len(shape) == 4:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if leaf == "weight":  # gamma
        return rng.uniform(0.3, 0.7, shape).astype(np.float32)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)  # biases, beta and mean


def image(height, width, count):
    """float32 [count, height, width, 3], RGB 0..255."""
    rng = np.random.default_rng(zlib.crc32(f"{SEED}image{height}x{width}x{count}".encode()))
    return rng.uniform(0, 255, (count, height, width, 3)).astype(np.float32)


def vgg16_parameters(branches, num_classes=21):
    """Caffe's names and PyTorch's shapes of VGG-16 with fc6-fc7-fc8 branches (1: LargeFOV)."""
    parameters, channels = [], 3
    for block, (depth, filters) in VGG_CHANNELS.items():
        for index in range(1, depth + 1):
            parameters.append((f"conv{block}_{index}", (filters, channels, 3, 3)))
            channels = filters
    for suffix in [""] if branches == 1 else [f"_{i}" for i in range(1, branches + 1)]:
        parameters.append((f"fc6{suffix}", (1024, 512, 3, 3)))
        parameters.append((f"fc7{suffix}", (1024, 1024, 1, 1)))
        parameters.append((f"fc8_voc12{suffix}", (num_classes, 1024, 1, 1)))
    return [entry for name, shape in parameters for entry in ((f"{name}.weight", shape), (f"{name}.bias", shape[:1]))]


def resnet_parameters(depth, num_classes=21):
    """deeplab-pytorch's names and shapes of ResNet with the four branches of ASPP."""
    parameters = []

    def unit(name, filters, channels, kernel_size):
        parameters.append((f"{name}.conv.weight", (filters, channels, kernel_size, kernel_size)))
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            parameters.append((f"{name}.bn.{leaf}", (filters,)))
        parameters.append((f"{name}.bn.num_batches_tracked", ()))

    unit("base.layer1.conv1", 64, 3, 7)
    channels = 64
    for stage, blocks in enumerate(RESNET_BLOCKS[depth]):
        width = 64 * 2**stage
        for block in range(1, blocks + 1):
            name = f"base.layer{stage + 2}.block{block}"
            unit(f"{name}.reduce", width, channels, 1)
            unit(f"{name}.conv3x3", width, width, 3)
            unit(f"{name}.increase", 4 * width, width, 1)
            if block == 1:
                unit(f"{name}.shortcut", 4 * width, channels, 1)
            channels = 4 * width
    for branch in range(4):
        parameters.append((f"base.aspp.c{branch}.weight", (num_classes, channels, 3, 3)))
        parameters.append((f"base.aspp.c{branch}.bias", (num_classes,)))
    return parameters
