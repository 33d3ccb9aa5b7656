import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.stored import tfrecord
from deeplab_tf import workdir as workdirs
from deeplab_tf.errors import UserError
from deeplab_tf.experiments import EXPERIMENTS
from deeplab_tf.networks.deeplab import build_network
from scripts import model_card

ROOT = Path(__file__).resolve().parent.parent

CARD = {
    "split": "val",
    "num_images": 7,
    "settings": {
        name: {"miou": 0.5, "pixel_accuracy": 0.9, "per_class_iou": {"background": 0.75, "cat": None}}
        for name in model_card.SETTINGS
    },
    "sizes": {
        name: {
            "small": {"objects": 3, "found": 0.25},
            "medium": {"objects": 0, "found": None},
            "large": {"objects": 1, "found": 1.0},
        }
        for name in model_card.SETTINGS
    },
    "confusions": [{"truth": "cat", "predicted": "background", "share": 0.125}],
    "worst": [{"image": "a", "miou": 0.1, "with_crf": 0.2}],
    "speed": {
        "network": 0.1,
        "network, --flip": 0.2,
        "CRF": 0.5,
        "images": 20,
        "date": "2026-11-30",
        "machine": "2 cores",
    },
    "megabytes": 8.04,
}


def test_the_card_tells_the_figures():
    text = model_card.render(CARD, "python -m x")
    lines = text.splitlines()
    assert lines[0].startswith(model_card.BEGIN) and lines[-1].startswith(model_card.END)
    assert "| IoU, % | background | cat | mean |" in lines
    assert "| --crf --flip | 75.00 |  | 50.00 |" in lines
    assert "| network | 25.00 |  | 100.00 |" in lines
    assert "12.50 % of cat is taken for background" in text and "8.0 MB" in text
    assert "0.10 s an image" in text and "2 cores, 2026-11-30; medians of 20 images" in " ".join(text.split())


def test_figures_replace_the_ones_before_and_nothing_else():
    text = "# name\n\n<!-- figures: x -->\nold\n<!-- end of figures -->\n\nlicence\n"
    once = model_card.insert(text, model_card.render(CARD, "x"), "README.md")
    assert once.startswith("# name\n\n<!-- figures") and once.endswith("-->\n\nlicence\n") and "old" not in once
    assert model_card.insert(once, model_card.render(CARD, "x"), "README.md") == once
    with pytest.raises(UserError, match=r"README\.md: expected one line"):
        model_card.insert("# name\n", "", "README.md")


def test_confusions_are_shares_of_the_truth_the_largest_first():
    matrix = np.array([[90, 10, 0], [1, 1, 2], [0, 0, 0]])
    found = model_card.confusions(matrix, ("a", "b", "c"))
    assert [(entry["truth"], entry["predicted"], entry["share"]) for entry in found] == [
        ("b", "c", 0.5),
        ("b", "a", 0.25),
        ("a", "b", 0.1),
    ]


def test_a_network_is_measured_with_and_without_crf_and_mirror_and_its_card_written(tmp_path):
    def command(*arguments):
        return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)

    data, folder = tmp_path / "data", tmp_path / "toy"
    (tmp_path / "ids.txt").write_text("val_0000\nval_0001\n")
    converted = command(
        "datasets.convert", "--dataset=synthetic", f"--out={data}", "--splits=val", f"--ids={tmp_path / 'ids.txt'}"
    )
    assert converted.returncode == 0, converted.stderr
    info = tfrecord.read_manifest(str(data)).info
    config = dataclasses.replace(EXPERIMENTS["efficientnet_lite0_aspp"], dataset=info)
    folder.mkdir()
    workdirs.write_config(str(folder), config, {"init": "none"})
    workdirs.save_weights(build_network(config.model, info.num_classes), str(folder))

    flags = ("scripts.model_card", f"--model={folder}", f"--data_dir={data}")
    refused = command(*flags)
    assert refused.returncode == 2 and "cannot read the card" in refused.stderr
    (folder / "README.md").write_text("# toy\n\n<!-- figures -->\n<!-- end of figures -->\n")
    done = command(*flags)
    assert done.returncode == 0, done.stderr
    card = json.loads((folder / "card.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert card["settings"]["network"]["miou"] == metrics["miou"]
    assert card["settings"]["--crf"]["miou"] == metrics["crf"]["miou"]
    mious = {name: entry["miou"] for name, entry in card["settings"].items()}
    assert tuple(mious) == model_card.SETTINGS and len(set(mious.values())) == 4
    assert sum(entry["objects"] for entry in card["sizes"]["--crf"].values()) > 0
    assert card["speed"]["images"] == 2 and all(card["speed"][name] > 0 for name in ("network", "CRF"))
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# toy\n") and model_card.render(card, "").splitlines()[5] in readme
