"""Whether this machine has a GPU for TensorFlow, without the seconds that importing TensorFlow takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def has_nvidia_gpu(root: str = "/") -> bool:
    """Says whether the NVIDIA driver knows a GPU that this process may use.

    Whether TensorFlow was installed with the libraries for it (requirements-gpu.txt) is another question.

    Args:
        root: of the file system.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if any(Path(root, "proc/driver/nvidia/gpus").glob("*")):
        return True
    # Linux inside Windows shows the driver of Windows.
    return Path(root, "dev/dxg").exists() and shutil.which("nvidia-smi") is not None
