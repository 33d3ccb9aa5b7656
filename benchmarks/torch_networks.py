"""The networks of `benchmarks.training` in plain PyTorch, and a process that times their training step.

The same layers, frozen batch normalisation, loss and solver, written as one writes them in PyTorch: nn.Conv2d with
dilation, channels_last, torch.optim.SGD, autocast. Needs torch, which this project does not require.

    python benchmarks/torch_networks.py NETWORK BATCH CROP PRECISION

prints `ready`, then answers each line of its standard input with the seconds of a step and the peak memory in bytes.
It takes the GPU where there is one, with TF32 as TensorFlow does.
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional
from torch_efficientnet import EfficientNetLite0ASPP

NUM_CLASSES = 21


class VGG16LargeFOV(nn.Module):
    """The released LargeFOV network: 3x3 pools, conv5 at rate 2, pool5a, fc6 3x3 at rate 12."""

    output_stride = 8

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block, (depth, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1):
            rate = 2 if block == 5 else 1
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=rate, dilation=rate), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(3, stride=2 if block < 4 else 1, padding=1))
        layers.append(nn.AvgPool2d(3, stride=1, padding=1))
        layers += [nn.Conv2d(512, 1024, 3, padding=12, dilation=12), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        layers += [nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        layers.append(nn.Conv2d(1024, NUM_CLASSES, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores at 1/8, [B, K, h, w]."""
        return self.layers(x)


class Bottleneck(nn.Module):
    """A residual block in Caffe's form: the stride is on the first 1x1 and on the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, rate: int, project: bool) -> None:
        super().__init__()

        def unit(channels: int, filters: int, size: int, stride: int = 1, rate: int = 1) -> nn.Sequential:
            padding = rate if size == 3 else 0
            return nn.Sequential(
                nn.Conv2d(channels, filters, size, stride, padding, rate, bias=False), nn.BatchNorm2d(filters)
            )

        self.reduce = unit(inputs, width, 1, stride)
        self.middle = unit(width, width, 3, rate=rate)
        self.increase = unit(width, 4 * width, 1)
        self.shortcut = unit(inputs, 4 * width, 1, stride) if project else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns a map of 4 * width channels."""
        y = functional.relu(self.reduce(x), inplace=True)
        y = functional.relu(self.middle(y), inplace=True)
        return functional.relu(self.increase(y) + self.shortcut(x), inplace=True)


class ResNet101ASPP(nn.Module):
    """ResNet-101 at output stride 8 with four atrous branches straight to the scores."""

    output_stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        blocks, inputs = [], 64
        for width, depth, stride, rate in ((64, 3, 1, 1), (128, 4, 2, 1), (256, 23, 1, 2), (512, 3, 1, 4)):
            for index in range(depth):
                blocks.append(Bottleneck(inputs, width, stride if index == 0 else 1, rate, index == 0))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.branches = nn.ModuleList(
            nn.Conv2d(2048, NUM_CLASSES, 3, padding=rate, dilation=rate) for rate in (6, 12, 18, 24)
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                nn.init.normal_(parameter, std=0.01)

    def train(self, mode: bool = True) -> ResNet101ASPP:
        """Keeps batch normalisation frozen, as the paper does."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores at 1/8, [B, K, h, w]."""
        x = self.pool1(functional.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.blocks(x)
        return sum(branch(x) for branch in self.branches)


NETWORKS = {
    "vgg16_large_fov": VGG16LargeFOV,
    "resnet101_aspp": ResNet101ASPP,
    "efficientnet_lite0_aspp": lambda: EfficientNetLite0ASPP(NUM_CLASSES),
}


def main() -> None:
    """Times steps on request."""
    name, batch, crop, precision = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as TensorFlow does
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    network = NETWORKS[name]().train().to(device, memory_format=torch.channels_last)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [p for p in trained if p.dim() == 4]
    biases = [p for p in trained if p.dim() == 1]
    groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": biases, "lr": 2e-6}]
    groups = [group for group in groups if group["params"]]
    if isinstance(network, EfficientNetLite0ASPP):
        solver: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=1e-6)
    else:
        solver = torch.optim.SGD(groups, lr=1e-6, momentum=0.9)
    images = (torch.rand(batch, 3, crop, crop) * 255 - 115).to(device, memory_format=torch.channels_last)
    stride = network.output_stride
    labels = torch.randint(0, NUM_CLASSES, (batch, crop, crop))[:, ::stride, ::stride].contiguous().to(device)

    def step() -> float:
        solver.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            scores = network(images)
        loss = functional.cross_entropy(scores.float(), labels, ignore_index=255)
        loss.backward()
        solver.step()
        return loss.item()

    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        step()
        seconds = time.perf_counter() - begin
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(seconds, torch.cuda.max_memory_reserved() if device == "cuda" else process, flush=True)


if __name__ == "__main__":
    main()
