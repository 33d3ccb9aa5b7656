"""The tests compute on CPUs, where their tolerances hold and several processes can share the machine.

On a GPU instead: `CUDA_VISIBLE_DEVICES=0 NVIDIA_TF32_OVERRIDE=0 TF_FORCE_GPU_ALLOW_GROWTH=true make test`.
"""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
