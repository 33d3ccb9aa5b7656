"""The whole road in a few minutes: make data, train, evaluate, export, serve. Run it with `make demo`.

Everything goes to demo/, which is emptied first. VGG-16 LargeFOV starts from the HED trunk and learns the seven
classes of the generated data set; no download is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
# conv5 and the head start at random here, so Adam; crops and batch are small because a CPU is to do it.
SETTINGS = {
    "model.pool5a": False,  # an average over 3x3 cells costs more than it brings in pictures this small
    "train.iterations": 550,
    "train.batch_size": 2,
    "train.crop_size": 129,
    "train.dropout": 0,
    "train.frozen_layers": "conv1,conv2,conv3",
    "train.save_every": 275,
    "optimizer.name": "adam",
    "optimizer.policy": "poly",
    "optimizer.base_lr": 8e-5,
    "optimizer.warmup": 10,
    "optimizer.beta_2": 0.99,
    "optimizer.weight_decay": 0,
    "optimizer.classifier_lr_mult": 5,
    "optimizer.fresh_layers": "conv5,fc6,fc7",
    "optimizer.fresh_lr_mult": 5,
    "crf.sigma_alpha": 49,
}
PICTURES = 6


def run(title: str, *command: str, cwd: Path = ROOT) -> None:
    """Runs one command of the README, shown as it could be typed; stops the demo where it fails."""
    print(f"\n== {title}\n$ python {' '.join(command)}", flush=True)
    status = subprocess.run([sys.executable, *command], cwd=cwd, check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Runs the demo and prints a short table."""
    begin = time.monotonic()
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    run("1/5 generate a data set", "-m", "datasets.convert", "--dataset=synthetic", "--out=demo/data")
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    run(
        "2/5 train VGG-16 LargeFOV from the HED trunk",
        *("train.py", "--experiment=vgg16_large_fov", "--data_dir=demo/data", "--workdir=demo/workdir", "--init=hed"),
        *settings,
    )
    run(
        "3/5 evaluate",
        "eval.py",
        "--workdir=demo/workdir",
        "--data_dir=demo/data",
        "--out=demo/eval",
        "--overwrite",
        "--flip",
        "--crf",
    )
    shutil.copy(DEMO / "eval" / "metrics.json", DEMO / "metrics.json")
    shutil.copy(DEMO / "eval" / "panel.png", DEMO / "panel.png")
    run("4/5 export", "export.py", "--workdir=demo/workdir", "--out=demo", "--flip")
    # -I: no checkout on the path, so the SavedModel has to stand on its own. From a folder away from it too.
    write_pictures(DEMO / "pictures")
    run(
        "5/5 segment pictures with TensorFlow alone",
        *("-I", str(ROOT / "scripts" / "segment_with_tensorflow.py"), "saved_model/1", "pictures", "segmented"),
        cwd=DEMO,
    )
    metrics = json.loads((DEMO / "metrics.json").read_text())
    print(f"\n{'mean IoU, network':<24}{100 * metrics['miou']:6.1f} %")
    print(f"{'mean IoU, network + CRF':<24}{100 * metrics['crf']['miou']:6.1f} %")
    print(f"{'validation images':<24}{metrics['num_images']:6d}")
    print(f"{'time, all steps':<24}{time.monotonic() - begin:6.0f} s\n")
    for name, what in (
        ("panel.png", "image, truth, network, network + CRF"),
        ("metrics.json", "every figure"),
        ("workdir", "tensorboard --logdir=demo/workdir"),
        ("saved_model/1", "the exported model"),
        ("segmented", "what it answers without this package"),
    ):
        print(f"demo/{name:<15} {what}")


def write_pictures(out_dir: Path) -> None:
    """Writes some validation images as JPEG files, like a user's own."""
    sys.path.insert(0, str(ROOT))
    from datasets.source import Source
    from datasets.sources import synthetic

    out_dir.mkdir()
    for image_id in synthetic.ids(Source(), "val")[:PICTURES]:
        (out_dir / f"{image_id}.jpg").write_bytes(synthetic.example(Source(), "val", image_id).image)


if __name__ == "__main__":
    main()
