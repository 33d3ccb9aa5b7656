"""Answers images with the networks of `torch_networks.py`, for benchmarks/inference.py: NETWORK MODE SIDE.

As one would write it: eval(), channels_last, inference_mode. Weights at random.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional
from torch_networks import NETWORKS

MEAN_BGR = (104.008, 116.669, 122.675)


class Segmenter(nn.Module):
    """From uint8 [1, 3, H, W], RGB, to labels and their probabilities."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1))
        self.network = NETWORKS[network]()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns labels uint8 and probabilities float32, [1, H, W]."""
        x = images.float().flip(1) - self.mean
        scores = self.network(x.contiguous(memory_format=torch.channels_last))
        scores = functional.interpolate(scores.float(), images.shape[2:], mode="bilinear", align_corners=True)
        confidence, labels = scores.softmax(1).max(1)
        return labels.to(torch.uint8), confidence


def main(network: str, mode: str, side: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as TensorFlow does
    begin = time.perf_counter()
    model = Segmenter(network).eval().to(memory_format=torch.channels_last)
    segment = torch.compile(model) if "compile" in mode else model
    loaded = time.perf_counter()
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    reduced = torch.autocast("cpu", torch.bfloat16) if "bfloat16" in mode else contextlib.nullcontext()
    with torch.inference_mode(), reduced:
        segment(image)
        print(json.dumps({"load": loaded - begin, "first": time.perf_counter() - loaded}), flush=True)
        for _ in sys.stdin:
            segment(image)  # its weights are in the caches again, as when it answers alone
            begin, cpu = time.perf_counter(), time.process_time()
            segment(image)
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
