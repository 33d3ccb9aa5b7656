"""EfficientNet-Lite0 with an ASPP head in plain PyTorch, for `benchmarks.torch_networks`."""

from __future__ import annotations

import torch
from torch import nn

FROZEN_BLOCKS = 3
STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def unit(
    inputs: int, outputs: int, size: int = 1, stride: int = 1, rate: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Returns a convolution with batch normalisation, and ReLU6 where asked."""
    padding = rate * (size // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, padding, rate, groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
    ]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if relu else nn.Sequential(*layers)


class Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, rate: int, expansion: int, shortcut: bool):
        super().__init__()
        width = inputs * expansion
        self.layers = nn.Sequential(
            *([unit(inputs, width)] if expansion > 1 else []),
            unit(width, width, size, stride, rate, groups=width),
            unit(width, outputs, relu=False),
        )
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class EfficientNetLite0ASPP(nn.Module):
    """The network at output stride 16; stem and first blocks frozen, as in the experiment."""

    output_stride = 16

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = unit(3, 32, 3, 2)
        blocks, channels, stride_so_far, rate = [], 32, 2, 1
        for count, size, stride, expansion, width in STAGES:
            for index in range(count):
                wanted = stride if index == 0 else 1
                kept = wanted if stride_so_far < self.output_stride else 1
                shortcut = wanted == 1 and channels == width
                blocks.append(Block(channels, width, size, kept, rate, expansion, shortcut))
                rate *= wanted // kept
                stride_so_far, channels = stride_so_far * kept, width
        self.blocks = nn.Sequential(*blocks)
        self.top = unit(channels, 1280)
        self.branches = nn.ModuleList(
            nn.Conv2d(1280, num_classes, 3, padding=rate, dilation=rate) for rate in (3, 6, 9, 12)
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        for frozen in (self.stem, *self.blocks[:FROZEN_BLOCKS]):
            frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite0ASPP:
        """Keeps batch normalisation frozen."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores, [B, K, h, w]."""
        x = self.top(self.blocks(self.stem(x)))
        return sum(branch(x) for branch in self.branches)
