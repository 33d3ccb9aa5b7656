"""The Python of README.md, docs/crf.md and docs/performance.md runs as printed, except for what needs a download."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CRF = ROOT / "docs" / "crf.md"
# A training of minutes, which tests/deeplab_tf/training covers, and a file that has to be downloaded.
LEFT_OUT = ("dl.train(", ".caffemodel")


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run(text, names):
    lines = [line for line in text.splitlines() if not any(word in line for word in LEFT_OUT)]
    exec(compile("\n".join(lines), "documentation", "exec"), names)
    return names


@pytest.mark.slow
def test_the_documented_training_through_the_crf_has_the_documented_figures(capsys):
    names = run(next(block for block in blocks(CRF) if "import refine" in block), {})
    prose = " ".join(CRF.read_text(encoding="utf-8").split())
    said = re.search(
        r"falls from ([\d.]+) to ([\d.]+), and the weights grow from 1 to ([\d.]+) \(w1\) and ([\d.]+) \(w2\)", prose
    )
    found = [names["losses"][0], names["losses"][-1], float(names["w1"]), float(names["w2"])]
    np.testing.assert_allclose(found, [float(number) for number in said.groups()], atol=0.02)
    assert "loss" in capsys.readouterr().out


@pytest.mark.slow
def test_the_other_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    with Image.open(ROOT / "docs" / "images" / "save.jpg") as picture:
        picture.convert("RGB").resize((160, 90)).save("cat.jpg")
    names = {}
    for block in blocks("README.md"):
        run(block, names)
    assert names["refined"].shape == names["probabilities"].shape and (tmp_path / "cat.png").exists()
    names["image"], names["labels"] = names["result"].image, names["result"].labels
    for block in blocks(CRF)[:2]:
        run(block, names)
    assert names["probabilities"].shape == (90, 160, 21)
    [restrided] = [block for block in blocks("docs/performance.md") if "restride" in block]
    dense = run(restrided.replace("runs/mine", "models/voc_animals"), names)["dense"]
    assert dense(np.zeros((1, 65, 65, 3), np.uint8)).shape[1:3] == (9, 9)
